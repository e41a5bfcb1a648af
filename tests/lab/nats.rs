//! A real `nats-server`, Debian 13's: that of Debian 12 is too old for the buckets of a current client. And lines between sites: what goes over
//! them is as far away and as slow as the case says.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::io::copy_bidirectional;

use crate::byte_server::Servers;
use crate::ctx::Ctx;
use crate::distance::away;
use crate::host::Host;
use crate::network::{NetNs, Network};
use crate::process::{Process, sh};
use crate::real_nix::Generation;

/// Where the server listens.
const PORT: u16 = 4222;
/// Until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A server "on the Internet".
pub(crate) struct Nats {
    net: NetNs,
    address: String,
    log: PathBuf,
    store: PathBuf,
    process: Option<Process>,
}

impl Nats {
    /// Starts one with JetStream.
    pub(crate) fn start(ctx: &Ctx, network: &Network<'_>) -> Result<Self> {
        let store = ctx.tmp.join("nats");
        std::fs::create_dir_all(&store)?;
        let mut nats = Self {
            net: network.outside.clone(),
            address: network.outside_address(),
            log: ctx.logs.join("nats.log"),
            store,
            process: None,
        };
        nats.again()?;
        Ok(nats)
    }

    /// Why it cannot be had, if so.
    pub(crate) fn lacking() -> Option<String> {
        let root = Generation::Trixie.root()?;
        (!root.join("usr/sbin/nats-server").exists())
            .then(|| "no nats-server in the root tree of trixie: run scripts/setup".to_owned())
    }

    /// Starts it after it was stopped, with what it has stored.
    pub(crate) fn again(&mut self) -> Result<()> {
        let root = Generation::Trixie.root().context("no root tree of trixie")?;
        let script = format!(
            "mount --bind '{store}' '{root}/tmp'
             exec chroot '{root}' /usr/sbin/nats-server -a {address} -p {PORT} -js -sd /tmp",
            store = self.store.display(),
            root = root.display(),
            address = self.address
        );
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net={}", self.net.file().display())).args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
        ]);
        self.process = Some(Process::start(command, &self.log)?);
        let probe = format!("{}:{PORT}", self.address);
        crate::wait::until_true("nats-server to answer", START_LIMIT, || {
            self.net.enter(|| Ok(std::net::TcpStream::connect(&probe).is_ok()))
        })?;
        Ok(())
    }

    /// Stops it without a word; `forget`: what it has stored is lost as well.
    pub(crate) fn kill(&mut self, forget: bool) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill9()?;
        }
        if forget {
            std::fs::remove_dir_all(&self.store)?;
            std::fs::create_dir_all(&self.store)?;
        }
        Ok(())
    }

    /// Where it is reached without any delay.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.address)
    }
}

/// Lines between sites, each from a port of the Internet to somewhere.
pub(crate) struct Lines<'a> {
    network: &'a Network<'a>,
    round_trip: Duration,
    servers: Servers,
}

impl<'a> Lines<'a> {
    /// None yet; what goes over them takes so long there and back.
    pub(crate) fn new(network: &'a Network<'a>, round_trip: Duration) -> Result<Self> {
        Ok(Self { network, round_trip, servers: Servers::new()? })
    }

    /// A line to `target`, and where it begins.
    pub(crate) fn to(&self, port: u16, target: &str) -> Result<String> {
        let address = format!("{}:{port}", self.network.outside_address());
        let listener = self.network.outside.enter(|| TcpListener::bind(&address).context("binding a line"))?;
        let (net, target, round_trip) = (self.network.outside.clone(), Arc::<str>::from(target), self.round_trip);
        self.servers.accept(listener, move |stream| {
            let (net, target) = (net.clone(), Arc::clone(&target));
            async move {
                // A socket belongs to the network in which it was made.
                let connect =
                    tokio::task::spawn_blocking(move || net.enter(|| Ok(std::net::TcpStream::connect(&*target)?)));
                let far = connect.await??;
                far.set_nonblocking(true)?;
                let mut far = tokio::net::TcpStream::from_std(far)?;
                copy_bidirectional(&mut away(stream, round_trip), &mut far).await?;
                Ok(())
            }
        })?;
        Ok(address)
    }
}

/// Lets nothing pass between a host and what is not its own site, either way, or everything again.
pub(crate) fn cut_off(network: &Network<'_>, hosts: &[&Host], cut: bool) -> Result<()> {
    let net = &network.outside.0;
    if !cut {
        return sh(&format!("nsenter --net=/run/netns/{net} nft delete table inet sites")).map(drop);
    }
    let addresses: Vec<String> = hosts.iter().map(|host| host.address()).collect();
    sh(&format!(
        "nsenter --net=/run/netns/{net} nft -f - <<'END'
table inet sites {{
  chain in {{ type filter hook input priority 0; ip saddr {{ {0} }} drop; }}
  chain out {{ type filter hook output priority 0; ip daddr {{ {0} }} drop; }}
}}
END",
        addresses.join(", ")
    ))
    .map(drop)
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            // It may have ended.
            let _ = process.signal(Signal::SIGKILL);
        }
    }
}

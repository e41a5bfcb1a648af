//! A real `nats-server`, Debian 13's: that of Debian 12 is too old for the buckets of a current client. And lines between sites: what goes over
//! them is as far away and as slow as the case says.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use data_encoding::BASE64URL_NOPAD;
use nix::sys::signal::Signal;
use nkeys::KeyPair;
use serde_json::{Value, json};
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
/// Where its folder is inside the root tree.
const INSIDE: &str = "/tmp";
/// Until it answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A server "on the Internet".
pub(crate) struct Nats {
    net: NetNs,
    address: String,
    log: PathBuf,
    /// What it stores, its configuration and its certificate.
    dir: PathBuf,
    process: Option<Process>,
}

impl Nats {
    /// Starts one with JetStream, for those whom `guests` let in.
    pub(crate) fn start(ctx: &Ctx, network: &Network<'_>, guests: &Guests) -> Result<Self> {
        let (dir, address) = (ctx.tmp.join("nats"), network.outside_address());
        std::fs::create_dir_all(&dir)?;
        if guests.over_tls() {
            crate::tls::certificate(&dir, &address)?;
        }
        let config = format!(
            "listen: '{address}:{PORT}'\njetstream {{ store_dir: '{INSIDE}/store' }}\n{}",
            guests.configuration()?
        );
        std::fs::write(dir.join("nats.conf"), config)?;
        let log = ctx.logs.join("nats.log");
        let mut nats = Self { net: network.outside.clone(), address, log, dir, process: None };
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
            "mount --bind '{dir}' '{root}{INSIDE}'
             exec chroot '{root}' /usr/sbin/nats-server -c {INSIDE}/nats.conf",
            dir = self.dir.display(),
            root = root.display(),
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
            std::fs::remove_dir_all(self.dir.join("store"))?;
        }
        Ok(())
    }

    /// The certificate that those have to trust who come over TLS.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir.join("certificates.pem")
    }

    /// Where it is reached without any delay.
    pub(crate) fn address(&self) -> String {
        format!("{}:{PORT}", self.address)
    }
}

/// Who may use a server.
pub(crate) enum Guests {
    /// Anybody, without TLS.
    Anyone,
    /// Users of these sites by the keys that the server's configuration lists, over TLS.
    Nkeys(Vec<User>),
    /// The same by credentials files, which an operator vouches for.
    Files(Vec<User>, Box<Operator>),
}

/// A user of a server, for the machines of a site.
pub(crate) struct User {
    key: KeyPair,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl User {
    /// One that may do what docs/sites.md says that the machines of a site need, and nothing else.
    pub(crate) fn of(site: &str) -> Result<Self> {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sites.md"))?;
        let subjects = |may: &str| {
            let row = document.lines().find_map(|line| line.strip_prefix(&format!("| {may} | ")));
            let row = row.with_context(|| format!("docs/sites.md does not say what users {may}"))?;
            anyhow::Ok(row.split('`').skip(1).step_by(2).map(|subject| subject.replace("berlin", site)).collect())
        };
        Ok(Self { key: KeyPair::new_user(), publish: subjects("publish")?, subscribe: subjects("subscribe")? })
    }
}

/// Who vouches for users: an operator and two accounts, one of them the server's own.
pub(crate) struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    /// A new one.
    pub(crate) fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    fn account(&self, key: &KeyPair, is_system: bool) -> Result<String> {
        let limit = if is_system { 0 } else { -1 };
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": limit, "disk_storage": limit, "streams": limit, "consumer": limit,
        });
        token(&self.operator, key, &json!({ "limits": limits, "type": "account", "version": 2 }))
    }
}

/// What `by` says of `of`.
fn token(by: &KeyPair, of: &KeyPair, says: &Value) -> Result<String> {
    let id = of.public_key();
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims =
        json!({ "jti": id, "iat": 1_700_000_000, "iss": by.public_key(), "name": id, "sub": id, "nats": says });
    let signed = [head, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes())).join(".");
    let signature = by.sign(signed.as_bytes()).map_err(|error| anyhow!("{error}"))?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

impl Guests {
    /// Whether they come over TLS.
    pub(crate) const fn over_tls(&self) -> bool {
        !matches!(self, Self::Anyone)
    }

    /// What one of its users is to show: a seed or a credentials file.
    pub(crate) fn credential(&self, number: usize) -> Result<String> {
        let seed = |user: &User| user.key.seed().map_err(|error| anyhow!("{error}"));
        match self {
            Self::Anyone => bail!("anybody may use it"),
            Self::Nkeys(users) => seed(&users[number]),
            Self::Files(users, operator) => {
                let user = &users[number];
                let says = json!({
                    "pub": { "allow": user.publish }, "sub": { "allow": user.subscribe },
                    "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2,
                });
                let (token, seed) = (token(&operator.account, &user.key, &says)?, seed(user)?);
                Ok(format!(
                    "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
                     -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
                ))
            }
        }
    }

    fn configuration(&self) -> Result<String> {
        let tls = format!("tls {{ cert_file: '{INSIDE}/server.pem', key_file: '{INSIDE}/server.key' }}");
        Ok(match self {
            Self::Anyone => String::new(),
            Self::Nkeys(users) => {
                let user = |user: &User| json!({ "nkey": user.key.public_key(), "permissions": { "publish": user.publish, "subscribe": user.subscribe } });
                let users = Value::from_iter(users.iter().map(user));
                format!("{tls}\nauthorization {{ users: {users} }}\n")
            }
            Self::Files(_, by) => {
                let system = by.system.public_key();
                let says = json!({ "type": "operator", "version": 2, "system_account": system });
                format!(
                    "{tls}\noperator: {}\nresolver: MEMORY\nsystem_account: {system}\n\
                     resolver_preload: {{ {}: {}, {system}: {} }}\n",
                    token(&by.operator, &by.operator, &says)?,
                    by.account.public_key(),
                    by.account(&by.account, false)?,
                    by.account(&by.system, true)?
                )
            }
        })
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

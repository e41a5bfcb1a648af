//! A throwaway machine: a `peernixd` with directories, keys and ports of its own.

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peernix::config::Config;
use peernix::nix::PublicKey;
use peernix::peers::{FixedPeer, NodeId, NodeKey};
use peernix::system::sockets::Addresses;
use std::fs::File;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram as StdUnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

/// How long a machine may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many lines of its log are shown when it fails.
const LOG_SHOWN: usize = 15;

/// A running machine. It is killed when it is dropped.
pub(super) struct Machine {
    /// As the report calls it.
    pub(super) name: &'static str,
    /// Its identity.
    pub(super) id: NodeId,
    /// Where Nix reaches it.
    pub(super) gateway: SocketAddr,
    /// Where peers reach it.
    pub(super) share: SocketAddr,
    /// Where ordinary Nix clients of other machines reach it, if it was planned.
    #[allow(dead_code, reason = "for the benchmarks, which start machines as well")]
    pub(super) plain: Option<SocketAddr>,
    child: Child,
    log: PathBuf,
}

/// What a machine is started with.
pub(super) struct Plan<'a> {
    /// As the report calls it.
    pub(super) name: &'static str,
    /// Everything of it is below this directory.
    pub(super) dir: &'a Path,
    /// Its chroot store.
    pub(super) store: &'a Path,
    /// The key that it trusts, and of which it shares what is signed.
    pub(super) key: &'a PublicKey,
    /// The machines that it knows.
    pub(super) peers: &'a [FixedPeer],
    /// Whether it is a plain share as well.
    pub(super) plain: bool,
    /// How many connections it takes, in all and of one address; `None` for the default.
    pub(super) connections: Option<u32>,
    /// How much it logs.
    pub(super) level: &'static str,
}

impl Machine {
    /// Starts a machine and waits until it says that it is ready.
    pub(super) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let at = |name: &str| plan.dir.join(name);
        let [state, cache, runtime] = ["state", "cache", "run"].map(at);
        for dir in [plan.dir, &state, &cache, &runtime] {
            std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        }
        let id = NodeKey::load_or_create(&state)?.id();
        let (file, log) = (at("config.toml"), at("peernixd.log"));
        let text = configuration(&plan)?;
        std::fs::write(&file, &text).with_context(|| format!("{}", file.display()))?;
        Config::from_text(&text, Some(&file))?;

        // Told by the service itself when it is ready: nothing has to be polled. An abstract name needs no short path.
        let name = format!("{}/{}", plan.dir.display(), std::process::id());
        let manager = StdUnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name)?)?;
        manager.set_nonblocking(true)?;
        let manager = UnixDatagram::from_std(manager)?;
        let output = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut child = Command::new(peernixd()?)
            .arg("--config")
            .arg(&file)
            // Nothing of the caller's environment, which may be that of a service with sockets of its own.
            .env_clear()
            .env("STATE_DIRECTORY", &state)
            .env("CACHE_DIRECTORY", &cache)
            .env("RUNTIME_DIRECTORY", &runtime)
            .env("NOTIFY_SOCKET", format!("@{name}"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("peernixd cannot be started")?;
        let started = tokio::time::timeout(START_TIMEOUT, async {
            tokio::select! {
                ready = ready(&manager) => ready,
                end = child.wait() => bail!("{} ended at once ({})", plan.name, end?),
            }
        });
        let started = started.await.unwrap_or_else(|_| bail!("{} was not ready in time", plan.name));
        started.map_err(|error| blame(&error, plan.name, &log))?;
        let addresses = Addresses::read(&runtime).unwrap_or_default();
        let (Some(gateway), Some(share)) = (addresses.gateway, addresses.share) else {
            return Err(blame(&anyhow!("it did not write down where it listens"), plan.name, &log));
        };
        Ok(Self { name: plan.name, id, gateway, share, plain: addresses.plain, child, log })
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be killed", self.name))
    }

    /// Its process; `None` once that has ended, so that the number cannot belong to another one.
    pub(super) fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Asks it to stop, and kills it if it does not.
    pub(super) async fn stop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Adds the end of its log to an error.
    pub(super) fn blame(&self, error: &anyhow::Error) -> anyhow::Error {
        blame(error, self.name, &self.log)
    }
}

/// The configuration of a machine that knows nobody but its `peers`.
pub(super) fn configuration(plan: &Plan<'_>) -> anyhow::Result<String> {
    let table = toml::toml! {
        [gateway]
        listen = "127.0.0.1:0"
        upstreams = []
        [share]
        listen = "127.0.0.1:0"
        [discovery]
        mdns = false
    };
    let mut table = table;
    let keys = toml::Value::from(vec![plan.key.to_string()]);
    let store = plan.store.to_str().context("the temporary directory has a name that is not UTF-8")?;
    let peers: Vec<String> = plan.peers.iter().map(ToString::to_string).collect();
    let plain = if plan.plain { "127.0.0.1:0" } else { "" };
    for (section, name, value) in [
        ("share", "public_keys", keys.clone()),
        ("trust", "public_keys", keys),
        ("store", "root", store.into()),
        ("discovery", "peers", peers.into()),
        ("share", "plain_listen", plain.into()),
        ("log", "level", plan.level.into()),
    ] {
        let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
        if let Some(section) = section.as_table_mut() {
            section.insert(name.to_owned(), value);
        }
    }
    for (section, name) in [("share", "max_connections"), ("limits", "per_address")] {
        let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
        if let (Some(section), Some(connections)) = (section.as_table_mut(), plan.connections) {
            section.insert(name.to_owned(), connections.into());
        }
    }
    Ok(table.to_string())
}

/// Waits for `READY=1`.
async fn ready(manager: &UnixDatagram) -> anyhow::Result<()> {
    let mut message = [0; 4096];
    loop {
        let length = manager.recv(&mut message).await?;
        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

/// The `peernixd` of the same build: examples are made in a directory beside the programs.
fn peernixd() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let programs = this.parent().and_then(Path::parent).context("there is no directory above this program's")?;
    let peernixd = programs.join("peernixd");
    ensure!(peernixd.exists(), "{} is missing: `cargo build --bins` makes it", peernixd.display());
    Ok(peernixd)
}

/// Adds the last lines of a machine's log to an error.
fn blame(error: &anyhow::Error, name: &str, log: &Path) -> anyhow::Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_SHOWN)..].join("\n  ");
    anyhow!("{error:#}\nThe end of {name}'s log:\n  {last}")
}

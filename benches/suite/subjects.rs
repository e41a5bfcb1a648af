//! What is measured: our plain share, our gateway with a peer behind it, nginx on a flat cache, and whatever else is named.

use super::content::{Content, hash_part};
use super::load::Connection;
use super::machine::{Machine, Plan};
use anyhow::{Context as _, bail, ensure};
use peernix::nix::PublicKey;
use peernix::peers::FixedPeer;
use std::fs;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// How many connections are taken of the one client that there is: more than it opens.
pub(super) const CONNECTIONS: u32 = 4096;

/// The subject that all others are compared with.
pub(super) const BASE: &str = "nginx";

/// Something that serves the paths.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    /// Its processes, as far as they are ours to look at.
    pub(super) processes: Vec<i32>,
}

impl Subject {
    /// Where the NARs of `paths` are, as its narinfos say.
    pub(super) async fn nars(&self, paths: &[String]) -> anyhow::Result<Vec<String>> {
        let mut connection = Connection::open(self.address).await?;
        let mut urls = Vec::new();
        for path in paths {
            let answer = connection.get(&format!("/{}.narinfo", hash_part(path)), "", true).await?;
            let text = String::from_utf8(answer.body)?;
            let url = text.lines().find_map(|line| line.strip_prefix("URL: "));
            let url = url.with_context(|| format!("{}: no narinfo of {path}: {}", self.name, answer.status))?;
            urls.push(format!("/{url}"));
        }
        Ok(urls)
    }
}

/// All that was started; ended when dropped.
pub(super) struct Running {
    pub(super) subjects: Vec<Subject>,
    _machines: Vec<Machine>,
    _nginx: Ended,
}

/// A process that is ended when this is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // nginx ends its workers when it is asked to, and not when it is killed.
        let pid = i32::try_from(self.0.id()).unwrap_or_default();
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Starts everything below `dir`.
pub(super) async fn start(
    dir: &Path,
    content: &Content,
    key: &PublicKey,
    others: &[(String, String)],
) -> anyhow::Result<Running> {
    let at = |name: &str| dir.join(name);
    let plan = Plan {
        name: "share",
        dir: &at("share"),
        store: &content.root,
        key,
        peers: &[],
        plain: true,
        connections: Some(CONNECTIONS),
        level: "warn",
    };
    let share = Machine::start(plan).await?;
    let peers = [FixedPeer { id: Some(share.id), host: share.share.ip().to_string(), port: share.share.port() }];
    let (empty, home) = (at("empty"), at("gateway"));
    fs::create_dir_all(&empty)?;
    let plan = Plan {
        name: "gateway",
        dir: &home,
        store: &empty,
        key,
        peers: &peers,
        plain: false,
        connections: Some(CONNECTIONS),
        level: "warn",
    };
    let gateway = Machine::start(plan).await?;
    met(gateway.gateway).await?;
    let (nginx, address) = nginx(&at("nginx"), &content.flat)?;
    let mut subjects = vec![
        Subject { name: BASE.to_owned(), address, processes: i32::try_from(nginx.0.id()).into_iter().collect() },
        Subject {
            name: "share".to_owned(),
            address: share.plain.context("there is no plain share")?,
            processes: share.pid().into_iter().collect(),
        },
        // What it costs is what both machines do.
        Subject {
            name: "gateway".to_owned(),
            address: gateway.gateway,
            processes: gateway.pid().into_iter().chain(share.pid()).collect(),
        },
    ];
    for (name, url) in others {
        let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let host = host.with_context(|| format!("{name}={url}: only http://HOST:PORT can be measured"))?;
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = host.to_socket_addrs()?.next().with_context(|| format!("{host}: no address"))?;
        subjects.push(Subject { name: name.clone(), address, processes: Vec::new() });
    }
    Ok(Running { subjects, _machines: vec![share, gateway], _nginx: nginx })
}

/// Waits until a gateway has found its peer.
async fn met(gateway: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut connection = Connection::open(gateway).await?;
    loop {
        let metrics = connection.get("/metrics", "", true).await?;
        if String::from_utf8(metrics.body)?.lines().any(|line| line == "peernix_peers_online 1") {
            return Ok(());
        }
        ensure!(begun.elapsed() < START_LIMIT, "the gateway did not find its peer");
        tokio::time::sleep(POLL).await; // poll
    }
}

/// nginx as Debian has it, on a flat cache.
fn nginx(dir: &Path, flat: &Path) -> anyhow::Result<(Ended, SocketAddr)> {
    fs::create_dir_all(dir)?;
    // Free until somebody else takes it, which nginx then says.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (at, flat) = (dir.display(), flat.display());
    // As root it would serve as another user, who may not enter the folder of the cache.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let text = format!(
        "{user} daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes auto;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
           client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
           uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
           server {{ listen {address} backlog=4096; root {flat}; }}
         }}"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let child = command.env("PATH", path).spawn().context("nginx (apt-get install nginx-light)")?;
    let mut child = Ended(child);
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if let Some(end) = child.0.try_wait()? {
            bail!("nginx ended at once ({end}): {}", fs::read_to_string(dir.join("error.log")).unwrap_or_default());
        }
        ensure!(begun.elapsed() < START_LIMIT, "nginx does not answer");
        std::thread::sleep(POLL); // poll
    }
    Ok((child, address))
}

/// Processes and their children.
fn families(parents: &[i32]) -> Vec<i32> {
    let mut all = parents.to_vec();
    for parent in parents {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    all
}

/// What processes took so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Time of processors.
    pub(super) cpu: Duration,
    /// Resident memory that is no file's, in bytes.
    pub(super) anonymous: u64,
    /// The most that was resident at once, in bytes.
    pub(super) peak: u64,
}

/// The sum of what `processes` took, and their children.
pub(super) fn usage(processes: &[i32]) -> Usage {
    let mut sum = Usage::default();
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    for pid in families(processes) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may hold anything: state, parent, … ; the twelfth and thirteenth are its times.
        let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let spent: u64 = times.filter_map(|time| time.parse::<u64>().ok()).sum();
        sum.cpu += Duration::from_millis(spent * 1000 / u64::try_from(ticks).unwrap_or(100));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        sum.anonymous += kib("RssAnon") * 1024;
        sum.peak += kib("VmHWM") * 1024;
    }
    sum
}

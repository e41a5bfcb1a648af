//! `peernixd` on a host: configured, started, watched and stopped as systemd would.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use toml::Table;

use crate::ctx::Ctx;
use crate::host::{HERE, Host};
use crate::http::Client;
use crate::process::{Process, output};
use crate::wait;

/// From the start of the program to READY=1.
const START_LIMIT: Duration = Duration::from_secs(10);

/// From SIGTERM to the end when nothing is under way.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What the configuration file says, by key: `settings.set("gateway.budget_ms", 300)`.
#[derive(Debug, Clone)]
pub(crate) struct Settings(Table);

impl Settings {
    /// The lab's key trusted and shared, no upstream, everything else as delivered.
    pub(crate) fn new(ctx: &Ctx) -> Self {
        let key = ctx.world.public_key();
        Self(Table::new())
            .set("gateway.upstreams", Vec::<String>::new())
            .set("share.public_keys", vec![key.clone()])
            .set("trust.public_keys", vec![key])
            .set("log.level", "debug")
    }

    /// With one key changed.
    pub(crate) fn set(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let table = self.0.entry(section).or_insert_with(|| Table::new().into());
        if let Some(table) = table.as_table_mut() {
            table.insert(name.to_owned(), value.into());
        }
        self
    }

    /// As delivered, of this section.
    pub(crate) fn without(mut self, section: &str) -> Self {
        self.0.remove(section);
        self
    }

    /// With these peers at fixed addresses and no search by mDNS.
    pub(crate) fn fixed_peers(self, peers: &[String]) -> Self {
        self.set("discovery.mdns", false).set("discovery.peers", peers.to_vec())
    }

    /// With these upstreams.
    pub(crate) fn upstreams(self, urls: &[&str]) -> Self {
        self.set("gateway.upstreams", urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
    }
}

/// How to start it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// As nobody instead of root.
    pub(crate) unprivileged: bool,
    /// With this `http_proxy` in its environment.
    pub(crate) http_proxy: Option<String>,
    /// With the certificates in `etc/certificates.pem` of its host instead of the machine's.
    pub(crate) own_certificates: bool,
    /// With the systemd credentials in `credentials` of its host.
    pub(crate) credentials: bool,
    /// Another program than the one that is tried.
    pub(crate) program: Option<PathBuf>,
}

/// A running `peernixd`.
pub(crate) struct Peernixd<'a> {
    ctx: &'a Ctx,
    pub(crate) host: &'a Host,
    pub(crate) process: Process,
    /// From the start of the program until it was ready.
    pub(crate) ready_after: Duration,
    started: Instant,
}

impl<'a> Peernixd<'a> {
    /// Starts it as root and waits for READY=1.
    pub(crate) fn start(ctx: &'a Ctx, host: &'a Host, settings: &Settings) -> Result<Self> {
        Self::start_as(ctx, host, settings, Start::default())
    }

    /// Starts it and waits for READY=1.
    pub(crate) fn start_as(ctx: &'a Ctx, host: &'a Host, settings: &Settings, start: Start) -> Result<Self> {
        let config = host.dir.join("etc/peernix.toml");
        std::fs::write(&config, toml::to_string(&settings.0)?)?;
        for sub in ["state", "cache", "run"] {
            let dir = host.dir.join(sub);
            std::fs::create_dir_all(&dir)?;
            if start.unprivileged {
                std::os::unix::fs::chown(&dir, Some(65534), Some(65534))?;
            }
        }
        let notify = host.short.join("run/notify");
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).with_context(|| format!("{notify:?}"))?;
        if start.unprivileged {
            std::os::unix::fs::chown(&notify, Some(65534), Some(65534))?;
        }
        let mut program = "/run/bin/peernixd".to_owned();
        if let Some(other) = &start.program {
            std::fs::copy(other, host.dir.join("run/peernixd")).with_context(|| format!("{other:?}"))?;
            program = format!("{HERE}/run/peernixd");
        }
        let mut command = match start.unprivileged {
            false => host.command(&program),
            true => {
                let mut command = host.command("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", &program]);
                command
            }
        };
        command
            .args(["--config", &format!("{HERE}/etc/peernix.toml")])
            .env("STATE_DIRECTORY", format!("{HERE}/state"))
            .env("CACHE_DIRECTORY", format!("{HERE}/cache"))
            .env("RUNTIME_DIRECTORY", format!("{HERE}/run"))
            .env("NOTIFY_SOCKET", format!("{HERE}/run/notify"))
            .env("RUST_BACKTRACE", "1");
        if let Some(proxy) = start.http_proxy {
            command.env("http_proxy", proxy);
        }
        if start.own_certificates {
            command.env("SSL_CERT_FILE", format!("{HERE}/etc/certificates.pem"));
        }
        if start.credentials {
            command.env("CREDENTIALS_DIRECTORY", format!("{HERE}/credentials"));
        }
        let started = Instant::now();
        let process = Process::start(command, &host.logs.join(format!("{}.peernixd.log", host.name)))?;
        let mut peernixd = Self { ctx, host, process, ready_after: Duration::ZERO, started };
        peernixd.wait_ready(&socket)?;
        peernixd.ready_after = started.elapsed();
        Ok(peernixd)
    }

    fn wait_ready(&mut self, socket: &UnixDatagram) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut buffer = [0; 4096];
        while self.started.elapsed() < START_LIMIT {
            if let Ok(count) = socket.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == "READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.process.ended()? {
                bail!("peernixd on {} ended with {status} instead of starting:\n{}", self.host.name, self.log_tail());
            }
        }
        bail!("peernixd on {} did not say READY=1 within {START_LIMIT:?}:\n{}", self.host.name, self.log_tail())
    }

    /// When its process was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Its identity, as `--print-node-id` says it.
    pub(crate) fn node_id(&self) -> Result<String> {
        let mut command = self.host.command("/run/bin/peernixd");
        command
            .args(["--config", &format!("{HERE}/etc/peernix.toml"), "--print-node-id"])
            .env("STATE_DIRECTORY", format!("{HERE}/state"));
        Ok(output(&mut command)?.trim().to_owned())
    }

    /// What its gateway says about its peers.
    pub(crate) fn peers(&self) -> Result<Vec<Value>> {
        // Not through the run's traffic: this is asked hundreds of times, and Nix does not.
        let (head, body) = Client::connect(self.host, crate::http::GATEWAY)?.get("/peers")?;
        if head.status != 200 {
            bail!("/peers on {}: {}", self.host.name, head.status);
        }
        let value: Value = serde_json::from_slice(&body).context("/peers")?;
        value.as_array().cloned().context("/peers is not a list")
    }

    /// The state of a peer here, if it is known.
    pub(crate) fn state_of(&self, id: &str) -> Result<Option<String>> {
        Ok(self
            .peers()?
            .iter()
            .find(|peer| peer["id"] == id)
            .and_then(|peer| peer["state"].as_str())
            .map(str::to_owned))
    }

    /// Waits until `id` is in `state` here.
    pub(crate) fn wait_state(&self, id: &str, state: &str, limit: Duration) -> Result<Duration> {
        let what = format!("{id} to be {state} on {}", self.host.name);
        wait::until_true(&what, limit, || Ok(self.state_of(id)?.as_deref() == Some(state)))
            .with_context(|| format!("/peers on {}: {:#?}", self.host.name, self.peers().unwrap_or_default()))
    }

    /// Waits until `id` is not online here any more.
    pub(crate) fn wait_gone(&self, id: &str, limit: Duration) -> Result<Duration> {
        let what = format!("{id} to be gone on {}", self.host.name);
        wait::until_true(&what, limit, || Ok(self.state_of(id)?.as_deref() != Some("online")))
    }

    /// Waits until that many peers are online here.
    pub(crate) fn wait_online(&self, count: usize, limit: Duration) -> Result<Duration> {
        let what = format!("{count} peers online on {}", self.host.name);
        wait::until_true(&what, limit, || {
            Ok(self.peers()?.iter().filter(|peer| peer["state"] == "online").count() >= count)
        })
        .with_context(|| format!("/peers on {}: {:#?}", self.host.name, self.peers().unwrap_or_default()))
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory now, in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The memory that the program took for itself now, in bytes: without the pages of its file, which are more in a build for
    /// tests than in one for use.
    pub(crate) fn own_memory(&self) -> Result<u64> {
        self.status_kib("RssAnon:")
    }

    /// The most it ever had, in bytes, since [`Self::reset_peak`].
    pub(crate) fn peak_rss(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    /// Forgets the peak so far.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.pid()), "5").context("resetting the peak")
    }

    fn status_kib(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// The time of a processor that it has used so far, its own and the kernel's for it: by the clock of the process, as the ticks in its
    /// `stat` are those that found it running, which says nothing of one that is woken by ticks.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let clock = ::nix::time::clock_getcpuclockid(::nix::unistd::Pid::from_raw(self.process.pid().try_into()?))?;
        Ok(::nix::time::clock_gettime(clock)?.into())
    }

    /// How often its threads have gone to sleep so far, which is how often they were woken.
    pub(crate) fn wake_ups(&self) -> Result<u64> {
        let mut count = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            let status = std::fs::read_to_string(thread?.path().join("status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count += line.context("no such field")?.trim().parse::<u64>()?;
        }
        Ok(count)
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.process.pid()))?.count())
    }

    /// Kills it without warning.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Stops it as systemd does, and checks that its life was a clean one.
    pub(crate) fn stop(self) -> Result<()> {
        self.judge_metrics();
        self.process.signal(Signal::SIGTERM)?;
        self.stop_after_sigterm()
    }

    /// [`Self::stop`] for one that has got its signal already.
    pub(crate) fn stop_after_sigterm(mut self) -> Result<()> {
        let status = self.process.wait(STOP_LIMIT).with_context(|| format!("after SIGTERM:\n{}", self.log_tail()))?;
        if !status.success() {
            bail!("peernixd on {} ended with {status} after SIGTERM:\n{}", self.host.name, self.log_tail());
        }
        self.judge_log()
    }

    /// Fails if its log shows a panic.
    pub(crate) fn judge_log(&self) -> Result<()> {
        let log = self.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            bail!("peernixd on {}: {line}", self.host.name);
        }
        Ok(())
    }

    /// Enters what it counted itself into the run's traffic: a 5xx of its gateway that nobody here saw, and panics it survived.
    fn judge_metrics(&self) {
        let Ok(text) = self.metrics() else { return };
        let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
        let place = format!("{} (/metrics of {})", self.ctx.name, self.host.name);
        for line in text.lines().filter(|line| line.contains("face=\"gateway\"") && line.contains("status=\"5xx\"")) {
            self.ctx.traffic.saw(&place, 500, count(line));
        }
        for line in text.lines().filter(|line| line.starts_with("peernix_http_panics_total")) {
            if count(line) != 0 {
                self.ctx.check(&format!("no panic on {}", self.host.name), false, line);
            }
        }
    }

    /// What its gateway tells Prometheus.
    pub(crate) fn metrics(&self) -> Result<String> {
        let (head, body) = Client::connect(self.host, crate::http::GATEWAY)?.get("/metrics")?;
        if head.status != 200 {
            bail!("/metrics on {}: {}", self.host.name, head.status);
        }
        Ok(String::from_utf8(body)?)
    }

    /// The file with its addresses.
    pub(crate) fn addresses_file(&self) -> PathBuf {
        self.host.dir.join("run/addresses.json")
    }
}

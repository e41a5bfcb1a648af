//! The real Nix, three generations of it, and what its debug log says about the answers it got.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ctx::Ctx;
use crate::host::Host;
use crate::process::Process;

/// What a client of nix-daemon says first.
pub(crate) const CLIENT_MAGIC: u64 = 0x6e69_7863;

/// A Nix, by where it comes from. Versions move on; the report names the one that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The machine's own, from Debian 12: 2.8.
    Machine,
    /// Debian 13's: 2.26.
    Trixie,
    /// Debian unstable's, whatever that is when `scripts/setup` makes its tree: 2.34.8 at the time of writing.
    Sid,
}

impl Generation {
    /// Oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::Machine, Self::Trixie, Self::Sid];

    /// Its root tree, made by `scripts/setup`; the machine's own needs none.
    pub(crate) fn root(self) -> Option<&'static PathBuf> {
        static ROOTS: LazyLock<[Option<PathBuf>; 2]> =
            LazyLock::new(|| ["trixie", "sid"].map(|suite| Some(roots_dir().join(suite)).filter(|root| usable(root))));
        match self {
            Self::Machine => None,
            Self::Trixie => ROOTS[0].as_ref(),
            Self::Sid => ROOTS[1].as_ref(),
        }
    }

    /// Why it cannot be used, if so.
    pub(crate) fn lacking(self) -> Option<String> {
        match self {
            Self::Machine => crate::needs::lacking_program("nix"),
            Self::Trixie | Self::Sid => self
                .root()
                .is_none()
                .then(|| format!("no root tree {:?} in {:?}: run scripts/setup", self, roots_dir())),
        }
    }

    /// `2.8.0`, or the suite's name if it is not there.
    pub(crate) fn version(self) -> &'static str {
        static VERSIONS: LazyLock<[String; 3]> = LazyLock::new(|| Generation::ALL.map(Generation::ask_version));
        let index = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        &VERSIONS[index]
    }

    fn ask_version(self) -> String {
        let mut command = match self.root() {
            None if self == Self::Machine => Command::new("nix"),
            None => return format!("{self:?}").to_lowercase(),
            Some(root) => {
                // nix looks itself up in /proc, which a bare tree lacks; a bind mount of this run alone provides it.
                let mut command = Command::new("unshare");
                let script =
                    format!("mount --rbind /proc '{0}/proc' && exec chroot '{0}' nix --version", root.display());
                command.args(["--mount", "sh", "-c", &script]);
                command
            }
        };
        let text = command.arg("--version").output().map(|out| out.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.split_whitespace().last().map_or_else(|| format!("{self:?}").to_lowercase(), str::to_owned)
    }
}

fn roots_dir() -> PathBuf {
    if let Ok(dir) = std::env::var("PEERNIX_LAB_ROOTS") {
        return dir.into();
    }
    let cache = std::env::var("XDG_CACHE_HOME")
        .map_or_else(|_| PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    cache.join("peernix-lab/roots")
}

fn usable(root: &std::path::Path) -> bool {
    root.join("usr/bin/nix").exists()
}

/// Whether a run of Nix may have to try again: only where the case itself breaks a transfer under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retries {
    /// Not one.
    None,
    /// The case cuts what cannot be continued, so that Nix resumes.
    Allowed,
}

/// What a run of Nix did.
pub(crate) struct NixRun {
    /// Whether it exited with 0.
    pub(crate) ok: bool,
    /// Its whole debug log.
    pub(crate) log: String,
    /// How often it saw each HTTP status from the gateway.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// How often it announced another attempt.
    pub(crate) retries: u64,
    /// How long it took.
    pub(crate) time: Duration,
}

impl NixRun {
    /// The lines with `error` or `warning`, for messages.
    pub(crate) fn complaints(&self) -> String {
        let lines: Vec<&str> = self
            .log
            .lines()
            .filter(|line| line.contains("error") || line.contains("warning"))
            .filter(|line| !line.contains("--add-root"))
            .collect();
        lines.join("\n")
    }

    /// Fails unless Nix succeeded.
    pub(crate) fn must(self, what: &str) -> Result<Self> {
        if !self.ok {
            let tail: Vec<&str> = self.log.lines().rev().take(5).collect();
            bail!("Nix failed: {what}\n{}\n(end of its log, backwards: {tail:#?})", self.complaints());
        }
        Ok(self)
    }

    fn parse(ok: bool, log: String, time: Duration) -> Self {
        let mut statuses = BTreeMap::new();
        for line in log.lines() {
            // "finished download of 'http://…'; curl status = 0, HTTP status = 200, body = …": all three generations.
            // Only the gateway's answers are its own; other substituters of a case answer for themselves.
            if !line.contains("http://127.0.0.1:7649/") {
                continue;
            }
            let Some((_, rest)) = line.split_once("HTTP status = ") else { continue };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(status) = digits.parse::<u16>() {
                *statuses.entry(status).or_default() += 1;
            }
        }
        let retries = log.lines().filter(|line| line.contains("; retrying ")).count() as u64;
        Self { ok, log, statuses, retries, time }
    }
}

/// A Nix in the background.
pub(crate) struct Running<'a> {
    ctx: &'a Ctx,
    process: Process,
    label: String,
    start: Instant,
    retries: Retries,
}

impl Running<'_> {
    /// Waits for it, and enters what it saw into the run's traffic.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<NixRun> {
        let run = self.wait(limit)?;
        let place = format!("{} ({})", self.ctx.name, self.process.log.display());
        for (status, count) in &run.statuses {
            // 0: the connection broke before an answer, which the count of retries shows.
            if *status != 0 {
                self.ctx.traffic.saw(&place, *status, *count);
            }
        }
        if self.retries == Retries::None {
            self.ctx.traffic.retried(&place, run.retries);
        }
        Ok(run)
    }

    /// Waits for it where what answered was no gateway of ours.
    pub(crate) fn finish_unjudged(mut self, limit: Duration) -> Result<NixRun> {
        self.wait(limit)
    }

    fn wait(&mut self, limit: Duration) -> Result<NixRun> {
        let status = self.process.wait(limit).with_context(|| format!("Nix: {}", self.label))?;
        Ok(NixRun::parse(status.success(), self.process.output(), self.start.elapsed()))
    }
}

/// Starts Nix on a host with its debug log on; the log is `LABEL.nix.log` among the case's logs.
pub(crate) fn start<'a>(
    ctx: &'a Ctx,
    host: &Host,
    generation: Generation,
    label: &str,
    args: &[&str],
    retries: Retries,
) -> Result<Running<'a>> {
    let (program, args) = args.split_first().context("no program")?;
    let mut command = host.nix_command(generation, program);
    command.args(args).arg("-vvv");
    let log = host.logs.join(format!("{label}.nix.log"));
    let _ = std::fs::remove_file(&log);
    let process = Process::start(command, &log)?;
    Ok(Running { ctx, process, label: label.into(), start: Instant::now(), retries })
}

/// How long a run of Nix may take before the case gives up.
const NIX_LIMIT: Duration = Duration::from_secs(150);

/// Realises `path` on a host: what `nixos-rebuild` does for every path of a system. No retry is expected.
pub(crate) fn realise(ctx: &Ctx, host: &Host, generation: Generation, label: &str, path: &str) -> Result<NixRun> {
    start(ctx, host, generation, label, &["nix-store", "--realise", path], Retries::None)?.finish(NIX_LIMIT)
}

/// Checks every path of the host's store against its database, as an administrator would.
pub(crate) fn verify_store(host: &Host, generation: Generation) -> Result<()> {
    let out = host
        .nix_command(generation, "nix-store")
        .args(["--verify", "--check-contents"])
        .output()
        .context("nix-store --verify")?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() || text.contains("modified!") || text.contains("disappeared") {
        bail!("nix-store --verify --check-contents on {}: {}\n{text}", host.name, out.status);
    }
    Ok(())
}

/// Whether Nix itself holds `path` for valid on this host.
pub(crate) fn is_valid(host: &Host, path: &str) -> Result<bool> {
    let out = host.command("nix-store").args(["--check-validity", path]).output()?;
    Ok(out.status.success())
}

/// Starts the host's nix-daemon and waits until it accepts.
pub(crate) fn daemon(host: &Host, generation: Generation) -> Result<Process> {
    let log = host.logs.join(format!("{}.nix-daemon.log", host.name));
    let process = Process::start(host.nix_command(generation, "nix-daemon"), &log)?;
    let socket = host.short.join("nix/var/nix/daemon-socket/socket");
    let (mut stream, _) =
        crate::wait::until("nix-daemon to accept", Duration::from_secs(10), || Ok(UnixStream::connect(&socket).ok()))?;
    // It forks for each connection, and each opens the store before it greets. In a new store two at once get into each
    // other's way ("creating symlink …: File exists"), so the first is waited for.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&CLIENT_MAGIC.to_le_bytes())?;
    stream.read_exact(&mut [0; 8]).context("the greeting of nix-daemon")?;
    Ok(process)
}

//! Programs that run on a host: started with their output in a file, signalled, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A program in the background. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    /// What it wrote to both outputs.
    pub(crate) log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with standard output and error appended to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log).with_context(|| format!("opening {log:?}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child, log: log.to_owned(), exit: None })
    }

    /// The process id; of the program itself, since `nsenter` becomes it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; to a process that has ended this is an error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid().try_into()?), signal).with_context(|| format!("{signal} to {}", self.pid()))
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let log = self.log.clone();
        wait::until(&format!("the end of the program that logs to {log:?}"), limit, || self.ended())
            .map(|(exit, _)| exit)
    }

    /// Kills it without warning and waits until it is gone.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.child.kill()?;
            self.exit = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that cannot be killed cannot be helped; the PID namespace of the run ends it at the latest.
        let _ = self.kill9();
    }
}

/// Runs a command to its end and gives its standard output; a failure carries both outputs.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("{command:?}: {}\n{text}{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(text)
}

/// Runs a shell script on the machine itself (inside the run's own namespaces).
pub(crate) fn sh(script: &str) -> Result<String> {
    output(Command::new("sh").args(["-ec", script]))
}

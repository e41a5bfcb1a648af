//! The programs, and others in the background.

use super::until_or;
use ::nix::sys::signal::{Signal, kill};
use ::nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// An address at which there is no bus: none of this machine is to know what is started here.
const NO_BUS: &str = "unix:path=/nonexistent/no-bus";

/// One of our programs with a home of its own, no bus, and nothing else of this environment.
pub(crate) fn program(name: &str, home: &Path) -> Command {
    let path = match name {
        "peernixd" => env!("CARGO_BIN_EXE_peernixd"),
        "peernixctl" => env!("CARGO_BIN_EXE_peernixctl"),
        "peernix-notifier" => env!("CARGO_BIN_EXE_peernix-notifier"),
        other => panic!("no program {other}"),
    };
    let mut command = Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    for (variable, directory) in
        [("STATE_DIRECTORY", "state"), ("CACHE_DIRECTORY", "cache"), ("RUNTIME_DIRECTORY", "run")]
    {
        command.env(variable, home.join(directory));
    }
    command.env("DBUS_SYSTEM_BUS_ADDRESS", NO_BUS).stdin(Stdio::null());
    command
}

/// A command that another one starts in the end, with the environment that it had.
pub(crate) fn started_by(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    with_environment_of(outer, command)
}

/// A command with the environment of another one and nothing else.
pub(crate) fn with_environment_of(mut command: Command, other: &Command) -> Command {
    command.env_clear().envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Exit code, stdout and stderr of a program that ended.
pub(crate) fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A program in the background. It ends with this.
pub(crate) struct Program {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it with what it says in a file.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let file = Self::open(log);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap());
        Self::with_errors(command, file, log)
    }

    /// Starts it with its stdin and stdout as they are, and what it complains of in a file.
    pub(crate) fn start_logged(command: Command, log: &Path) -> Self {
        Self::with_errors(command, Self::open(log), log)
    }

    /// One that was started otherwise and has no log.
    pub(crate) fn of(child: Child) -> Self {
        Self { child, log: PathBuf::new() }
    }

    fn open(log: &Path) -> File {
        File::options().create(true).append(true).open(log).unwrap()
    }

    fn with_errors(mut command: Command, file: File, log: &Path) -> Self {
        Self { child: command.stderr(file).spawn().unwrap(), log: log.to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this so often.
    pub(crate) async fn says(&self, what: &str, times: usize) {
        let said = async || self.log().matches(what).count() >= times;
        until_or(&format!("'{what}' {times} times"), said, || self.log()).await;
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let log = self.log.clone();
        let ended = async || self.child.try_wait().unwrap().is_some();
        until_or("the end of a program", ended, || fs::read_to_string(log).unwrap_or_default()).await;
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A `peernixd` under a manager of our own: a socket for its messages, directories for its files.

use super::LIMIT;
use super::program::{Program, program};
use ::nix::sys::signal::Signal;
use peernix::system::addresses::Addresses;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;
use tempfile::TempDir;

/// A configuration that meets nobody and takes any port.
pub(crate) const LONELY: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\nupstreams = []\n[share]\nlisten = \"127.0.0.1:0\"\n\
                                 [discovery]\nmdns = false\n[store]\nroot = \"/nonexistent\"\n";

/// A running service. It ends with this.
pub(crate) struct Service {
    pub(crate) program: Program,
    manager: UnixDatagram,
    home: PathBuf,
    /// What the home is in, if it goes with the service.
    folder: Option<TempDir>,
}

impl Service {
    /// Starts it in a home of its own and waits until it is ready; `change` may change the command.
    pub(crate) fn start(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut service = Self::spawn(folder.path(), config, change);
        service.folder = Some(folder);
        service.wait_ready();
        service
    }

    /// Starts it with a configuration that meets nobody, on the bus with this address.
    pub(crate) fn start_on(bus: &str) -> Self {
        Self::start(LONELY, |command| {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        })
    }

    /// Starts it in this home, which may be that of an earlier one, and does not wait for it.
    pub(crate) fn spawn(home: &Path, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        fs::create_dir_all(home).unwrap();
        // Others have to reach the sockets.
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(home.join("config.toml"), config).unwrap();
        let socket = home.join("notify");
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        // Some run it as another user.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = program("peernixd", home);
        command.arg("--config").arg(home.join("config.toml")).env("NOTIFY_SOCKET", &socket);
        change(&mut command);
        let program = Program::start_logged(command, &home.join("log"));
        Self { program, manager, home: home.to_owned(), folder: None }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.join("config.toml")
    }

    /// Where its sockets are.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.home.join("run")
    }

    pub(crate) fn log(&self) -> String {
        self.program.log()
    }

    /// Writes its configuration anew, as one that meets nobody, with something before.
    pub(crate) fn configure(&self, before: &str) {
        fs::write(self.config(), format!("{before}{LONELY}")).unwrap();
    }

    pub(crate) fn wait_ready(&self) {
        self.heard("READY=1");
    }

    /// Waits for a message that begins with `start` and returns it.
    pub(crate) fn heard(&self, start: &str) -> String {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < LIMIT {
            let length = match self.manager.recv(&mut buffer) {
                Ok(length) => length,
                // Another test's child has ended: a socket with a timeout is not waited for again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(start) {
                return message;
            }
        }
        panic!("no message {start}; its log:\n{}", self.log());
    }

    /// Where a face listens, as the service wrote it down.
    pub(crate) fn address(&self, face: &str) -> Option<SocketAddr> {
        let addresses = Addresses::read(&self.runtime()).unwrap();
        match face {
            "gateway" => addresses.gateway,
            "share" => addresses.share,
            "plain" => addresses.plain,
            other => panic!("no face {other}"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.heard("STOPPING=1");
        self.program.child.wait().unwrap()
    }
}

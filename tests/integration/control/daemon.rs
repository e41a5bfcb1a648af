//! A real `peernixd` that meets nobody, with directories of its own.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything here may take.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A configuration that meets nobody and takes any port.
const LONELY: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\nupstreams = []\n[share]\nlisten = \"127.0.0.1:0\"\n\
                      [discovery]\nmdns = false\n[store]\nroot = \"/nonexistent\"\n";

/// The service; it ends with this.
pub(super) struct Daemon {
    home: TempDir,
    child: Child,
}

impl Daemon {
    /// Starts it without a bus and waits until it is ready.
    pub(super) fn start() -> Self {
        // No bus of this machine is to know it.
        Self::start_on("unix:path=/nonexistent/no-bus")
    }

    /// Starts it on a bus and waits until it is ready.
    pub(super) fn start_on(bus: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path();
        // Others have to reach the sockets.
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let notify = UnixDatagram::bind(directory.join("notify")).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_peernixd"));
        command.arg("--config").arg(directory.join("config.toml"));
        command.env_clear().env("HOME", directory).env("NOTIFY_SOCKET", directory.join("notify"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        for (variable, name) in
            [("STATE_DIRECTORY", "state"), ("CACHE_DIRECTORY", "cache"), ("RUNTIME_DIRECTORY", "run")]
        {
            command.env(variable, directory.join(name));
        }
        fs::write(directory.join("config.toml"), LONELY).unwrap();
        command.stdin(Stdio::null()).stderr(fs::File::create(directory.join("log")).unwrap());
        let child = command.spawn().unwrap();
        let daemon = Self { home, child };
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            let length = match notify.recv(&mut buffer) {
                Ok(length) => length,
                // Another test's child has ended: a socket with a timeout is not waited for again by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => panic!("{error}: {}", daemon.log()),
            };
            if buffer[..length].windows(7).any(|part| part == b"READY=1") {
                return daemon;
            }
            assert!(begun.elapsed() < LIMIT, "{}", daemon.log());
        }
    }

    /// Where its sockets are.
    pub(super) fn runtime(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// Writes its configuration anew, with something before.
    pub(super) fn configure(&self, before: &str) {
        fs::write(self.home.path().join("config.toml"), format!("{before}{LONELY}")).unwrap();
    }

    /// Ends it as systemd does.
    pub(super) fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

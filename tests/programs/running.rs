//! A `peernixd` under a manager of our own: a socket for its messages, directories for its files.

use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A program with a home of its own and nothing else of this environment.
pub(crate) fn program(name: &str, home: &Path) -> Command {
    let path = match name {
        "peernixd" => env!("CARGO_BIN_EXE_peernixd"),
        "peernixctl" => env!("CARGO_BIN_EXE_peernixctl"),
        other => panic!("no program {other}"),
    };
    let mut command = Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    for (variable, directory) in
        [("STATE_DIRECTORY", "state"), ("CACHE_DIRECTORY", "cache"), ("RUNTIME_DIRECTORY", "run")]
    {
        command.env(variable, home.join(directory));
    }
    command.stdin(Stdio::null());
    command
}

/// Exit code, stdout and stderr of a program that ended.
pub(crate) fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A running service.
pub(crate) struct Service {
    pub(crate) home: TempDir,
    pub(crate) child: Child,
    manager: UnixDatagram,
}

/// A configuration that meets nobody and takes any port.
pub(crate) const LONELY: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\nupstreams = []\n[share]\nlisten = \"127.0.0.1:0\"\n\
                                 [discovery]\nmdns = false\n[store]\nroot = \"/nonexistent\"\n";

impl Service {
    /// Starts it with a configuration; `change` may change the command.
    pub(crate) fn start(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.toml"), config).unwrap();
        let socket = home.path().join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = program("peernixd", home.path());
        command.arg("--config").arg(home.path().join("config.toml")).env("NOTIFY_SOCKET", &socket);
        change(&mut command);
        command.stderr(fs::File::create(home.path().join("log")).unwrap());
        let child = command.spawn().unwrap();
        let service = Self { home, child, manager };
        service.heard("READY=1");
        service
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.path().join("config.toml")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Waits for a message that begins with `start` and returns it.
    pub(crate) fn heard(&self, start: &str) -> String {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < LIMIT {
            let Ok(length) = self.manager.recv(&mut buffer) else { break };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(start) {
                return message;
            }
        }
        panic!("no message {start}; its log:\n{}", self.log());
    }

    /// Where a face listens, as the service wrote it down.
    pub(crate) fn address(&self, face: &str) -> Option<SocketAddr> {
        let text = fs::read_to_string(self.home.path().join("run/addresses.json")).unwrap();
        let addresses: Value = serde_json::from_str(&text).unwrap();
        addresses[face].as_str().map(|address| address.parse().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.heard("STOPPING=1");
        self.child.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status line and body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

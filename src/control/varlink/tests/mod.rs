//! The front end against a service that is made up, over real sockets.

mod answers;
mod clients;
mod harm;
mod idl;
mod messages;

use super::{Access, Limits, Server};
use crate::control::stub::{DAY, NOW, Stub, key, no, peer};
use crate::control::{Blocked, ErrorKind, KeyState, Peer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A service with two of some things, of which one has all that there can be. It refuses some of what nobody else asks.
fn stub() -> Stub {
    let blocked = Some(Blocked { reason: "r".into(), until_timestamp: Some(NOW + DAY) });
    let mut stub = Stub {
        peers: vec![Peer { blocked, ..peer("a", "name", "online") }, peer("b", "name", "online")].into(),
        ping: Duration::from_micros(7),
        keys: vec![key("f-a", "a", KeyState::Grace), key("f-b", "b", KeyState::Revoked)],
        says: |stub, what| match what {
            "undrain" => Ok(false),
            "reload" if stub.sparse.load(SeqCst) => no(ErrorKind::ConfigInvalid),
            "peers Some(\"strange\")" => no(ErrorKind::InvalidArgument),
            // What no peer can be: for the way of errors that the interface does not have.
            "peer key" | "revoke used " => no(ErrorKind::KeyInUse),
            "ping nobody" => no(ErrorKind::PeerUnreachable),
            "add x" => no(ErrorKind::InvalidUri),
            "query x" => no(ErrorKind::InvalidStorePath),
            _ => Ok(true),
        },
        ..Stub::default()
    };
    stub.keys[0].public_key = "a:x".into();
    stub.pins[0].path = "/nix/store/a-b".into();
    stub.reload.error = Some("none".into());
    let status = stub.status.get_mut();
    (status.listen.plain, status.active_key) = (Some("p".into()), Some("f-a".into()));
    stub
}

/// A service with both sockets.
struct Served {
    directory: TempDir,
    stub: Arc<Stub>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stub = Arc::new(stub());
        let stop = CancellationToken::new();
        let serve = |name: &str, access| {
            let listener = UnixListener::bind(directory.path().join(name)).unwrap();
            tokio::spawn(Server::new(Arc::clone(&stub) as _, access, limits).serve(listener, stop.clone()))
        };
        let tasks = vec![serve(super::READ_ONLY_SOCKET, Access::ReadOnly), serve(super::ADMIN_SOCKET, Access::Admin)];
        Self { directory, stub, stop, tasks }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self, access: Access) -> PathBuf {
        self.path().join(match access {
            Access::ReadOnly => super::READ_ONLY_SOCKET,
            Access::Admin => super::ADMIN_SOCKET,
        })
    }

    async fn raw(&self, access: Access) -> Raw {
        Raw { stream: UnixStream::connect(self.socket(access)).await.unwrap(), buffer: Vec::new() }
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            timeout(LIMIT, task).await.expect("the server ends").unwrap();
        }
    }
}

/// A client that says what it likes.
struct Raw {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn say(&mut self, call: Value) {
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        self.send(&bytes).await;
    }

    /// The next answer; `None` when the server has closed the connection.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&message[..end]).unwrap());
            }
            match timeout(LIMIT, self.stream.read_buf(&mut self.buffer)).await.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.say(json!({ "method": method, "parameters": parameters })).await;
        self.hear().await.expect("an answer")
    }

    async fn ask_all(&mut self, method: &str, parameters: Value) -> Vec<Value> {
        self.say(json!({ "method": method, "parameters": parameters, "more": true })).await;
        let mut all = Vec::new();
        loop {
            let answer = self.hear().await.expect("an answer");
            let continues = answer.get("continues") == Some(&json!(true));
            all.push(answer);
            if !continues {
                return all;
            }
        }
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

//! The other end: [`Control`](crate::control::Control) over a socket, or over any other stream that leads to one.

mod calls;
mod wire;

use super::protocol::STANDARD;
use super::sockets::{ADMIN_GROUP, ADMIN_SOCKET, READ_ONLY_SOCKET};
use crate::control::{ControlError, ErrorKind, Feed, Outcome};
use async_trait::async_trait;
use serde_json::Value;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
pub use wire::Stream;
use wire::Wire;

/// How long an answer may take. Jobs and subscriptions are answered at once and go on for as long as they like.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How many answers a list may have.
const LIST_MAX: usize = 200_000;

/// Speaks to a service.
pub struct Client {
    way: Way,
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

enum Way {
    /// A new connection for each call, so that they do not wait for each other.
    Dial(Box<dyn Fn() -> Dialing + Send + Sync>),
    /// One connection for all calls, one after the other. None while one of them is under way, and after one broke off.
    Single(Arc<Mutex<Option<Wire>>>),
}

impl Client {
    /// A client of the service whose sockets are in the directory `path`, or of the one that listens on the socket `path`.
    /// In a directory the admin socket is taken if this user may, else the one for asking.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] when nobody listens, [`ErrorKind::AccessDenied`] when this user may not connect.
    pub async fn connect(path: &Path) -> Outcome<Self> {
        let sockets = if path.is_dir() {
            vec![path.join(ADMIN_SOCKET), path.join(READ_ONLY_SOCKET)]
        } else {
            vec![path.to_owned()]
        };
        let mut denied = None;
        let mut missing = None;
        for socket in sockets {
            match UnixStream::connect(&socket).await {
                Ok(_) => return Ok(Self::of(socket)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    denied.get_or_insert(unreachable(&socket, &error));
                }
                Err(error) => {
                    missing.get_or_insert(unreachable(&socket, &error));
                }
            }
        }
        Err(missing.or(denied).unwrap_or_else(|| ControlError::new(ErrorKind::NotRunning, "there is no socket")))
    }

    fn of(socket: PathBuf) -> Self {
        Self::dialing(move || {
            let socket = socket.clone();
            async move { Ok(Box::new(UnixStream::connect(&socket).await?) as Box<dyn Stream>) }
        })
    }

    /// A client that comes to the service by `dial`, once for each call.
    pub fn dialing<F>(dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static,
    {
        Self { way: Way::Dial(Box::new(move || Box::pin(dial()))) }
    }

    /// A client over one stream that leads to a socket of the service, such as through ssh. Calls wait for each other. While
    /// a feed goes on there can be no other call; one that is dropped before its end takes the stream with it.
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { way: Way::Single(Arc::new(Mutex::new(Some(Wire::new(Box::new(stream)))))) }
    }

    /// Makes a call and waits for its first answer.
    async fn call(&self, method: &str, parameters: Value, more: bool) -> Outcome<Replies> {
        let first = timeout(ANSWER_LIMIT, async {
            let (wire, home) = match &self.way {
                Way::Dial(dial) => {
                    let stream = dial().await.map_err(|error| unreachable(Path::new(""), &error))?;
                    (Wire::new(stream), None)
                }
                Way::Single(home) => {
                    // Kept until the call is over, so that others wait; not by feeds, which may never end.
                    let mut guard = Arc::clone(home).lock_owned().await;
                    let wire = guard.take().ok_or_else(|| {
                        ControlError::new(ErrorKind::Busy, "the only connection carries something else, or broke off")
                    })?;
                    (wire, Some(Home { place: Arc::clone(home), guard: Some(guard) }))
                }
            };
            let mut replies = Replies { wire: Some(wire), home, first: None };
            replies.send(method, parameters, more).await?;
            replies.first = replies.receive().await;
            Ok(replies)
        });
        first.await.map_err(|_| ControlError::new(ErrorKind::Failed, format!("no answer to {method} in time")))?
    }

    /// The only answer to a call.
    async fn one(&self, method: &str, parameters: Value) -> Outcome<Value> {
        let mut replies = self.call(method, parameters, false).await?;
        replies.first.take().unwrap_or_else(|| Err(closed()))
    }

    /// All answers to a call.
    async fn all(&self, method: &str, parameters: Value) -> Outcome<Vec<Value>> {
        let mut replies = self.call(method, parameters, true).await?;
        let mut all = Vec::new();
        let late = |_| ControlError::new(ErrorKind::Failed, format!("the answers to {method} stopped coming"));
        while let Some(reply) = timeout(ANSWER_LIMIT, replies.next()).await.map_err(late)? {
            if all.len() == LIST_MAX {
                return Err(ControlError::new(ErrorKind::LimitExceeded, format!("{method} has too many answers")));
            }
            all.push(reply?);
        }
        Ok(all)
    }

    /// The answers to a call, the first of which is here already.
    async fn feed<T: Send + 'static>(
        &self,
        method: &str,
        parameters: Value,
        read: fn(Value) -> Outcome<T>,
    ) -> Outcome<Box<dyn Feed<T>>> {
        let mut replies = self.call(method, parameters, true).await?;
        if let Some(home) = &mut replies.home {
            home.guard = None;
        }
        match replies.first.take() {
            Some(Err(error)) => Err(error),
            first => Ok(Box::new(Reading { replies: Replies { first, ..replies }, read })),
        }
    }
}

/// Where the only connection of a client belongs.
struct Home {
    place: Arc<Mutex<Option<Wire>>>,
    guard: Option<tokio::sync::OwnedMutexGuard<Option<Wire>>>,
}

/// The answers to one call.
struct Replies {
    /// None after the last.
    wire: Option<Wire>,
    home: Option<Home>,
    /// One that was read and not looked at.
    first: Option<Outcome<Value>>,
}

impl Replies {
    async fn send(&mut self, method: &str, parameters: Value, more: bool) -> Outcome<()> {
        match &mut self.wire {
            Some(wire) => wire.send(method, parameters, more).await.map_err(|_| closed()),
            None => Err(closed()),
        }
    }

    async fn next(&mut self) -> Option<Outcome<Value>> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.receive().await,
        }
    }

    /// Reads the next answer. After the last, and after an error, there is none.
    async fn receive(&mut self) -> Option<Outcome<Value>> {
        let Ok(reply) = self.wire.as_mut()?.receive().await else {
            self.wire = None;
            return Some(Err(closed()));
        };
        if !reply.continues {
            let wire = self.wire.take();
            if let Some(Home { place, guard }) = self.home.take() {
                match guard {
                    Some(mut guard) => *guard = wire,
                    None => *place.lock().await = wire,
                }
            }
        }
        let parameters = reply.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        Some(match reply.error {
            Some(name) => Err(error(&name, &parameters)),
            None => Ok(parameters),
        })
    }
}

/// A feed over answers.
struct Reading<T> {
    replies: Replies,
    read: fn(Value) -> Outcome<T>,
}

#[async_trait]
impl<T: Send> Feed<T> for Reading<T> {
    async fn next(&mut self) -> Option<Outcome<T>> {
        Some(self.replies.next().await?.and_then(self.read))
    }
}

/// The error of ours for one of Varlink.
fn error(name: &str, parameters: &Value) -> ControlError {
    let text = |field: &str| parameters.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (interface, last) = name.rsplit_once('.').unwrap_or(("", name));
    if interface != STANDARD {
        let kind = ErrorKind::from_name(last);
        let message =
            if kind.is_some() { text("message") } else { format!("{}: {}", name.escape_default(), text("message")) };
        return ControlError::new(kind.unwrap_or(ErrorKind::Failed), message);
    }
    match last {
        "PermissionDenied" => ControlError::new(
            ErrorKind::AccessDenied,
            format!("only root and members of the group {ADMIN_GROUP} may do this (socket {ADMIN_SOCKET})"),
        ),
        "InvalidParameter" => {
            let reason = text("message");
            let reason = if reason.is_empty() { "it makes no sense" } else { &reason };
            ControlError::new(ErrorKind::InvalidArgument, format!("{}: {reason}", text("parameter")))
        }
        "MethodNotFound" | "MethodNotImplemented" | "InterfaceNotFound" => ControlError::new(
            ErrorKind::NotSupported,
            format!("the service does not know {}{}; is it of another version?", text("method"), text("interface")),
        ),
        _ => ControlError::new(ErrorKind::Failed, name.escape_default()),
    }
}

fn closed() -> ControlError {
    ControlError::new(
        ErrorKind::NotRunning,
        "the service closed the connection; `journalctl -u peernix -e` may say why",
    )
}

fn unreachable(socket: &Path, error: &io::Error) -> ControlError {
    let place = if socket.as_os_str().is_empty() { String::new() } else { format!("{}: ", socket.display()) };
    match error.kind() {
        io::ErrorKind::PermissionDenied => ControlError::new(
            ErrorKind::AccessDenied,
            format!("{place}only root and members of the group {ADMIN_GROUP} may connect"),
        ),
        _ => ControlError::new(ErrorKind::NotRunning, format!("{place}nobody answers: {error}")),
    }
}

//! The Nix daemon, as a client of its worker protocol: for what the database does not give us.

mod connection;
mod frames;
mod operations;
mod wire;

pub(super) use frames::{COPY_PATH, Message};
pub(super) use operations::{Collection, Fetcher};

use super::{StoreError, ValidPath};
use crate::nix::{FormatError, StoreDir, StoreHash, StorePath};
use ::nix::unistd::{Gid, Group};
use connection::Connection;
use parking_lot::Mutex;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use wire::WireError;

/// The permission bit that lets everybody into a folder.
const OTHERS_ENTER: u32 = 0o001;
/// What a group is shown as that has no number here, and the group that Debian and Arch close the daemon's folder with.
const UNMAPPED: u32 = 65534;
const USUAL_GROUP: &str = "nix-users";
/// How many connections are used at once. Each is a process of the daemon.
const CONNECTIONS_MAX: usize = 4;
/// How long a connection may take to come up, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to register a root: a running garbage collection answers when it is done with the path.
const ROOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a daemon's error message is kept, in characters.
const MESSAGE_MAX: usize = 500;

/// The daemon of a store. It need not run (yet).
#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
    dir: StoreDir,
    idle: Mutex<Vec<Connection<UnixStream>>>,
    permits: Semaphore,
    connect_timeout: Duration,
}

impl Daemon {
    /// The daemon behind `socket`, of a store with paths in `dir`. Connects to nothing yet.
    pub(super) fn new(socket: PathBuf, dir: StoreDir) -> Self {
        Self {
            socket,
            dir,
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(CONNECTIONS_MAX),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// The same, with less time to connect.
    #[cfg(test)]
    pub(super) fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Where its socket is.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it answers.
    pub(super) async fn greet(&self) -> Result<(), StoreError> {
        let connection = self.connect().await?;
        self.put_back(connection);
        Ok(())
    }

    /// The valid path with this hash part.
    pub(super) async fn path_info(&self, hash: StoreHash) -> Result<Option<ValidPath>, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        // A connection that has lain idle may be dead, after a restart of the daemon for one: then a new one decides.
        if let Some(mut connection) = self.take_idle() {
            match self.within(QUESTION_TIMEOUT, connection.path_info(&self.dir, hash)).await {
                Ok(answer) => return self.answer(connection, hash, answer),
                Err(error) => log::debug!(reason:% = error; "the connection to the Nix daemon is made anew"),
            }
        }
        let mut connection = self.connect().await?;
        let answer = self.within(QUESTION_TIMEOUT, connection.path_info(&self.dir, hash)).await?;
        self.answer(connection, hash, answer)
    }

    fn answer(
        &self,
        connection: Connection<UnixStream>,
        hash: StoreHash,
        answer: Option<Result<ValidPath, FormatError>>,
    ) -> Result<Option<ValidPath>, StoreError> {
        self.put_back(connection);
        answer.transpose().map_err(|source| StoreError::Record { path: hash.to_string(), source })
    }

    /// A connection of its own for temp roots, which live as long as it does.
    pub(super) async fn root_keeper(&self) -> Result<RootKeeper, StoreError> {
        Ok(RootKeeper(self.connect().await?))
    }

    /// Keeps `path` from being collected as garbage as long as `keeper` lives.
    pub(super) async fn add_temp_root(&self, keeper: &mut RootKeeper, path: &StorePath) -> Result<(), StoreError> {
        self.within(ROOT_TIMEOUT, keeper.0.add_temp_root(&self.dir, path)).await
    }

    async fn connect(&self) -> Result<Connection<UnixStream>, StoreError> {
        self.within(self.connect_timeout, async {
            let stream = UnixStream::connect(&self.socket).await?;
            Connection::greet(stream).await
        })
        .await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, WireError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.error(error)),
            Err(_) => Err(StoreError::DaemonSilent { socket: self.socket.clone(), seconds: limit.as_secs() }),
        }
    }

    fn error(&self, error: WireError) -> StoreError {
        match error {
            WireError::Io(source) if source.kind() == ErrorKind::PermissionDenied => match group(&self.socket) {
                Some(group) => StoreError::NotMember { socket: self.socket.clone(), group, user: user() },
                None => StoreError::DaemonIo { socket: self.socket.clone(), source },
            },
            WireError::Io(source) => StoreError::DaemonIo { socket: self.socket.clone(), source },
            WireError::Protocol(what) => StoreError::Protocol { socket: self.socket.clone(), what },
            WireError::Refused(message) => StoreError::Refused(printable(&message)),
            WireError::HungUp => StoreError::ShutOut { socket: self.socket.clone(), user: user() },
        }
    }

    fn take_idle(&self) -> Option<Connection<UnixStream>> {
        self.idle.lock().pop()
    }

    /// Closes the connections that nobody uses.
    pub(super) fn hang_up(&self) {
        self.idle.lock().clear();
    }

    fn put_back(&self, connection: Connection<UnixStream>) {
        let mut idle = self.idle.lock();
        if idle.len() < CONNECTIONS_MAX {
            idle.push(connection);
        }
    }
}

/// The group of a socket's folder, if it is closed to others, as distributions have it.
fn group(socket: &Path) -> Option<String> {
    let folder = socket.parent()?.metadata().ok().filter(|folder| folder.mode() & OTHERS_ENTER == 0)?;
    let group = Gid::from_raw(folder.gid());
    // In a user namespace, where the unit runs, no group has its number; the name that distributions give it is known.
    if group.as_raw() == UNMAPPED && Group::from_name(USUAL_GROUP).ok().flatten().is_some() {
        return Some(USUAL_GROUP.to_owned());
    }
    Some(Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name))
}

/// Who this process is to the daemon.
fn user() -> String {
    let id = ::nix::unistd::geteuid();
    ::nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

/// A connection that holds temp roots.
#[derive(Debug)]
pub(super) struct RootKeeper(Connection<UnixStream>);

impl RootKeeper {
    /// Waits until the daemon hangs up, which no healthy daemon does on its own.
    pub(super) async fn ended(&self) -> io::Error {
        let stream = self.0.get_ref();
        loop {
            if let Err(error) = stream.readable().await {
                return error;
            }
            match stream.try_read(&mut [0; 1]) {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                // Nothing is due between two operations.
                Ok(_) => return ErrorKind::InvalidData.into(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return error,
            }
        }
    }
}

/// A daemon's message, without colours and line breaks, at most [`MESSAGE_MAX`] characters of it.
fn printable(message: &str) -> String {
    let mut shown = String::new();
    let mut characters = message.chars();
    while let Some(character) = characters.next() {
        if shown.chars().count() >= MESSAGE_MAX {
            shown.push('…');
            break;
        }
        match character {
            // An escape sequence of a terminal: up to the letter that ends it.
            '\u{1b}' => while characters.next().is_some_and(|c| !c.is_ascii_alphabetic()) {},
            '\n' | '\t' => shown.push(' '),
            other if other.is_control() => {}
            other => shown.push(other),
        }
    }
    shown
}

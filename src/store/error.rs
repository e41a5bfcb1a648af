//! What can go wrong with this machine's store.

use crate::nix::{FormatError, StorePath};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Why something of the store cannot be had. "There is no such path" is not an error but `None`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Neither the database nor the daemon of a store is there.
    #[error(
        "there is no Nix store: neither the database {database} nor the daemon's socket {socket} exists; install Nix, \
         or say in the configuration where the store is ([store] dir, state_dir, root)"
    )]
    Missing {
        /// Where the database was sought.
        database: PathBuf,
        /// Where the daemon's socket was sought.
        socket: PathBuf,
    },
    /// The database cannot be used and the daemon cannot help out.
    #[error(
        "the store cannot be read: {database}; and the Nix daemon, which could answer instead: {daemon}; give this user \
         read access to the database's directory{}", if daemon.is_shut_out() { "" } else { ", or start nix-daemon" }
    )]
    Unreadable {
        /// What is wrong with the database.
        database: Box<StoreError>,
        /// What is wrong with the daemon.
        daemon: Box<StoreError>,
    },
    /// SQLite refused.
    #[error("database {file}: {source}")]
    Database {
        /// The database.
        file: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Somebody is at work in the database, and has been for as long as a question can wait.
    #[error("database {file} is being written to and cannot be read now: {source}")]
    Busy {
        /// The database.
        file: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A record of the store is not in Nix's form.
    #[error("the store's record of {path}: {source}")]
    Record {
        /// Whose record.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The daemon cannot be reached, or hung up.
    #[error("daemon socket {socket}: {source}")]
    DaemonIo {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon took longer than it may.
    #[error("daemon socket {socket}: no answer within {seconds} s")]
    DaemonSilent {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// The daemon hung up before it said a word: what it does with users who may not ask it.
    #[error(
        "the Nix daemon at {socket} hangs up on the user {user}, as it does on users that `allowed-users` in its nix.conf \
         leaves out; add `extra-allowed-users = {user}` to nix.conf and restart nix-daemon"
    )]
    ShutOut {
        /// The socket.
        socket: PathBuf,
        /// Who we are to the daemon.
        user: String,
    },
    /// Only members of a group reach the daemon's socket.
    #[error(
        "the Nix daemon at {socket} is for members of the group {group} alone, and the user {user} is none:          `usermod --append --groups {group} {user}`, then restart peernix.service"
    )]
    NotMember {
        /// The socket.
        socket: PathBuf,
        /// The group of its folder.
        group: String,
        /// Who we are.
        user: String,
    },
    /// The daemon did not register a temp root in the time that a reader can wait.
    #[error("the Nix daemon did not protect the path from garbage collection in time")]
    RootNotInTime,
    /// What came from the socket is not the worker protocol as we know it.
    #[error("daemon socket {socket}: {what}")]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What was wrong.
        what: &'static str,
    },
    /// The daemon understood and refused.
    #[error("the Nix daemon says: {0}")]
    Refused(String),
    /// What only the Nix daemon can do cannot be done, because it cannot be reached.
    #[error("{what} needs the Nix daemon, which cannot be reached: {source}; start nix-daemon")]
    NeedsDaemon {
        /// What was to be done.
        what: &'static str,
        /// Why it cannot be reached.
        source: Box<StoreError>,
    },
    /// The path that something was to be done with is not in the store.
    #[error("{0} is not a valid path of this store")]
    NotValid(StorePath),
    /// There are as many pins as there may be.
    #[error("there are {limit} pins, and there may not be more; unpin something first")]
    TooManyPins {
        /// How many there may be.
        limit: usize,
    },
    /// A request makes no sense.
    #[error("{0}")]
    Argument(String),
    /// The path was valid a moment ago and is not any more.
    #[error("{0} is not a valid path any more (it was collected as garbage or replaced)")]
    Gone(StorePath),
    /// The files are not what the database says.
    #[error("{path} is damaged: {what}; `nix-store --verify-path` and `--repair-path` know more")]
    Corrupt {
        /// Which path.
        path: StorePath,
        /// The difference.
        what: String,
    },
    /// A file changed between the walk and the reading, or while it was read.
    #[error("{path}: the file {file} changed while it was read")]
    Changed {
        /// Which store path.
        path: StorePath,
        /// The name of the file in it.
        file: String,
    },
    /// A file or directory cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A limit of ours was exceeded.
    #[error("{what}: more than the limit of {limit}")]
    Limit {
        /// What was counted or measured, and of which thing.
        what: String,
        /// How much is allowed, in the unit that `what` names.
        limit: u64,
    },
    /// A range that is not inside the NAR.
    #[error("bytes {start}..{end} are not inside a NAR of {size} bytes")]
    Range {
        /// The first byte asked for.
        start: u64,
        /// The byte after the last.
        end: u64,
        /// The NAR's length.
        size: u64,
    },
    /// A name or target in the path is not UTF-8, which JSON cannot carry. Nix makes no listing of such a path either.
    #[error("{0} has no listing: a name in it is not UTF-8")]
    NoListing(StorePath),
    /// A value of the configuration cannot be used.
    #[error("{key}: {what}")]
    Configuration {
        /// Which key.
        key: &'static str,
        /// What is wrong and what to do.
        what: String,
    },
    /// Somebody else's attempt at the same thing failed.
    #[error(transparent)]
    Shared(#[from] Arc<StoreError>),
    /// The program is being shut down.
    #[error("the store is being closed")]
    Closed,
}

impl StoreError {
    /// The error itself, where it was shared among several who asked for the same thing.
    #[must_use]
    pub fn inner(&self) -> &Self {
        match self {
            Self::Shared(error) => error.inner(),
            other => other,
        }
    }

    /// Whether it may be over in a moment, so that it says nothing of what is in the store.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self.inner() {
            Self::Busy { .. } | Self::DaemonSilent { .. } | Self::Closed => true,
            Self::Unreadable { database, daemon } => database.is_passing() || daemon.is_passing(),
            _ => false,
        }
    }

    /// The same, saying what could not be done, if the daemon was not there for it.
    pub(super) fn needs_daemon(self, what: &'static str) -> Self {
        if self.is_absent() { Self::NeedsDaemon { what, source: Box::new(self) } } else { self }
    }

    /// Whether the daemon does not let this user in.
    pub(super) fn is_shut_out(&self) -> bool {
        matches!(self.inner(), Self::ShutOut { .. } | Self::NotMember { .. })
    }

    /// Whether a file is not there.
    pub(super) fn is_absent(&self) -> bool {
        let (Self::Io { source, .. } | Self::DaemonIo { source, .. }) = self.inner() else { return false };
        // A socket that nobody listens on is left behind by a daemon that was killed.
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }
}

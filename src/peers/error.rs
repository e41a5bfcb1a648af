//! What can go wrong when the machine's own side is set up, and when it speaks with a peer.

use super::identity::NodeId;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Why this machine cannot take part. For the administrator: each message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeersError {
    /// A file of the state directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} has mode {mode:o}, so others may read the node key: run chmod 600 on it, or delete it if it leaked (this machine then gets a new identity)", path.display())]
    KeyMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that says whom to keep out, and makes no sense.
    #[error("{} makes no sense: {problem}. It says which peers are blocked, so that nothing starts without it: restore it from a backup, or move it away to let in again whoever was blocked", path.display())]
    Decisions {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What was decided is in force, but will be forgotten.
    #[error("this is in force now, but will be forgotten at the next start: {0}; repeat it once that is put right")]
    NotSaved(Box<Self>),
    /// The file that says who is a member of the fleet makes no sense.
    #[error("{} makes no sense: {problem}. It says who was revoked, so that nothing starts without it: restore it from a backup, or move it away and join the fleet anew", path.display())]
    Fleet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// What the service manager hands over is not a fleet key.
    #[error("the credential 'fleet-key' has {0} bytes where a fleet key has 32: look at LoadCredential= of the unit")]
    FleetCredential(usize),
    /// Not a key.
    #[error("{} has {size} bytes where a node key has 32: restore it from a backup, or delete it (this machine then gets a new identity)", path.display())]
    KeySize {
        /// The key file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// What the service manager hands over is not a key.
    #[error("the credential 'node-key' has {0} bytes where a node key has 32: look at LoadCredential= of the unit")]
    CredentialSize(usize),
    /// The TLS library refused what we gave it.
    #[error("cannot set up TLS with the node key: {0}")]
    Tls(#[from] rustls::Error),
    /// A fixed peer of the configuration.
    #[error("'{0}' is not a peer's address (expected HOST:PORT or NODEID@HOST:PORT, IPv6 addresses in brackets)")]
    FixedPeer(String),
    /// A peer that is this machine.
    #[error("that is this machine itself")]
    Ourselves,
    /// Another node is expected at an address that is in the configuration.
    #[error("{0} is in [discovery] peers: write the node's id in front of it there")]
    Configured(String),
    /// A list is full.
    #[error("no more than {limit} {what}: forget or unblock some first")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// No peer is meant.
    #[error("no peer has the id or name '{0}' ('peernixctl peers' lists them)")]
    NoSuchPeer(String),
    /// Several peers are meant.
    #[error("'{text}' may be one of several peers: {ids}")]
    Ambiguous {
        /// What was given.
        text: String,
        /// The identities of some of those it may mean.
        ids: String,
    },
    /// The peer did not answer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A peer that does not know what a measurement is.
    #[error("{0} has a Peernix that cannot be measured: update it")]
    TooOld(String),
    /// A peer that sends nothing at the moment.
    #[error("{0} does not let itself be measured now (it answers {1}): it is busy, or its uploads are paused")]
    NotMeasured(String, u16),
}

impl PeersError {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// Why a peer did not answer. These are everyday events on a network, and none of them is shown to Nix.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nothing is known about where the peer is.
    #[error("no address of the peer is known")]
    NoAddress,
    /// The peer is banned or not admitted.
    #[error("the peer is blocked: {0}")]
    Blocked(String),
    /// TCP did not come up.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A step took longer than it may.
    #[error("{step} took longer than {limit:?}")]
    Time {
        /// What was waited for.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// TLS did not come up.
    #[error("TLS handshake with {address}: {source}")]
    Handshake {
        /// With whom.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A client did not get through TLS.
    #[error("TLS handshake of a client: {0}")]
    Accept(io::Error),
    /// The other side is someone else.
    #[error("expected node {expected}, found {found}")]
    Identity {
        /// Whom we wanted.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The other side is not on the list of nodes.
    #[error("node {0} is not among the nodes of [fleet]")]
    NotAdmitted(NodeId),
    /// The other side presented no usable key.
    #[error("the other side showed no ed25519 raw public key")]
    NoIdentity,
    /// The other side does not speak our protocol.
    #[error("the other side does not speak 'peernix/1' (ALPN)")]
    Protocol,
    /// The peer has no room for another connection: it closed this one without a word. That is no fault of it.
    #[error("{0} has no room for another connection")]
    Busy(SocketAddr),
    /// All that we ask of the peer at a time is being asked.
    #[error("{0} requests to the peer are under way already")]
    AllInUse(usize),
    /// The request target was not one.
    #[error("'{0}' is not a request target")]
    Target(String),
    /// The connection ended while nothing was asked.
    #[error("the connection ended")]
    Closed,
    /// HTTP failed.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The other side does not let us in, in its own words.
    #[error("it does not let this machine in: {0}")]
    Refused(String),
    /// The other side is no member of the fleet.
    #[error("it is not let in: {0}")]
    NoMember(String),
    /// The answer to our greeting was not one.
    #[error("hello: {0}")]
    Hello(&'static str),
}

impl LinkError {
    /// Whether the peer as a whole is in doubt, not only this request.
    #[must_use]
    pub const fn doubts_peer(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Time { .. } | Self::Handshake { .. } | Self::Http(_) | Self::Closed => true,
            Self::Identity { .. } | Self::NotAdmitted(_) | Self::NoIdentity | Self::Protocol | Self::Hello(_) => true,
            Self::Refused(_) | Self::NoMember(_) => true,
            Self::Accept(_) | Self::NoAddress | Self::Blocked(_) | Self::Target(_) => false,
            Self::Busy(_) | Self::AllInUse(_) => false,
        }
    }

    /// Whether this machine has no address from which to reach the peer.
    pub(super) fn has_no_way(&self) -> bool {
        use io::ErrorKind::{AddrNotAvailable, NetworkDown, NetworkUnreachable};
        matches!(self, Self::Connect { source, .. } if matches!(source.kind(), AddrNotAvailable | NetworkDown | NetworkUnreachable))
    }

    /// The same again, as far as it can be told twice: why a connection could not be made.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::NoAddress => Self::NoAddress,
            Self::Busy(address) => Self::Busy(*address),
            Self::Connect { address, source } => Self::Connect { address: *address, source: source.kind().into() },
            Self::Handshake { address, source } => Self::Handshake { address: *address, source: source.kind().into() },
            Self::Identity { expected, found } => Self::Identity { expected: *expected, found: *found },
            Self::NotAdmitted(id) => Self::NotAdmitted(*id),
            Self::NoIdentity => Self::NoIdentity,
            Self::Protocol => Self::Protocol,
            Self::Time { step, limit } => Self::Time { step, limit: *limit },
            _ => Self::Closed,
        }
    }
}

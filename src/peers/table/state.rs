//! The states of a peer, and what is told about it.

use super::super::identity::NodeId;
use serde::Serialize;
use std::fmt;
use std::net::SocketAddr;

/// Where a peer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Heard of, not spoken with yet.
    Discovered,
    /// It answered, and its connection stands.
    Online,
    /// Its connection ended or it missed an answer; it is being dialled. It gets no requests meanwhile.
    Suspect,
    /// It could not be reached, and is tried again with growing pauses.
    Offline,
    /// Banned for a time, or blocked by the administrator.
    Blocked,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovered => "discovered",
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
            Self::Blocked => "blocked",
        })
    }
}

/// How a peer came to be known, the surest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was online before this program started.
    Remembered,
    /// It greeted us.
    Introduced,
    /// It was announced on the link.
    Mdns,
    /// The administrator wrote it down.
    Fixed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remembered => "remembered",
            Self::Introduced => "introduced",
            Self::Mdns => "mdns",
            Self::Fixed => "fixed",
        })
    }
}

/// A change in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A peer went from one state to another; `from` is `None` when it is new.
    Changed {
        /// Which.
        id: NodeId,
        /// Its name for itself, empty before the first greeting.
        name: String,
        /// Its state before.
        from: Option<State>,
        /// Its state now.
        to: State,
    },
    /// A peer was dropped from the table.
    Forgotten {
        /// Which.
        id: NodeId,
        /// Its name for itself, empty if it never greeted.
        name: String,
    },
    /// A peer lied or misbehaved and is banned for a time. Comes besides the change of its state.
    Banned {
        /// Which.
        id: NodeId,
        /// Its name for itself, empty before the first greeting.
        name: String,
        /// What it did.
        reason: String,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// The administrator blocked a peer. Comes besides the change of its state.
    Blocked {
        /// Which.
        id: NodeId,
        /// Its name for itself, empty if it is not known.
        name: String,
        /// Why, in the administrator's words.
        reason: String,
    },
    /// The administrator lifted the block on a peer, or the ban.
    Unblocked {
        /// Which.
        id: NodeId,
        /// Its name for itself, empty if it is not known.
        name: String,
    },
    /// The administrator added a peer.
    Added {
        /// Its address, as `HOST:PORT` or `NODEID@HOST:PORT`.
        address: String,
        /// What the administrator calls it.
        name: Option<String>,
    },
}

/// One peer as shown to people and to programs (`/peers`).
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Its identity.
    pub id: NodeId,
    /// Its own name for itself; empty before the first greeting.
    pub name: String,
    /// Its version; empty before the first greeting.
    pub version: String,
    /// Where it may be reached, the best first.
    pub addresses: Vec<SocketAddr>,
    /// Where it stands.
    pub state: State,
    /// How it came to be known.
    pub source: Source,
    /// Smoothed time to the first byte, in microseconds; `None` before the first answer.
    pub latency_us: Option<u64>,
    /// Smoothed throughput of large bodies, in bytes per second; `None` before the first.
    pub throughput: Option<u64>,
    /// Failed requests since the last one that went well.
    pub failures: u32,
    /// How long the circuit breaker keeps requests away, in milliseconds; `None` when it is closed.
    pub breaker_ms: Option<u64>,
    /// Why it is banned and for how many more seconds; `None` when it is not.
    pub ban: Option<BanStatus>,
    /// When it was last online, in seconds since 1970; `None` if never.
    pub last_seen: Option<u64>,
    /// When it was first online, in seconds since 1970; `None` if never, or if that was before this was noted.
    pub first_seen: Option<u64>,
    /// Bytes of NARs that came from it.
    pub bytes_in: u64,
    /// Bytes of answers that our share gave it.
    pub bytes_out: u64,
    /// How well it does, from 0 (useless) to 1 (perfect): by this peers are ranked.
    pub score: f64,
    /// As whom it is served: `open` (as anyone) or `enrolled` (named by the administrator as a member).
    pub admission: &'static str,
    /// Whether the administrator added it at run time.
    pub added: bool,
    /// What the administrator calls it, if it was added with a name.
    pub label: Option<String>,
    /// Why and since when the administrator blocks it; `None` when that is not so.
    pub block: Option<Block>,
}

/// A block by the administrator: without an end, unlike a ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Why, in the administrator's words.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// A ban as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BanStatus {
    /// Why.
    pub reason: String,
    /// For how many more seconds.
    pub seconds: u64,
}

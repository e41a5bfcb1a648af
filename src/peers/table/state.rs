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
    /// Banned for a time.
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
        /// Its state before.
        from: Option<State>,
        /// Its state now.
        to: State,
    },
    /// A peer was dropped from the table.
    Forgotten {
        /// Which.
        id: NodeId,
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
}

/// A ban as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BanStatus {
    /// Why.
    pub reason: String,
    /// For how many more seconds.
    pub seconds: u64,
}

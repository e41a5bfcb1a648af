//! Where a peer stands, how it came to be known, and what is told of changes.

use super::identity::NodeId;
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
    /// It is left alone until something is to be had from it: there are so many machines that relays tell what each has.
    Resting,
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
            Self::Resting => "resting",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
            Self::Blocked => "blocked",
        })
    }
}

/// How a peer came to be known, the surest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provenance {
    /// It was online before this program started.
    Remembered,
    /// It is of another site, which said where it is: it is far away, and left alone until something is to be had from it.
    Site,
    /// A relay named it.
    Relay,
    /// It greeted us.
    Introduced,
    /// It was announced on the link.
    Mdns,
    /// The administrator wrote it down.
    Fixed,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remembered => "remembered",
            Self::Site => "site",
            Self::Relay => "relay",
            Self::Introduced => "introduced",
            Self::Mdns => "mdns",
            Self::Fixed => "fixed",
        })
    }
}

/// What is wrong with how this machine finds others, and is found. For people and for the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Why machines cannot be found by multicast DNS; `None` when they can, or are not to be.
    pub discovery: Option<String>,
    /// Where another machine was found that has this machine's node key.
    pub twin: Option<SocketAddr>,
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
    },
}

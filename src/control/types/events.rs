//! Events.

use super::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// What happened.
    EventKind {
        /// A peer is new.
        PeerAdded = "peer-added",
        /// A peer was dropped.
        PeerRemoved = "peer-removed",
        /// A peer went `from` one state `to` another.
        PeerStateChanged = "peer-state-changed",
        /// There is nothing to do with a peer any more; `message` says why.
        PeerBlocked = "peer-blocked",
        /// There may be something to do with a peer again.
        PeerUnblocked = "peer-unblocked",
        /// Somebody sent what was not what was signed; `message` says what.
        TrustViolation = "trust-violation",
        /// A path of this machine's own store is damaged, and is not shared any more.
        PathDamaged = "path-damaged",
        /// A transfer began.
        TransferStarted = "transfer-started",
        /// A transfer waits, because all who have the path are busy.
        TransferWaiting = "transfer-waiting",
        /// The machines of the network agreed on who downloads what none of them has: this one (`to` is `downloads`), or the one that it `follows`, whose name is in `message`.
        TransferClaimed = "transfer-claimed",
        /// A transfer ended; `message` says how if not well.
        TransferFinished = "transfer-finished",
        /// A peer told what it has, or what changed; `bytes` of an update, `message` says how much it is.
        IndexUpdated = "index-updated",
        /// Another key signs; `from` and `to` are fingerprints.
        KeyRotated = "key-rotated",
        /// A key must not sign any more.
        KeyRevoked = "key-revoked",
        /// The list of trusted keys changed.
        TrustChanged = "trust-changed",
        /// The fleet of this machine, or who belongs to it, changed; `to` is `founded`, `joined`, `enrolled` or `revoked`.
        FleetChanged = "fleet-changed",
        /// The configuration was read again.
        Reloaded = "reloaded",
        /// The configuration could not be read again; `message` says why.
        ReloadFailed = "reload-failed",
        /// The service takes no new work, or takes it again.
        DrainChanged = "drain-changed",
        /// Garbage was collected.
        GarbageCollected = "garbage-collected",
        /// A path was pinned or unpinned.
        PinChanged = "pin-changed",
        /// A job began.
        JobStarted = "job-started",
        /// A job ended; `to` is its state.
        JobFinished = "job-finished",
        /// The counters began anew.
        StatisticsReset = "statistics-reset",
        /// Other machines can be found by multicast DNS, or cannot; `to` is `working` or `blocked`, `message` says why.
        DiscoveryChanged = "discovery-changed",
        /// This machine has another node id than before; `from` and `to` are the ids.
        IdentityChanged = "identity-changed",
        /// Another machine has this machine's node key, or has it no more; `to` is `found` or `gone`, `message` its address.
        IdentityConflict = "identity-conflict",
    }
}

impl EventKind {
    /// Whether it may happen very often, so that only those hear of it who asked for events.
    #[must_use]
    pub const fn is_frequent(self) -> bool {
        matches!(
            self,
            Self::TransferStarted
                | Self::TransferWaiting
                | Self::TransferClaimed
                | Self::TransferFinished
                | Self::IndexUpdated
        )
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its place among all events; grows over restarts too.
    pub cursor: u64,
    /// When.
    pub timestamp: u64,
    /// What.
    pub kind: EventKind,
    /// The id of the peer that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// That peer's name for itself, or the name of a key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The full store path that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// The bytes that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// The number of the job, or of the transfer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<u64>,
    /// What it was before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// What it is now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// More about it, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

impl Event {
    /// An event without details; cursor and time are set when it is [told](crate::control::EventLog::tell).
    #[must_use]
    pub const fn new(kind: EventKind) -> Self {
        Self {
            cursor: 0,
            timestamp: 0,
            kind,
            peer: None,
            name: None,
            path: None,
            bytes: None,
            id: None,
            from: None,
            to: None,
            message: None,
        }
    }
}

/// Which events are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFilter {
    /// These kinds; empty for all.
    #[serde(default)]
    pub kinds: Vec<EventKind>,
    /// Also those after this cursor that are still kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
}

/// What a reader of events is told.
#[derive(Debug, Clone, PartialEq)]
pub enum EventItem {
    /// Everything after this cursor will be told.
    Ready {
        /// The newest event by now.
        cursor: u64,
    },
    /// Something happened.
    Event(Event),
    /// The reader was too slow, and this many events are gone.
    Dropped {
        /// How many.
        count: u64,
    },
}

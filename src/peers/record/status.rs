//! What is shown of a peer.

use crate::peers::identity::NodeId;
use crate::peers::state::{Provenance, State};
use serde::Serialize;
use std::net::SocketAddr;

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
    pub source: Provenance,
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
    /// Why and since when the administrator blocks it; `None` when that is not so.
    pub block: Option<Block>,
    /// Why it does not let this machine in, or is not let in; `None` when that is not so.
    pub trouble: Option<String>,
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

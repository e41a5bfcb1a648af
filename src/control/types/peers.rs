//! Peers.

use serde::{Deserialize, Serialize};

/// Which peers are asked about; nothing set means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerFilter {
    /// An id, a beginning of one, or a name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// A state: `discovered`, `online`, `resting`, `suspect`, `offline`, `blocked`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<String>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its identity.
    pub id: String,
    /// Its name for itself, which proves nothing; empty before it first answered.
    pub name: String,
    /// Its version; empty before it first answered.
    pub version: String,
    /// Where it may be reached, the best first.
    pub addresses: Vec<String>,
    /// How it came to be known: `mdns`, `fixed`, `introduced`, `relay`, `remembered`.
    pub source: String,
    /// Where it stands: `discovered`, `online`, `resting`, `suspect`, `offline`, `blocked`.
    pub state: String,
    /// As whom it is served: `anyone` or `enrolled`.
    pub audience: String,
    /// Whether an administrator added it while the service ran.
    pub added: bool,
    /// Why there is nothing to do with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blocked: Option<Blocked>,
    /// Why it does not let this machine in, or is not let in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// When it was first heard of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_seen_timestamp: Option<u64>,
    /// When it was last online.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen_timestamp: Option<u64>,
    /// Smoothed time to the first byte of an answer.
    #[serde(rename = "latencyUSec", skip_serializing_if = "Option::is_none", default)]
    pub latency_usec: Option<u64>,
    /// Smoothed throughput, in bytes per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub throughput: Option<u64>,
    /// Bytes of NARs that came from it.
    pub bytes_in: u64,
    /// Bytes that it was sent.
    pub bytes_out: u64,
    /// Failed requests since the last one that went well.
    pub failures: u32,
    /// How much it is preferred, 0 to 1.
    pub score: f64,
    /// How many paths it says that it has; left out where it does not say, or is not believed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index_entries: Option<u64>,
    /// When that last changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index_timestamp: Option<u64>,
    /// How often it did not have what it says, since it was last online.
    pub index_wrong_claims: u64,
}

impl Peer {
    /// Whether it can be asked.
    #[must_use]
    pub fn is_online(&self) -> bool {
        matches!(self.state.as_str(), "online" | "resting")
    }
}

/// Why there is nothing to do with a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// Why.
    pub reason: String,
    /// Until when; left out when an administrator blocked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_timestamp: Option<u64>,
}

/// How fast the line to a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// The identity of the peer.
    pub id: String,
    /// Its name for itself.
    pub name: String,
    /// The shortest time to an answer.
    #[serde(rename = "latencyUSec")]
    pub latency_usec: u64,
    /// How many bytes came.
    pub bytes: u64,
    /// In what time.
    #[serde(rename = "durationUSec")]
    pub duration_usec: u64,
}

impl Measurement {
    /// Bytes a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        super::time::per_second(self.bytes, self.duration_usec)
    }
}

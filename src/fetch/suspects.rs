//! Peers that had a part in wrong content of a NAR when nobody could tell which of them sent it.
//!
//! They are asked last for that NAR, and one of them alone: whoever then sends wrong content is known.

use crate::nix::NarHash;
use crate::peers::NodeId;
use moka::sync::Cache;
use std::collections::HashMap;
use std::time::Duration;

/// How long a suspicion lasts.
const LASTS: Duration = Duration::from_secs(10 * 60);
/// For how many NARs suspicions are kept.
const NARS: u64 = 1024;

/// The suspicions, by NAR.
pub(super) struct Suspects(Cache<NarHash, HashMap<NodeId, u32>>);

impl Suspects {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(NARS).time_to_live(LASTS).build())
    }

    /// The suspects of `nar`, and how often they had a part in it.
    pub(super) fn of(&self, nar: NarHash) -> HashMap<NodeId, u32> {
        self.0.get(&nar).unwrap_or_default()
    }

    /// Adds to the suspicion against these peers.
    pub(super) fn add(&self, nar: NarHash, peers: impl IntoIterator<Item = NodeId>) {
        let mut suspects = self.of(nar);
        for peer in peers {
            *suspects.entry(peer).or_default() += 1;
        }
        self.0.insert(nar, suspects);
    }

    /// The content came whole and right at last.
    pub(super) fn clear(&self, nar: NarHash) {
        self.0.invalidate(&nar);
    }
}

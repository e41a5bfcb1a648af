//! Peers that had a part in wrong content of a NAR when nobody could tell which of them sent it.
//!
//! They are asked last for that NAR, and one of them alone: whoever then sends wrong content is known.

use crate::fetch::source::SourceId;
use crate::nix::NarHash;
use moka::sync::Cache;
use std::collections::HashMap;
use std::time::Duration;

/// How long a suspicion lasts.
const LASTS: Duration = Duration::from_secs(10 * 60);
/// For how many NARs suspicions are kept.
const NARS: u64 = 1024;

/// The suspicions, by NAR.
pub(crate) struct Suspects(Cache<NarHash, HashMap<SourceId, u32>>);

impl Suspects {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(NARS).time_to_live(LASTS).build())
    }

    /// How often `id` had a part in wrong content of `nar`.
    pub(crate) fn suspicion(&self, nar: NarHash, id: &SourceId) -> u32 {
        self.0.get(&nar).and_then(|suspects| suspects.get(id).copied()).unwrap_or_default()
    }

    /// Adds to the suspicion against those of them that are peers.
    pub(crate) fn add(&self, nar: NarHash, ids: impl IntoIterator<Item = SourceId>) {
        let mut suspects = self.0.get(&nar).unwrap_or_default();
        for id in ids.into_iter().filter(SourceId::is_peer) {
            *suspects.entry(id).or_default() += 1;
        }
        self.0.insert(nar, suspects);
    }

    /// The content came whole and right at last.
    pub(crate) fn clear(&self, nar: NarHash) {
        self.0.invalidate(&nar);
    }
}

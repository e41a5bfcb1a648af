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
pub(crate) struct Suspects {
    nars: Cache<NarHash, HashMap<SourceId, u32>>,
    /// Those that passed on what was wrong, whatever it was of.
    passed_on: Cache<SourceId, ()>,
}

impl Suspects {
    pub(crate) fn new() -> Self {
        let passed_on = Cache::builder().max_capacity(NARS).time_to_live(LASTS).build();
        Self { nars: Cache::builder().max_capacity(NARS).time_to_live(LASTS).build(), passed_on }
    }

    /// How often `id` had a part in wrong content of `nar`.
    pub(crate) fn suspicion(&self, nar: NarHash, id: &SourceId) -> u32 {
        self.nars.get(&nar).and_then(|suspects| suspects.get(id).copied()).unwrap_or_default()
    }

    /// Whether anybody is suspected of having sent wrong content of `nar`: then nobody is followed who fetches it.
    pub(crate) fn is_doubtful(&self, nar: NarHash) -> bool {
        self.nars.get(&nar).is_some_and(|suspects| !suspects.is_empty())
    }

    /// Whether this one passed on what was wrong, of late.
    pub(crate) fn passed_on(&self, id: &SourceId) -> bool {
        self.passed_on.contains_key(id)
    }

    /// Adds to the suspicion against those of them that are peers.
    pub(crate) fn add(&self, nar: NarHash, ids: impl IntoIterator<Item = SourceId>) {
        let mut suspects = self.nars.get(&nar).unwrap_or_default();
        for id in ids.into_iter().filter(SourceId::is_peer) {
            if matches!(id, SourceId::Partial(_)) {
                self.passed_on.insert(id.clone(), ());
            }
            *suspects.entry(id).or_default() += 1;
        }
        self.nars.insert(nar, suspects);
    }

    /// The content came whole and right at last.
    pub(crate) fn clear(&self, nar: NarHash) {
        self.nars.invalidate(&nar);
    }
}

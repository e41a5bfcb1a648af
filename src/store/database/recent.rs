//! The paths that were asked about lately, each with the state of the database that the answer is from. While that has not changed, the
//! answer has not either: who sends a NAR asks whether its path is still there, and who sends many asks often.

use super::stamp::Mark;
use crate::nix::{StoreHash, StorePath};
use crate::store::ValidPath;
use moka::sync::Cache;
use std::sync::Arc;

/// How much is kept, in bytes.
const MAX: u64 = 2 * 1024 * 1024;
/// What an entry takes beside its references, in bytes.
const ENTRY: usize = 768;

/// The paths and their states.
#[derive(Debug)]
pub(super) struct Recent(Cache<StoreHash, (Mark, Arc<ValidPath>)>);

impl Recent {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let weigh = |_: &StoreHash, (_, path): &(Mark, Arc<ValidPath>)| {
            let references = path.info.references.len() * size_of::<StorePath>() * 2;
            u32::try_from(ENTRY + references).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(MAX).weigher(weigh).build())
    }

    /// The path, if it was asked about in the state that the database is in `now`.
    pub(super) fn get(&self, hash: &StoreHash, now: impl FnOnce() -> Option<Mark>) -> Option<Arc<ValidPath>> {
        let (mark, path) = self.0.get(hash)?;
        (Some(mark) == now()).then_some(path)
    }

    /// Remembers what the database said in the state `mark`.
    pub(super) fn insert(&self, hash: StoreHash, mark: Mark, path: Arc<ValidPath>) {
        self.0.insert(hash, (mark, path));
    }

    /// Forgets all, and says roughly how many bytes that was.
    pub(super) fn clear(&self) -> u64 {
        let size = self.0.weighted_size();
        self.0.invalidate_all();
        size
    }
}

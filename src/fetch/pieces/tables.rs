//! The tables of what this machine has: noted when a NAR was hashed anyway, or made when somebody asks.

use super::table::PieceTable;
use crate::nix::NarHash;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much they take at most, in bytes: those of 256 GiB of NARs.
const MEMORY: u64 = 8 * 1024 * 1024;
/// How long a NAR is not read again that was not what was signed, and for how many that is remembered.
const DAMAGED: Duration = Duration::from_secs(10 * 60);
const DAMAGED_MAX: u64 = 1024;
/// What one takes beside its links, in bytes.
const OVERHEAD: usize = 128;

/// The tables. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Tables {
    known: Cache<NarHash, PieceTable>,
    /// Those whose content was not what was signed, lately.
    damaged: Cache<NarHash, ()>,
    making: Arc<Semaphore>,
}

impl Default for Tables {
    fn default() -> Self {
        let weight =
            |_: &NarHash, table: &PieceTable| u32::try_from(table.to_bytes().len() + OVERHEAD).unwrap_or(u32::MAX);
        // One at a time: each reads a NAR from the disk and hashes it.
        let known = Cache::builder().max_capacity(MEMORY).weigher(weight).build();
        let damaged = Cache::builder().max_capacity(DAMAGED_MAX).time_to_live(DAMAGED).build();
        Self { known, damaged, making: Arc::new(Semaphore::new(1)) }
    }
}

impl Tables {
    /// The table of a NAR, if it is known.
    #[must_use]
    pub fn get(&self, nar: &NarHash) -> Option<PieceTable> {
        self.known.get(nar)
    }

    /// Notes a table, which hashing all of the NAR has given.
    pub fn note(&self, nar: NarHash, table: PieceTable) {
        self.known.insert(nar, table);
    }

    /// Notes that hashing all of the NAR gave something else than was signed.
    pub fn note_damaged(&self, nar: NarHash) {
        self.damaged.insert(nar, ());
    }

    /// Whether that was noted lately.
    #[must_use]
    pub fn is_damaged(&self, nar: &NarHash) -> bool {
        self.damaged.contains_key(nar)
    }

    /// The right to make one, until it is dropped; `None` while somebody else does.
    #[must_use]
    pub fn try_make(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.making).try_acquire_owned().ok()
    }
}

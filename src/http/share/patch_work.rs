//! How much work patches may make.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many patches may be on their way. Each takes some MiB.
pub(super) const PATCHES: usize = 4;
/// How many frames are made at a time: one keeps a processor busy.
const MAKERS: usize = 1;

/// The places for them.
pub(super) struct PatchWork {
    pub(super) streams: Arc<Semaphore>,
    pub(super) makers: Arc<Semaphore>,
}

impl PatchWork {
    pub(super) fn new() -> Self {
        Self { streams: Arc::new(Semaphore::new(PATCHES)), makers: Arc::new(Semaphore::new(MAKERS)) }
    }
}

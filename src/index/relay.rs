//! What this machine tells as a relay: where there are many machines, a few of them tell the others what all have. Who they are is decided in
//! the room of the peers.

use super::union::Union;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::Notify;

/// What a relay tells.
#[derive(Default)]
pub(super) struct Relay {
    /// `None`: this machine does not relay.
    union: Mutex<Option<Union>>,
    /// The same without a lock, which may be held for as long as it takes to put millions of entries in order.
    is_on: AtomicBool,
    /// It may be another than before.
    news: Notify,
}

impl Relay {
    /// Whether this machine relays.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// It does from now on, or no longer.
    pub(super) fn set(&self, union: Option<Union>) {
        let mut before = self.union.lock();
        self.is_on.store(union.is_some(), Relaxed);
        *before = union;
    }

    /// What it tells, for a moment.
    pub(super) fn union(&self) -> MutexGuard<'_, Option<Union>> {
        self.union.lock()
    }

    /// Something may have changed.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    /// Waits until something may have changed.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

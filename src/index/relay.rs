//! What this machine tells as a relay: where there are many machines, a few of them tell the others what all have. Who they are is decided in
//! the room of the peers.

use super::union::Union;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// What a relay tells.
#[derive(Default)]
pub(super) struct Relay {
    /// `None`: this machine does not relay.
    union: Mutex<Option<Union>>,
    /// It may be another than before.
    news: Notify,
}

impl Relay {
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

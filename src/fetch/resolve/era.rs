//! How long "nobody has it" holds: until somebody comes who was not asked.
//!
//! Nobody walks over what is remembered. Each miss is remembered with the era in which its lookup began, and one of another era is
//! none.

use crate::peers::{PeerEvent, State};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::watch;

/// Counts the times at which a miss became worth another lookup.
pub(crate) struct Era {
    /// Who comes and goes; read when the era is asked for.
    events: Mutex<Receiver<PeerEvent>>,
    /// Moves when a peer that was there may have more than before.
    more: Option<Mutex<watch::Receiver<u64>>>,
    count: AtomicU64,
}

impl Era {
    /// The first one. `events` and `more` tell of peers from now on.
    pub(crate) fn new(events: Receiver<PeerEvent>, more: Option<watch::Receiver<u64>>) -> Self {
        Self { events: Mutex::new(events), more: more.map(Mutex::new), count: AtomicU64::new(0) }
    }

    /// The number of this era.
    pub(crate) fn now(&self) -> u64 {
        if let Some(more) = &self.more {
            let mut more = more.lock();
            if more.has_changed().unwrap_or(false) {
                more.mark_unchanged();
                self.end();
            }
        }
        let mut events = self.events.lock();
        loop {
            match events.try_recv() {
                // Of what was missed, something may have been it.
                Ok(PeerEvent::Changed { to: State::Online, .. }) | Err(TryRecvError::Lagged(_)) => self.end(),
                Ok(_) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return self.count.load(Relaxed),
            }
        }
    }

    /// Begins the next one.
    pub(crate) fn end(&self) {
        self.count.fetch_add(1, Relaxed);
    }
}

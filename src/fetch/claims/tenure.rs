//! What directories are told of one transfer while it runs.

use super::directory::{Renewal, Role};
use crate::fetch::transfer::spool::Spools;
use crate::nix::NarHash;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What is told of a transfer.
pub(crate) struct Tenure {
    nar: NarHash,
    serves: AtomicBool,
    /// A directory was asked: it may know of this whatever came of that.
    is_known: AtomicBool,
    came: AtomicU64,
    /// `None`: nobody was told of it, or it was given up.
    role: Mutex<Option<Role>>,
    spools: Spools,
}

impl Tenure {
    /// Of a transfer of `nar` that nobody was told of. `serves`: what comes can be streamed on.
    pub(crate) fn new(nar: NarHash, serves: bool, spools: Spools) -> Self {
        let (serves, is_known, came) = (AtomicBool::new(serves), AtomicBool::new(false), AtomicU64::new(0));
        Self { nar, serves, is_known, came, role: Mutex::default(), spools }
    }

    /// So many bytes are there.
    pub(crate) fn reached(&self, came: u64) {
        self.came.store(came, Relaxed);
    }

    /// It does this from now on; `None`: nobody is told of it.
    pub(crate) fn plays(&self, role: Option<Role>) {
        *self.role.lock() = role;
    }

    /// Whether what comes can be streamed on.
    pub(crate) fn serves(&self) -> bool {
        self.serves.load(Relaxed)
    }

    /// What comes can be streamed on no longer.
    pub(crate) fn serves_no_more(&self) {
        self.serves.store(false, Relaxed);
    }

    /// Notes that a directory is asked.
    pub(crate) fn asked(&self) {
        self.is_known.store(true, Relaxed);
    }

    /// Whether a directory was asked.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Relaxed)
    }

    /// Which NAR it is of.
    pub(crate) const fn nar(&self) -> NarHash {
        self.nar
    }

    /// Ends it: what is told last; `None`: nobody knows of it.
    pub(crate) fn end(&self, last: Option<Role>) -> Option<Renewal> {
        self.role.lock().take();
        self.is_known.swap(false, Relaxed).then(|| self.with(last))
    }

    /// What is told now; `None`: nothing.
    pub(crate) fn renewal(&self) -> Option<Renewal> {
        let role = (*self.role.lock())?;
        Some(self.with(Some(role)))
    }

    /// What is told of it if it does this.
    pub(crate) fn with(&self, role: Option<Role>) -> Renewal {
        let (came, load) = (self.came.load(Relaxed), self.spools.load());
        let serves = self.serves() && load.is_some();
        Renewal { nar: self.nar, role, came, serves, sends: load.unwrap_or_default() }
    }
}

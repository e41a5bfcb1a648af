//! The trust of this room as it is now: it changes while lookups run, and none of them may mix the old with the new.
//!
//! A lookup takes it once, before it sends its first question, and judges every answer by that. What it finds is
//! remembered under the number of that trust, so that another trust begins with an empty memory even while old lookups
//! still end. A peer that was asked before a change may answer in the light of the other trust: that is no lie.

use super::Trust;
use super::error::{Lie, SourceError};
use super::source;
use crate::nix::{PathInfo, StoreHash, TrustedKeys};
use crate::peers::Peer;
use parking_lot::RwLock;
use std::sync::Arc;

/// A trust and its number.
#[derive(Clone, Default)]
pub(super) struct Trusted {
    pub(super) trust: Arc<Trust>,
    /// Another one after each change.
    pub(super) number: u64,
}

/// The trust that holds now. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct CurrentTrust(Arc<RwLock<Trusted>>);

impl CurrentTrust {
    pub(super) fn new(trust: Trust) -> Self {
        Self(Arc::new(RwLock::new(Trusted { trust: Arc::new(trust), number: 0 })))
    }

    pub(super) fn now(&self) -> Trusted {
        self.0.read().clone()
    }

    /// Asks a peer for a path's narinfo and judges it by `trusted`; see [`source::ask_peer`].
    ///
    /// # Errors
    /// As there, except that nobody is called a liar for what was asked before a change and answered after it.
    pub(super) async fn ask_peer(
        &self,
        peer: &Peer,
        hash: StoreHash,
        trusted: &Trusted,
    ) -> Result<Option<PathInfo>, SourceError> {
        match source::ask_peer(peer, hash, &trusted.trust).await {
            Err(SourceError::Lie(Lie::Unsigned | Lie::Forged(_))) if self.now().number != trusted.number => {
                Err(SourceError::Unavailable("the trusted keys changed meanwhile".to_owned()))
            }
            reply => reply,
        }
    }

    /// Puts other keys in force.
    pub(super) fn set(&self, keys: TrustedKeys) {
        let mut now = self.0.write();
        let trust = Trust { keys, store_dir: now.trust.store_dir.clone() };
        *now = Trusted { trust: Arc::new(trust), number: now.number + 1 };
    }
}

//! A peer says that what we sent of a path is not what was signed: is our own copy damaged?
//!
//! It may be, and then the path is not shared any more and the administrator is told; or the peer lies, or its memory is at
//! fault. All that a liar gets is that we read one of our own paths, which is bounded: one at a time, each once an hour
//! ([`super::check_queue`]), and never for more than a tenth of the time.

use super::check_queue::ShareEvent;
use super::core::Share;
use crate::nix::StoreHash;
use crate::store::{Audience, StoreError};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};

/// After a check there is a pause of so many times its length.
const PAUSE_FACTOR: u32 = 9;

impl Share {
    /// What happens from now on. A listener that falls far behind misses some and is told so.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<ShareEvent> {
        self.checks.events.subscribe()
    }

    /// Has a path checked, because somebody of this `audience` says that it is damaged. Returns at once.
    pub(super) fn suspect(self: &Arc<Self>, hash: StoreHash, audience: Audience) {
        if self.checks.enqueue(hash, audience) {
            let share = Arc::clone(self);
            tokio::spawn(async move { share.check_all().await });
        }
    }

    async fn check_all(&self) {
        while let Some((hash, audience)) = self.checks.next() {
            let begun = Instant::now();
            match self.check(hash, audience).await {
                Ok(true) => sleep(begun.elapsed() * PAUSE_FACTOR).await,
                // Nothing was read; another may have more right to ask.
                Ok(false) => self.checks.not_checked(hash),
                Err(error) => log::debug!(path:% = hash, reason:% = error; "a path could not be checked"),
            }
        }
    }

    /// Checks one path. False if there was nothing to check: what is not shared with somebody is none of their business.
    async fn check(&self, hash: StoreHash, audience: Audience) -> Result<bool, StoreError> {
        let Some(path) = self.store.path_info(hash).await? else {
            self.checks.found_whole(hash);
            return Ok(false);
        };
        if !self.rules.now().policy.decide(&path, audience).is_serve() {
            return Ok(false);
        }
        let name = &path.info.path;
        if self.store.is_intact(&path).await? {
            if self.checks.found_whole(hash) {
                log::info!(path:% = name; "a path that was damaged is whole again, and is shared");
            }
            return Ok(true);
        }
        if self.checks.found_damaged(hash) {
            // Nobody may listen; that is no error.
            let _ = self.checks.events.send(ShareEvent::Damaged(name.clone()));
        }
        Ok(true)
    }
}

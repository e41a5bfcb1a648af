//! Tells the index what this machine's share offers, whenever that changes.

use super::core::Share;
use crate::index::Index;
use crate::store::Audience;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long changes are gathered before peers are told: what many paths change in a row is told at once.
const GATHER: Duration = Duration::from_millis(200);
/// The least time from one change that is told to the next.
const GAP: Duration = Duration::from_secs(1);

impl Share {
    /// Tells `index` what is offered to `audience`, until `stop`.
    pub async fn offer(self: Arc<Self>, index: Index, audience: Audience, stop: CancellationToken) {
        if index.offers() {
            stop.run_until_cancelled(self.keep_offering(&index, audience)).await;
        }
    }

    async fn keep_offering(&self, index: &Index, audience: Audience) {
        let mut changes = self.store.changes();
        let (mut policy, mut signing) = self.rules.changes();
        loop {
            changes.mark_unchanged();
            policy.mark_unchanged();
            signing.mark_unchanged();
            if let Some(prefixes) = self.rules.now().offered.current(audience).await {
                let index = index.clone();
                // Each is hashed, and all are sorted. It fails only when the program is being stopped.
                let _ = spawn_blocking(move || index.offer(prefixes.into_iter())).await;
            }
            sleep(GAP).await; // pace: no peer is told more often
            tokio::select! {
                Ok(()) = changes.changed() => {}
                Ok(()) = policy.changed() => {}
                Ok(()) = signing.changed() => {}
                else => return,
            }
            sleep(GATHER).await; // pace
        }
    }
}

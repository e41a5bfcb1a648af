//! What the control room sees of this room, and what it may change while it runs.

use super::Fetcher;
use super::ledger::FetchEvent;
use super::survey::Survey;
use crate::nix::StoreHash;
use hyper::Uri;
use std::time::Duration;
use tokio::sync::broadcast;

impl Fetcher {
    /// What happens from now on. A listener that falls far behind misses some and is told so; nobody waits for it.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<FetchEvent> {
        self.0.lookup.ledger.subscribe()
    }

    /// The paths that are in transfer, or were promised to Nix or in transfer within the last ten minutes, in no particular
    /// order: a collection of garbage should leave them alone.
    #[must_use]
    pub fn in_use(&self) -> Vec<StoreHash> {
        self.0.lookup.ledger.in_use()
    }

    /// Who has a path, asking everybody within the budget of a lookup; nothing is taken from memory or remembered.
    pub async fn sources(&self, hash: StoreHash) -> Survey {
        self.0.lookup.survey(hash).await
    }

    /// Forgets recent answers, because memory is short; tells about how many bytes that frees.
    pub async fn forget_answers(&self) -> u64 {
        let answers = &self.0.answers;
        answers.run_pending_tasks().await;
        let size = answers.weighted_size();
        answers.invalidate_all();
        answers.run_pending_tasks().await;
        size
    }

    /// Asks these upstreams from now on, in this order. What is known of those that stay is kept; transfers go on.
    pub fn set_upstreams(&self, upstreams: &[Uri]) {
        if self.0.lookup.upstreams.set(upstreams, &self.0.metrics) {
            // What was found may be nowhere now, and what was nowhere may be found.
            self.0.answers.invalidate_all();
        }
    }

    /// Lets a lookup take so long from now on.
    pub fn set_budget(&self, budget: Duration) {
        self.0.lookup.budget.set(budget);
    }

    /// Forgets which upstreams failed: the network is another one now.
    pub fn network_changed(&self) {
        self.0.lookup.upstreams.now().iter().for_each(|upstream| upstream.try_again());
    }

    /// How many transfers are under way.
    #[must_use]
    pub fn transfers_running(&self) -> usize {
        self.running().len()
    }
}

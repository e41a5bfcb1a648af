//! The place of one transfer among those of the site: renewed while it runs, and given up with it.

use super::directory::{LOST_MAX, Loss, Renewal, Role, Want};
use super::site::{Granted, Site};
use super::tenure::Tenure;
use crate::fetch::transfer::spool::Spools;
use crate::nix::NarHash;
use crate::peers::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long it may take until it is known whether what came is kept.
const KEPT_LIMIT: Duration = Duration::from_secs(10);

/// The place of a transfer.
pub(crate) struct Lease {
    site: Arc<dyn Site>,
    tenure: Arc<Tenure>,
    /// Whom it followed, and what became of that: the last ones.
    lost: Vec<(NodeId, Loss)>,
}

impl Lease {
    /// Of a transfer of `nar` that was not told of yet. `serves`: what comes can be streamed on.
    pub(crate) fn new(site: Arc<dyn Site>, nar: NarHash, serves: bool, spools: Spools) -> Self {
        Self { site, tenure: Arc::new(Tenure::new(nar, serves, spools)), lost: Vec::new() }
    }

    /// So many bytes are there.
    pub(crate) fn reached(&self, came: u64) {
        self.tenure.reached(came);
    }

    /// Whom it followed is of no use any more.
    pub(crate) fn lost(&mut self, who: NodeId, how: Loss) {
        self.lost.retain(|(known, _)| *known != who);
        if self.lost.len() == LOST_MAX {
            self.lost.remove(0);
        }
        self.lost.push((who, how));
    }

    /// Asks what is to be done.
    pub(crate) fn want(&self) -> impl Future<Output = Granted> + Send + 'static {
        let (site, tenure) = (Arc::clone(&self.site), Arc::clone(&self.tenure));
        let Renewal { nar, came, serves, sends, .. } = tenure.with(None);
        tenure.asked();
        let want = Want { nar, came, serves, sends, lost: self.lost.clone() };
        async move {
            let granted = site.want(want).await;
            let role = match &granted {
                Granted::Download => Some(Role::Downloads),
                Granted::Follow(id, _) => Some(Role::Follows(*id)),
                Granted::Alone => None,
            };
            tenure.plays(role);
            if role.is_some() {
                site.keep(&tenure);
            }
            granted
        }
    }

    /// It comes from the Internet now.
    pub(crate) fn downloads(&self) {
        if self.tenure.is_known() {
            self.tenure.plays(Some(Role::Downloads));
            self.site.keep(&self.tenure);
        }
    }

    /// What comes can be streamed on no longer.
    pub(crate) fn serves_no_more(&self) {
        self.tenure.serves_no_more();
    }

    /// All of it is there and right; `kept` tells, later, whether others can have it from here.
    pub(crate) fn complete(self, kept: impl Future<Output = bool> + Send + 'static) {
        tokio::spawn(async move {
            // Who cannot give it on is of no use to anybody.
            let is_kept = timeout(KEPT_LIMIT, kept).await.unwrap_or(false);
            self.end(is_kept.then_some(Role::Complete));
        });
    }

    fn end(&self, last: Option<Role>) {
        if let Some(last) = self.tenure.end(last) {
            self.site.end(last);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(None);
    }
}

//! The other machines, as one that is about to download something sees them.

use super::directory::{Renewal, Want};
use super::tenure::Tenure;
use crate::fetch::source::Source;
use crate::peers::NodeId;
use async_trait::async_trait;
use std::sync::Arc;

/// What a transfer may do.
pub(crate) enum Granted {
    /// Download the NAR, for all.
    Download,
    /// Stream it from this machine.
    Follow(NodeId, Arc<dyn Source>),
    /// What it would do without others.
    Alone,
}

/// The other machines, for one that is about to download something.
#[async_trait]
pub(crate) trait Site: Send + Sync {
    /// Whether there is anybody to ask.
    fn has_others(&self) -> bool;

    /// What to do about a NAR that nobody has. Takes a third of a second at most.
    async fn want(&self, want: Want) -> Granted;

    /// Tells of a transfer again and again, while it is held by somebody else.
    fn keep(&self, tenure: &Arc<Tenure>);

    /// Tells of a transfer for the last time.
    fn end(&self, last: Renewal);
}

/// There are no others.
pub(crate) struct Nobody;

#[async_trait]
impl Site for Nobody {
    fn has_others(&self) -> bool {
        false
    }

    async fn want(&self, _: Want) -> Granted {
        Granted::Alone
    }

    fn keep(&self, _: &Arc<Tenure>) {}

    fn end(&self, _: Renewal) {}
}

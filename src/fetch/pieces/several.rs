//! Several machines that have one NAR, as one source of it.

use super::flow::PieceFlow;
use super::group::Group;
use crate::fetch::error::SourceError;
use crate::fetch::source::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::nix::StoreHash;
use crate::peers::{Failure, NodeId, Sample};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How long nothing may come of all of them together.
const SILENCE: Duration = Duration::from_secs(6);

/// Several machines that have a NAR, each of which sends other pieces of it.
pub(crate) struct Several {
    group: Arc<Group>,
    first: NodeId,
}

impl Several {
    /// The members of `group`, by the first of them.
    pub(crate) fn new(group: Group, first: NodeId) -> Self {
        Self { group: Arc::new(group), first }
    }
}

/// Whatever there is to say of a member is said while it sends.
impl Remote for Several {
    fn id(&self) -> SourceId {
        SourceId::Several(self.first)
    }

    fn succeeded(&self, _: Sample) {}

    fn failed(&self, _: Failure) {}

    fn ban(&self, _: &str, _: Duration) -> bool {
        false
    }

    fn bar(&self, _: StoreHash) -> Option<usize> {
        None
    }
}

#[async_trait]
impl Source for Several {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: false, is_partial: false, is_once: true }
    }

    fn standing(&self) -> Standing {
        // Together they are nearer and faster than the best of them.
        let standings = self.group.members.iter().map(|member| member.standing());
        let usable = standings.filter(|standing| standing.usable).count() > 1;
        Standing { usable, tier: Tier::Online, latency: Some(Duration::ZERO), throughput: Some(f64::MAX) }
    }

    fn given(&self) -> u64 {
        0
    }

    fn gave(&self, _: u64) {}

    async fn open(&self, _: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        Ok(Box::new(PieceFlow::begin(Arc::clone(&self.group), from)))
    }
}

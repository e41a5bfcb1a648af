//! Several machines that have one NAR, as one source of it.

use super::flow::PieceFlow;
use super::group::Group;
use crate::fetch::error::SourceError;
use crate::fetch::source::unblamed::Unblamed;
use crate::fetch::source::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::peers::NodeId;
use crate::peers::hello::WEIGHT_MAX;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How long nothing may come of all of them together.
const SILENCE: Duration = Duration::from_secs(6);

/// Several machines that have a NAR, each of which sends other pieces of it.
pub(crate) struct Several {
    group: Arc<Group>,
    /// Whatever there is to say of a member is said while it sends.
    remote: Unblamed,
}

impl Several {
    /// The members of `group`, by the first of them.
    pub(crate) fn new(group: Group, first: NodeId) -> Self {
        Self { group: Arc::new(group), remote: Unblamed(SourceId::Several(first)) }
    }
}

#[async_trait]
impl Source for Several {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: false, is_partial: false, is_once: true }
    }

    fn standing(&self) -> Standing {
        // Together they are nearer and faster than the best of them.
        let standings = self.group.members.iter().map(|member| member.standing());
        let usable = standings.filter(|standing| standing.usable).count() > 1;
        Standing {
            usable,
            tier: Tier::Online,
            latency: Some(Duration::ZERO),
            throughput: Some(f64::MAX),
            weight: WEIGHT_MAX,
        }
    }

    fn given(&self) -> u64 {
        0
    }

    fn gave(&self, _: u64) {}

    async fn open(&self, _: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        Ok(Box::new(PieceFlow::begin(Arc::clone(&self.group), from)))
    }
}

//! A source of whom nothing is noted, however it went.

use super::{Remote, SourceId};
use crate::nix::StoreHash;
use crate::peers::{Failure, Sample};
use std::time::Duration;

/// Several machines, each of which is spoken of by itself, or what nobody vouched for.
pub(crate) struct Unblamed(pub(crate) SourceId);

impl Remote for Unblamed {
    fn id(&self) -> SourceId {
        self.0.clone()
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

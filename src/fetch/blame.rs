//! What a failure means for the one who failed: a violation of the protocol bans a peer, anything else counts against it.

use super::activity::{Activity, FetchEvent};
use super::error::SourceError;
use super::source::{Remote, SourceId};
use crate::metrics::Metrics;
use crate::nix::{StoreHash, StorePath};
use std::sync::Arc;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    /// Whether somebody has a path.
    Lookup(StoreHash),
    /// The NAR of a path.
    Nar(&'a StorePath),
}

impl About<'_> {
    const fn hash(&self) -> StoreHash {
        match self {
            Self::Lookup(hash) => *hash,
            Self::Nar(path) => path.hash(),
        }
    }
}

/// Blames, and tells who listens.
pub(crate) struct Blame {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Arc<Activity>,
}

impl Blame {
    /// Holds a failure against the one who is responsible for it.
    pub(crate) fn blame(&self, remote: &dyn Remote, about: About<'_>, error: &SourceError) {
        let hash = about.hash();
        let path = if let About::Nar(path) = about { Some(path) } else { None };
        match (remote.id(), error, path) {
            (SourceId::Peer(peer), SourceError::Violation(violation), _) => {
                if remote.ban(&format!("it {violation}, for {hash}"), violation.ban()) {
                    self.metrics.peers_banned.add(1);
                    let (path, reason) = (path.cloned(), violation.to_string());
                    self.activity.tell(|| FetchEvent::Violation { peer, hash, path, reason });
                }
            }
            (SourceId::Peer(peer), error, _) => {
                if let Some(failure) = error.as_failure() {
                    log::debug!(peer:% = peer, path:% = hash, reason:% = error; "a peer failed: {error}");
                    remote.failed(failure);
                }
            }
            (SourceId::Upstream(upstream), error, None) => {
                let level = remote.complain(error.kind());
                log::log!(level, upstream:% = upstream, path:% = hash, reason:% = error; "an upstream could not be asked: {error}");
            }
            (SourceId::Upstream(upstream), error, Some(path)) => {
                let level = remote.complain(error.kind());
                log::log!(level, upstream:% = upstream, path:% = path, reason:% = error; "an upstream failed: {error}");
            }
        }
    }
}

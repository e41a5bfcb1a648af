//! Who can be asked for a path, whatever it is.

use super::resolution::Holder;
use super::verify::Trust;
use crate::fetch::error::SourceError;
use crate::fetch::source::{Remote, Source};
use crate::nix::StoreHash;
use crate::peers::{NodeId, PeerEvent};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// Somebody who can be asked for a path.
#[async_trait]
pub(crate) trait Responder: Send + Sync {
    /// Who it is.
    fn remote(&self) -> &dyn Remote;

    /// Whether it answers of late, so that its answer is worth waiting for.
    fn works(&self) -> bool {
        true
    }

    /// Upstreams of a higher tier are asked when those of lower ones do not have it.
    fn tier(&self) -> u8 {
        0
    }

    /// What sends a NAR that it is said to have, without being asked whether it does; `None` where only its answer says how.
    fn source(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// How long it usually takes to answer, if that is known.
    fn latency(&self) -> Option<Duration> {
        None
    }

    /// Asks for the path and proves the answer. `None`: it does not have it, or nothing that counts here.
    ///
    /// # Errors
    /// It could not be asked, or lied.
    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError>;

    /// A small document, at `target` (with the slash at its beginning). `None`: it does not have it.
    ///
    /// # Errors
    /// It could not be asked, or the document is larger than `limit` bytes.
    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError>;
}

/// All who can be asked now.
#[derive(Clone, Default)]
pub(crate) struct Responders {
    /// The best first.
    pub(crate) peers: Vec<Arc<dyn Responder>>,
    /// How many of them, from the first, are said to have what is looked for.
    pub(crate) holders: usize,
    /// In the order of preference, those that are worth asking.
    pub(crate) upstreams: Vec<Arc<dyn Responder>>,
    /// There are others that may have it, and are left alone for a while.
    pub(crate) is_partial: bool,
}

/// Where they come from.
pub(crate) trait Network: Send + Sync {
    /// All who can be asked now.
    fn responders(&self) -> Responders;

    /// The same for one path: without those that are known not to have it.
    fn responders_for(&self, _: StoreHash) -> Responders {
        self.responders()
    }

    /// A peer was asked for a path, and had it or not.
    fn tried(&self, _: NodeId, _: StoreHash, _: bool) {}

    /// Other keys are trusted than before.
    fn trust_changed(&self) {}

    /// Moves when a peer may have more than before.
    fn more(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Every upstream, those included that are left alone, and every site.
    fn upstreams(&self) -> Vec<Arc<dyn Responder>>;

    /// Tells who comes and goes from now on.
    fn subscribe(&self) -> broadcast::Receiver<PeerEvent>;
}

//! A peer as a source: the uncompressed NAR from any offset, at the URL that the protocol fixes.

use super::direct::Direct;
use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::nix::{NarHash, StoreHash};
use crate::peers::{Failure, LinkError, Peer, Sample, State};
use async_trait::async_trait;
use hyper::Response;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;

/// How long a peer may be silent when there is no other source.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer.
pub(crate) struct PeerSource(pub(crate) Arc<Peer>);

impl PeerSource {
    /// Sends a GET and waits for the head of the answer.
    ///
    /// # Errors
    /// The peer did not answer, or could not be asked, which is not its fault.
    pub(crate) async fn get(&self, target: &str, from: Option<u64>) -> Result<Response<Incoming>, SourceError> {
        self.0.get(target, from).await.map_err(|error: LinkError| match error.doubts_peer() {
            true => SourceError::Connection(error.to_string()),
            false => SourceError::Unavailable(error.to_string()),
        })
    }
}

impl PeerSource {
    /// A path of which it sent damaged content is not asked of it.
    ///
    /// # Errors
    /// This is one.
    pub(crate) fn must_not_be_barred(&self, hash: StoreHash) -> Result<(), SourceError> {
        if self.0.is_barred(hash) {
            return Err(SourceError::Barred);
        }
        Ok(())
    }
}

/// The NAR URL that the peer protocol fixes.
pub(crate) fn nar_url(hash: StoreHash, nar_hash: &NarHash) -> String {
    format!("nar/{hash}-{}.nar", nar_hash.to_nix32())
}

impl Remote for PeerSource {
    fn id(&self) -> SourceId {
        SourceId::Peer(self.0.id())
    }

    fn succeeded(&self, sample: Sample) {
        self.0.succeeded(sample);
    }

    fn failed(&self, failure: Failure) {
        self.0.failed(failure);
    }

    fn ban(&self, reason: &str, duration: Duration) -> bool {
        // Several requests may find the same peer out at once.
        let is_new = self.0.state() != State::Blocked;
        if is_new {
            self.0.ban(reason, duration);
        }
        is_new
    }

    fn bar(&self, hash: StoreHash) -> Option<usize> {
        self.0.bar(hash)
    }

    fn own_name(&self) -> String {
        self.0.name()
    }
}

#[async_trait]
impl Source for PeerSource {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: false }
    }

    fn standing(&self) -> Standing {
        let state = self.0.state();
        Standing {
            usable: !matches!(state, State::Offline | State::Blocked),
            tier: if state == State::Online { Tier::Online } else { Tier::Doubtful },
            latency: self.0.latency(),
            throughput: self.0.throughput(),
        }
    }

    fn given(&self) -> u64 {
        self.0.given()
    }

    fn gave(&self, bytes: u64) {
        self.0.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.must_not_be_barred(nar.hash)?;
        let target = format!("/{}", nar_url(nar.hash, &nar.nar_hash));
        let response = self.get(&target, (from > 0).then_some(from)).await?;
        Ok(Box::new(Direct::new(response, from, nar.size)?))
    }
}

//! The search for a peer with a fixed address: its name is resolved, now and then again, and without a node id whoever answers
//! there is asked who it is.

use super::fixed_peer::FixedPeer;
use super::sighting::{Sighting, Surroundings, changed};
use crate::peers::error::LinkError;
use crate::peers::identity::NodeId;
use crate::peers::link::{ADDRESSES_MAX, Dialler, RETRY_PAUSES};
use crate::peers::state::{PeerEvent, Provenance, State};
use crate::resilience::Backoff;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often a name is resolved again while the peer is online: it may have moved.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5 * 60);

/// What a search asks about those who are known already.
pub(crate) trait KnownPeers: Send + Sync {
    /// Who proved its identity at one of `addresses` and is online.
    fn online_at(&self, addresses: &[SocketAddr]) -> Option<NodeId>;

    /// Whether it could not be reached.
    fn is_offline(&self, id: NodeId) -> bool;

    /// Changes from now on.
    fn subscribe(&self) -> Receiver<PeerEvent>;
}

/// The search for one fixed peer.
pub(crate) struct Search {
    pub(crate) peer: FixedPeer,
    /// Whether the administrator added it at run time.
    pub(crate) added: bool,
    /// Ends it.
    pub(crate) stop: CancellationToken,
    /// Who was found there last.
    found: Mutex<Option<NodeId>>,
}

impl Search {
    /// A search that begins with [`run`].
    pub(crate) fn new(peer: FixedPeer, added: bool, stop: CancellationToken) -> Self {
        Self { peer, added, stop, found: Mutex::default() }
    }

    /// Who was found there last.
    pub(crate) fn found(&self) -> Option<NodeId> {
        *self.found.lock()
    }

    /// Whether it is `id` that is looked for, or was found.
    pub(crate) fn is_for(&self, id: NodeId) -> bool {
        self.peer.id == Some(id) || self.found() == Some(id)
    }
}

/// Looks for one fixed peer, until its search is stopped.
pub(crate) async fn run(
    search: Arc<Search>,
    surroundings: Surroundings,
    dialler: Arc<Dialler>,
    known: Arc<dyn KnownPeers>,
) {
    let stop = search.stop.clone();
    stop.run_until_cancelled(Looking { search, surroundings, dialler, known }.run()).await;
}

struct Looking {
    search: Arc<Search>,
    surroundings: Surroundings,
    dialler: Arc<Dialler>,
    known: Arc<dyn KnownPeers>,
}

impl Looking {
    async fn run(self) {
        let mut network = self.surroundings.network.clone();
        let mut refresh = self.surroundings.refresh.clone();
        let mut backoff = Backoff::new(RETRY_PAUSES);
        let mut reached = false;
        loop {
            // Before the peer is sought, so that its loss is not missed.
            let events = self.known.subscribe();
            let (pause, id) = match self.find().await {
                // It may be this machine itself, where one configuration is written for all.
                Ok(id) if id == self.surroundings.id => (RESOLVE_AGAIN, None),
                Ok(id) if self.known.is_offline(id) => (backoff.next_pause(), None),
                Ok(id) => {
                    reached = true;
                    backoff.reset();
                    (RESOLVE_AGAIN, Some(id))
                }
                Err(error) => {
                    // A peer that was reached is in the table, and its state is told from there.
                    let level = if reached { log::Level::Debug } else { log::Level::Warn };
                    reached = true;
                    log::log!(level, address:% = self.search.peer, reason:% = error; "fixed peer not reached; it is tried again");
                    (backoff.next_pause(), None)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = changed(&mut network) => {}
                () = changed(&mut refresh) => {}
                () = lost(events, id) => {}
            }
        }
    }

    /// Resolves the name, finds out who is there where that is not written down, and tells of it.
    async fn find(&self) -> Result<NodeId, FindError> {
        let Search { peer, added, stop, found } = &*self.search;
        let resolved = timeout(RESOLVE_LIMIT, tokio::net::lookup_host((peer.host.as_str(), peer.port))).await;
        let resolved = resolved.map_err(|_| FindError::Resolve(io::ErrorKind::TimedOut.into()))?;
        let addresses: Vec<SocketAddr> = resolved.map_err(FindError::Resolve)?.take(ADDRESSES_MAX).collect();
        let id = match peer.id.or_else(|| self.known.online_at(&addresses)) {
            Some(id) => id,
            None => self.dialler.target(None).dial(&addresses).await?.id(),
        };
        if id == self.surroundings.id {
            // Or another machine with the same key; that is looked into by who knows.
            for address in addresses {
                let _ = self.surroundings.sightings.try_send(Sighting::Ourselves(address));
            }
            return Ok(id);
        }
        if !self.dialler.admits(id) {
            return Err(LinkError::NotAdmitted(id).into());
        }
        let (provenance, sender) = (Provenance::Fixed, stop.clone());
        let sighting = Sighting::Here { id, addresses, provenance, added: *added, sender };
        // Nobody takes it in any more when everything stops.
        let _ = self.surroundings.sightings.send(sighting).await;
        *found.lock() = Some(id);
        Ok(id)
    }
}

/// Waits until the peer goes offline; without one, for ever.
async fn lost(mut events: Receiver<PeerEvent>, id: Option<NodeId>) {
    loop {
        match events.recv().await {
            Ok(PeerEvent::Changed { id: other, to: State::Offline, .. } | PeerEvent::Forgotten { id: other, .. })
                if Some(other) == id =>
            {
                return;
            }
            // What was missed may have been it.
            Err(RecvError::Lagged(_)) if id.is_some() => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Why a fixed peer was not found.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error("cannot resolve the name: {0}")]
    Resolve(io::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
}

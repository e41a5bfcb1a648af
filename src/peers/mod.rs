//! Who is out there: the other machines with Peernix, what is known about them, and connections to them.
//!
//! [`discovery`] hears of machines; one task for each (`presence`) reaches it, proves who it is, watches it and notes what
//! it finds in the `table`; [`Peers::candidates`] tells whom to ask, best first, and [`Peer::get`] asks.
#![forbid(unsafe_code)]

mod administration;
mod decisions;
pub mod discovery;
mod error;
pub mod hello;
mod hub;
pub mod identity;
pub mod link;
pub mod membership;
mod memory;
mod peer;
mod presence;
mod table;
pub mod trusted_keys;
mod visitor;

#[cfg(test)]
mod tests;

pub use administration::{Added, PING_LIMIT, PREFIX_MIN};
pub use discovery::{Discovery, FixedPeer, Mdns};
pub use error::{LinkError, PeersError};
pub use identity::{NodeId, NodeKey};
pub use membership::{Admission, Audience};
pub use peer::{Failure, Peer, Sample};
pub use table::{BanStatus, Block, PeerEvent, PeerStatus, Source, State};
pub use visitor::Visitor;

use bytes::Bytes;
use decisions::Decisions;
use hub::Hub;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How long [`Peers::shutdown`] waits for goodbyes and for the last write of what is remembered.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// What [`Peers::start`] is told.
#[derive(Debug, Clone, Default)]
pub struct PeersOptions {
    /// This machine's name for people to read, usually its host name.
    pub name: String,
    /// The port that the share listens on, 0 when nothing is shared.
    pub share_port: u16,
    /// Who may take part.
    pub admission: Admission,
    /// Where `peers.json` is kept; `None` remembers nothing.
    pub state_dir: Option<PathBuf>,
    /// How peers are found.
    pub discovery: Discovery,
    /// The names of the keys whose signatures are accepted here; peers are told, see [`trusted_keys`].
    pub trusted_keys: Vec<String>,
    /// What [`Peers::export`] of the run before gave, if it was kept; better than what `peers.json` says.
    pub warm: Option<Vec<u8>>,
    /// Moves when the network changes (`system::network::watch`); `None` when nobody watches it.
    pub network: Option<watch::Receiver<u64>>,
}

/// All peers. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Peers(Arc<Hub>);

impl Peers {
    /// Starts to look for peers, until `stop` is cancelled or [`Peers::shutdown`] is called.
    ///
    /// # Errors
    /// The key cannot be used for TLS; the administrator's decisions cannot be read. What is wrong on the network or in
    /// remembered files is logged and survived.
    pub async fn start(options: PeersOptions, key: &NodeKey, stop: &CancellationToken) -> Result<Self, PeersError> {
        // A receiver whose sender is gone never moves.
        let network = options.network.clone().unwrap_or_else(|| watch::channel(0).1);
        let decisions = Decisions::load(options.state_dir.clone()).await?;
        let decided = decisions.content();
        let hub = Arc::new(Hub::new(&options, key, network, decisions, stop)?);
        for (id, block) in &decided.blocked {
            hub.show_blocked(*id, block);
        }
        if let Some(state_dir) = options.state_dir {
            memory::recall(&hub, &state_dir).await;
            hub.tasks.spawn(memory::keep(hub.clone(), state_dir));
        }
        if let Some(warm) = options.warm
            && let Err(error) = memory::import(&hub, warm).await
        {
            log::warn!("cannot take over the peers of the run before: {error}; going on with what is remembered");
        }
        let configured = options.discovery.fixed;
        for added in decided.added {
            // What was written into the configuration meanwhile belongs there.
            if !configured.iter().any(|peer| peer.is_same_address(&added.peer)) {
                discovery::fixed::begin(&hub, added.peer, Some(added.name));
            }
        }
        for peer in configured {
            discovery::fixed::begin(&hub, peer, None);
        }
        if let Some(mdns) = options.discovery.mdns {
            hub.tasks.spawn(discovery::mdns::run(hub.clone(), mdns));
        }
        hub.tasks.spawn(hub::watch_network(hub.clone()));
        Ok(Self(hub))
    }

    /// The peers that can be asked now, the best first: online, and the circuit breaker closed. Takes microseconds.
    ///
    /// Now and then another than the best is first, so that what is known of it does not grow old.
    #[must_use]
    pub fn candidates(&self) -> Vec<Arc<Peer>> {
        self.0.candidates()
    }

    /// Waits until every peer that is known so far was reached or was found to be away, at most for `limit`. Before that, whoever
    /// asks the candidates would not ask those of the run before.
    pub async fn settled(&self, limit: Duration) {
        let mut events = self.subscribe();
        let all_tried = async {
            while self.0.table.all().iter().any(|peer| peer.state() == State::Discovered) {
                if matches!(events.recv().await, Err(broadcast::error::RecvError::Closed)) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, all_tried).await;
    }

    /// The peer with this identity.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.0.table.get(id)
    }

    /// Every peer known, in the order of their identities.
    #[must_use]
    pub fn snapshot(&self) -> Vec<PeerStatus> {
        let mut peers: Vec<PeerStatus> = self.0.table.all().iter().map(|peer| peer.status()).collect();
        peers.sort_by_key(|peer| peer.id);
        peers
    }

    /// Changes from now on. A reader that falls far behind misses some and is told so.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.0.notices.events.subscribe()
    }

    /// The body of this machine's answer to `GET /peernix/v1/hello`, `application/json`; see [`hello`].
    #[must_use]
    pub fn hello_response(&self) -> Bytes {
        self.0.hello.clone()
    }

    /// Tells peers from now on that signatures by keys of these names are accepted here; see [`trusted_keys`].
    pub fn set_trusted_keys(&self, names: &[String]) {
        self.0.notices.trusted_keys.set(names);
    }

    /// Says that `id`, whose identity TLS proved, greeted us from `remote` and shares on `share_port` (from
    /// [`hello::share_port`]). If it is news it is dialled back there, at that address and no other.
    pub fn introduced(&self, id: NodeId, remote: SocketAddr, share_port: u16) {
        let mut address = table::canonical(remote);
        address.set_port(share_port);
        if share_port != 0 {
            self.0.learn(id, &[address], Source::Introduced);
        }
    }

    /// Says goodbye on the network, remembers the peers and stops looking for them. Handles stay usable, so that
    /// transfers under way can end.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.0.tasks.wait()).await.is_err() {
            log::warn!("not every task of the peers ended within {SHUTDOWN_LIMIT:?}");
        }
    }
}

//! The room's handle: begins to look for peers, tells who is there and whom to ask, and ends.

use super::arrange;
use super::decisions::Decisions;
use super::discovery::mdns;
use super::error::{LinkError, PeersError};
use super::fleet::{Fleet, Refusal};
use super::identity::NodeId;
use super::index_state::IndexState;
use super::link::Guard;
use super::membership::Admission;
use super::node_key::NodeKey;
use super::options::PeersOptions;
use super::peer::Peer;
use super::persistence;
use super::record::{PeerStatus, canonical};
use super::relays::Layout;
use super::shared::Shared;
use super::state::{PeerEvent, Provenance, State, Troubles};
use bytes::Bytes;
use hyper::header::HeaderValue;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How long [`Peers::shutdown`] waits for goodbyes and for the last write of what is remembered.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// All peers. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Peers(pub(super) Arc<Shared>);

impl Peers {
    /// Starts to look for peers, until `stop` is cancelled or [`Peers::shutdown`] is called.
    ///
    /// # Errors
    /// The key cannot be used for TLS; the administrator's decisions cannot be read. What is wrong on the network or in
    /// remembered files is logged and survived.
    pub async fn start(options: PeersOptions, key: &NodeKey, stop: &CancellationToken) -> Result<Self, PeersError> {
        let decisions = Decisions::load(options.state_dir.clone()).await?;
        let decided = decisions.content();
        let shared = Shared::start(&options, key, decisions, stop)?;
        for (id, block) in &decided.blocked {
            shared.show_blocked(*id, block);
        }
        if let Some(state_dir) = options.state_dir {
            persistence::recall(&shared, &state_dir).await;
            shared.tasks.spawn(persistence::keep(shared.clone(), state_dir));
        }
        if let Some(handover) = options.handover
            && let Err(error) = persistence::import(&shared, handover).await
        {
            log::warn!("cannot take over the peers of the run before: {error}; going on with what is remembered");
        }
        let configured = options.discovery.fixed;
        for added in decided.added {
            // What was written into the configuration meanwhile belongs there.
            if !configured.iter().any(|peer| peer.is_same_address(&added)) {
                shared.begin_search(added, true);
            }
        }
        for peer in configured {
            shared.begin_search(peer, false);
        }
        if let Some(mdns) = options.discovery.mdns {
            shared.tasks.spawn(mdns::run(shared.surroundings(&shared.stop), mdns));
        }
        shared.tasks.spawn(arrange::keep(shared.clone(), options.relay));
        shared.tasks.spawn(shared.clone().watch_network());
        Ok(Self(shared))
    }

    /// The peers that can be asked now, the best first: online, and the circuit breaker closed. Takes microseconds.
    ///
    /// Now and then another than the best is first, so that what is known of it does not grow old.
    #[must_use]
    pub fn candidates(&self) -> Vec<Arc<Peer>> {
        self.0.candidates()
    }

    /// The peers that are there and agree with others on who downloads what.
    #[must_use]
    pub fn claimants(&self) -> Vec<NodeId> {
        self.0.table.claimants()
    }

    /// Whether there are peers besides the candidates that may have what is looked for, and get no requests at the moment.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.0.table.has_others()
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

    /// What is wrong with how others are found, as it changes.
    #[must_use]
    pub fn troubles(&self) -> watch::Receiver<Troubles> {
        self.0.troubles.subscribe()
    }

    /// The body of this machine's answer to `GET /peernix/v1/hello`, `application/json`, see [`super::hello`]; and its entity tag.
    #[must_use]
    pub fn hello_response(&self) -> (Bytes, HeaderValue) {
        self.0.hello.read().response()
    }

    /// This machine has another name for people to read from now on, which peers hear with the next greeting.
    pub fn rename(&self, name: &str) {
        self.0.rename(name);
    }

    /// Who is let in.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// The fleet of this machine.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.0.fleet
    }

    /// The peer `id`, whose greeting came in, knows the list of revocations with this number: it is asked for a newer one.
    pub fn told_revocations(&self, id: NodeId, serial: u64) {
        if serial > self.0.fleet.told().1
            && let Some(peer) = self.0.table.get(id)
        {
            peer.look_at();
        }
    }

    /// The peer `id`, which greeted us, was not let in.
    pub fn told_refused(&self, id: NodeId, refusal: &Refusal) {
        if let Some(peer) = self.0.table.get(id) {
            peer.record().trouble = Some(LinkError::NoMember(refusal.to_string()).to_string());
        }
    }

    /// The peer `id` told how much it counts as a source when it greeted us.
    pub fn told_weight(&self, id: NodeId, weight: u8) {
        if let Some(peer) = self.0.table.get(id) {
            peer.record().weight = weight.min(super::hello::WEIGHT_MAX);
        }
    }

    /// Tells how much others should count on this machine as a source, of [`super::hello::WEIGHT_MAX`]; 0: not at all.
    pub fn tell_weight(&self, weight: u8) {
        self.0.tell_weight(weight);
    }

    /// Tells the state of this machine's index from now on; `None`: it has none.
    pub fn tell_index(&self, state: Option<IndexState>) {
        self.0.tell_index(state);
    }

    /// The peer `id` told the state of its index when it greeted us.
    pub fn told_index(&self, id: NodeId, state: IndexState) {
        if let Some(peer) = self.0.table.get(id) {
            peer.told_index(Some(state));
        }
    }

    /// Tells the state of what all have whom this machine relays for; `None`: it does not relay.
    pub fn tell_union(&self, state: Option<IndexState>) {
        self.0.tell_union(state);
    }

    /// The peer `id`, which relays, told the state of what all have when it greeted us.
    pub fn told_union(&self, id: NodeId, state: IndexState) {
        if let Some(peer) = self.0.table.get(id) {
            peer.told_union(Some(state));
        }
    }

    /// The peer `id` asked what all have: it is greeted when that changes.
    pub fn asked_for_union(&self, id: NodeId) {
        if let Some(peer) = self.0.table.get(id) {
            peer.follows_union.store(true, Relaxed);
        }
    }

    /// This machine.
    #[must_use]
    pub fn us(&self) -> NodeId {
        self.0.id
    }

    /// Who knows whom, as it changes.
    #[must_use]
    pub fn layout(&self) -> watch::Receiver<Arc<Layout>> {
        self.0.layout().subscribe()
    }

    /// The peer `id`, which a relay says is at `addresses`; `None` if this machine has nothing to do with it.
    #[must_use]
    pub fn named(&self, id: NodeId, addresses: &[SocketAddr]) -> Option<Arc<Peer>> {
        self.named_by(id, addresses, Provenance::Relay)
    }

    /// The same, as another site says.
    #[must_use]
    pub fn named_by_site(&self, id: NodeId, addresses: &[SocketAddr]) -> Option<Arc<Peer>> {
        self.named_by(id, addresses, Provenance::Site)
    }

    fn named_by(&self, id: NodeId, addresses: &[SocketAddr], provenance: Provenance) -> Option<Arc<Peer>> {
        let peer = self.0.learn(id, addresses, provenance)?;
        {
            // The relay names nobody who sends nothing; of one whom this machine does not greet itself, it knows better.
            let mut record = peer.record();
            if record.weight == 0 && record.state != State::Online {
                record.weight = super::hello::WEIGHT_MAX;
            }
        }
        Some(peer)
    }

    /// The peer `id` asked for our index: it is greeted when that changes.
    pub fn asked_for_index(&self, id: NodeId) {
        if let Some(peer) = self.0.table.get(id) {
            peer.follows_us.store(true, Relaxed);
        }
    }

    /// Tells from now on whose index is in another state than before. A listener that falls far behind misses some and is told so.
    #[must_use]
    pub fn indexes(&self) -> broadcast::Receiver<NodeId> {
        self.0.notices.indexes.subscribe()
    }

    /// Says that `id`, whose identity TLS proved, greeted us from `remote` and shares on `share_port` (from
    /// [`super::hello::share_port`]). If it is news it is dialled back there, at that address and no other. One of another `site` than this
    /// machine is left alone.
    pub fn introduced(&self, id: NodeId, remote: SocketAddr, share_port: u16, site: Option<&str>) {
        let mut address = canonical(remote);
        address.set_port(share_port);
        if share_port != 0 && id == self.0.id {
            self.0.suspect_twin(address);
        } else if share_port != 0 {
            let is_far = !self.0.site.is_empty() && site.is_some_and(|site| site != self.0.site);
            let provenance = if is_far { Provenance::Site } else { Provenance::Introduced };
            self.0.learn(id, &[address], provenance);
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

impl Guard for Peers {
    fn block_reason(&self, id: NodeId) -> Option<String> {
        self.0.decisions.block_of(id).map(|block| block.reason)
    }

    fn is_cut_off(&self, id: NodeId) -> bool {
        self.0.admission.fleet().is_some_and(|fleet| fleet.standing(id).is_err())
    }

    fn took(&self, id: NodeId, bytes: u64) {
        if let Some(peer) = self.0.table.get(id) {
            peer.took(bytes);
        }
    }
}

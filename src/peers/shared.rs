//! What the tasks of this room share: who we are, the table, and the limits on what they do at once.

use super::decisions::Decisions;
use super::discovery::fixed::{self, KnownPeers, Search};
use super::discovery::{FixedPeer, Sighting, Surroundings};
use super::error::PeersError;
use super::fleet::{ENROLS, Fleet};
use super::hello::{
    CLAIM, COPIES, Greeting, Hello, INDEX, MEASURE, OurHello, PATCH, PIECES, RELAY, TEXT_MAX, WEIGHT_MAX,
};
use super::identity::NodeId;
use super::index_state::IndexState;
use super::link::{Dialler, Pool, Target};
use super::membership::Admission;
use super::narinfo_batch;
use super::node_key::NodeKey;
use super::options::PeersOptions;
use super::peer::{Notices, Peer};
use super::presence;
use super::record::Block;
use super::relays::Layout;
use super::state::{PeerEvent, Provenance, State, Troubles};
use super::table::{Inserted, Table};
use super::trusted_keys::TrustedKeysHeaders;
use super::twin::{HINTS_MAX, Lookout};
use crate::resilience::TokenBucket;
use hyper::header::HeaderValue;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a machine with the fleet key looks whether its own membership ends.
const FLEET_RENEWED: Duration = Duration::from_secs(3600);

/// How many new peers may appear in a second, of those that greeted us and of those that were announced.
const STRANGERS_PER_SECOND: u32 = 50;
/// How many sightings may wait to be taken in, which is a matter of microseconds.
const SIGHTINGS_MAX: usize = 256;
/// How many events a slow listener may fall behind.
const EVENTS_MAX: usize = 1024;
/// Of so many rankings one begins with a peer that is not the best, so that measures of the others stay fresh.
const EXPLORE_EVERY: u64 = 10;

/// What the tasks of this room share.
pub(super) struct Shared {
    pub(super) id: NodeId,
    pub(super) share_port: u16,
    /// The site that this machine is of; empty: of none.
    pub(super) site: String,
    /// What every greeting of ours says; the state of the index changes.
    pub(super) greeting: Arc<RwLock<Greeting>>,
    pub(super) hello: RwLock<OurHello>,
    pub(super) admission: Admission,
    /// That of this machine.
    pub(super) fleet: Fleet,
    dialler: Arc<Dialler>,
    pub(super) table: Table,
    pub(super) notices: Arc<Notices>,
    trusted_keys: Arc<TrustedKeysHeaders>,
    network: watch::Receiver<u64>,
    moves: watch::Receiver<u64>,
    /// What the administrator decided.
    pub(super) decisions: Decisions,
    /// Moves when the administrator wants everything looked at.
    pub(super) refresh: watch::Sender<u64>,
    /// Where those who look for peers say what they found.
    sightings: mpsc::Sender<Sighting>,
    /// What is wrong.
    pub(super) troubles: watch::Sender<Troubles>,
    /// Where another machine with our key may be.
    twins: mpsc::Sender<SocketAddr>,
    /// The searches for fixed peers.
    searches: Mutex<Vec<Arc<Search>>>,
    /// Ends every task.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    limits: Arc<presence::Limits>,
    strangers: Mutex<TokenBucket>,
    /// The same for those that greeted us, who proved who they are: announcements take nothing from them.
    guests: Mutex<TokenBucket>,
    rankings: AtomicU64,
}

impl Shared {
    /// With the task that takes in what is found.
    pub(super) fn start(
        options: &PeersOptions,
        key: &NodeKey,
        decisions: Decisions,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, PeersError> {
        let hello = Hello {
            id: key.id(),
            name: said(&options.name),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            share_port: options.share_port,
            features: [narinfo_batch::FEATURE, MEASURE]
                .into_iter()
                .chain(options.relay.then_some(RELAY))
                .chain(options.claims.then_some(CLAIM))
                .chain(options.pieces.then_some(PIECES))
                .chain(options.patches.then_some(PATCH))
                .chain(options.copies.then_some(COPIES))
                .map(str::to_owned)
                .collect(),
            // Without randomness two machines with one key go unnoticed, which is no reason not to start.
            instance: format!("{:016x}", getrandom::u64().unwrap_or_default()),
            index: String::new(),
            union: String::new(),
            weight: WEIGHT_MAX,
            membership: String::new(),
            revocations: 0,
            site: options.site.clone(),
        };
        // Letters and digits: a header may have them.
        let site = HeaderValue::from_str(&options.site).ok().filter(|site| !site.is_empty());
        let greeting = Greeting { share_port: options.share_port, site, ..Greeting::default() };
        let greeting = Arc::new(RwLock::new(greeting));
        let (sightings, received) = mpsc::channel(SIGHTINGS_MAX);
        let (twins, hints) = mpsc::channel(HINTS_MAX);
        let shared = Arc::new(Self {
            id: key.id(),
            share_port: options.share_port,
            site: options.site.clone(),
            greeting: Arc::clone(&greeting),
            hello: RwLock::new(OurHello::new(hello.clone())),
            admission: options.admission.clone(),
            dialler: Arc::new(Dialler::new(key, options.admission.clone())?),
            table: Table::default(),
            notices: Arc::new(Notices {
                events: broadcast::channel(EVENTS_MAX).0,
                worth_saving: Notify::new(),
                indexes: broadcast::channel(EVENTS_MAX).0,
                willing: Notify::new(),
                compression: options.compression,
                admission: options.admission.clone(),
                greeting,
            }),
            fleet: options.fleet.clone().unwrap_or_else(|| Fleet::none(key.id())),
            trusted_keys: Arc::new(TrustedKeysHeaders::new(options.trusted_keys.clone())),
            // A receiver whose sender is gone never moves.
            network: options.network.clone().unwrap_or_else(|| watch::channel(0).1),
            moves: options.moves.clone().unwrap_or_else(|| watch::channel(0).1),
            decisions,
            refresh: watch::Sender::new(0),
            sightings,
            troubles: watch::Sender::default(),
            twins,
            searches: Mutex::default(),
            stop: stop.child_token(),
            tasks: TaskTracker::new(),
            limits: Arc::default(),
            strangers: Mutex::new(TokenBucket::new(STRANGERS_PER_SECOND)),
            guests: Mutex::new(TokenBucket::new(STRANGERS_PER_SECOND)),
            rankings: AtomicU64::new(0),
        });
        shared.tasks.spawn(shared.clone().take_in(received));
        shared.tell_fleet();
        shared.tasks.spawn(shared.clone().follow_fleet());
        let target = shared.dialler.target(Some(shared.id));
        let (instance, troubles) = (hello.instance, shared.troubles.clone());
        let lookout = Lookout { target, fleet: shared.fleet.clone(), instance, hints, troubles };
        let stopped = shared.stop.clone();
        shared.tasks.spawn(async move { stopped.run_until_cancelled(lookout.run()).await });
        Ok(shared)
    }

    /// Who a connection has to reach: that node, or whoever answers.
    pub(super) fn target(&self, id: Option<NodeId>) -> Target {
        self.dialler.target(id)
    }

    /// Tells how much others should count on this machine from now on, and tells it at once to all who may be there.
    pub(super) fn tell_weight(&self, weight: u8) {
        let mut hello = self.hello.write();
        if hello.weight() == weight {
            return;
        }
        hello.change(|hello| hello.weight = weight);
        drop(hello);
        self.greeting.write().weight = weight;
        self.table.all().iter().for_each(|peer| peer.look_at());
    }

    /// Tells what this machine shows of its fleet, and knows of it, from now on.
    fn tell_fleet(&self) {
        let (membership, revocations) = self.fleet.told();
        self.hello.write().change(|hello| {
            hello.features.retain(|feature| feature != ENROLS);
            hello.features.extend(self.fleet.enrols().then(|| ENROLS.to_owned()));
            hello.membership = membership.as_deref().unwrap_or_default().to_owned();
            hello.revocations = revocations;
        });
        let mut greeting = self.greeting.write();
        (greeting.membership, greeting.revocations) = (membership, revocations);
    }

    /// Tells everybody at once when the fleet changes, which also shows who is let in no more.
    async fn follow_fleet(self: Arc<Self>) {
        let mut changes = self.fleet.changes();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(FLEET_RENEWED) => { // poll
                    if let Err(error) = self.fleet.renew_own().await {
                        log::warn!("this machine's membership of its fleet is not renewed: {error}");
                    }
                    continue;
                }
                () = self.stop.cancelled() => return,
            }
            self.tell_fleet();
            for peer in self.table.all() {
                if self.admission.refusal(peer.id()).is_some() {
                    peer.close();
                }
                peer.look_at();
            }
        }
    }

    /// This machine has another name from now on.
    pub(super) fn rename(&self, name: &str) {
        self.hello.write().change(|hello| hello.name = said(name));
    }

    /// Takes in what is found, until everything stops.
    async fn take_in(self: Arc<Self>, mut sightings: mpsc::Receiver<Sighting>) {
        while let Some(Some(sighting)) = self.stop.run_until_cancelled(sightings.recv()).await {
            match sighting {
                Sighting::Here { sender, .. } if sender.is_cancelled() => {}
                Sighting::Here { id, addresses, provenance, added, .. } => {
                    if let Some(peer) = self.learn(id, &addresses, provenance) {
                        peer.record().added |= added;
                    }
                }
                Sighting::Goodbye(id) => {
                    if let Some(peer) = self.table.get(id) {
                        log::debug!(peer:% = id; "mDNS goodbye");
                        peer.look_at();
                    }
                }
                Sighting::Ourselves(address) => self.suspect_twin(address),
            }
        }
    }

    /// Tells the state of our own index from now on, and tells it at once to all who asked for it.
    pub(super) fn tell_index(&self, state: Option<IndexState>) {
        self.hello.write().change(|hello| {
            hello.features.retain(|feature| feature != INDEX);
            hello.features.extend(state.map(|_| INDEX.to_owned()));
            hello.index = state.map(|state| state.to_string()).unwrap_or_default();
        });
        self.greeting.write().index = state;
        let wants_to_know =
            |peer: &&Arc<Peer>| peer.state() == State::Online && peer.follows_us.load(Ordering::Relaxed);
        for peer in self.table.all().iter().filter(wants_to_know) {
            peer.look.notify_one();
        }
    }

    /// Tells what all have whom this machine relays for, by its state, from now on; `None`: it does not relay. Those who asked for it
    /// are told at once.
    pub(super) fn tell_union(&self, state: Option<IndexState>) {
        self.hello.write().change(|hello| hello.union = state.map(|state| state.to_string()).unwrap_or_default());
        let before = std::mem::replace(&mut self.greeting.write().union, state);
        // That it relays everybody has to hear: they tell it what they have from then on.
        let is_to_hear = |peer: &&Arc<Peer>| {
            let is_there = !matches!(peer.state(), State::Offline | State::Blocked) && !peer.is_far();
            is_there && (before.is_none() || peer.follows_union.load(Ordering::Relaxed))
        };
        for peer in self.table.all().iter().filter(is_to_hear) {
            peer.look_at();
        }
    }

    /// Who knows whom, as it changes.
    pub(super) fn layout(&self) -> &watch::Sender<Arc<Layout>> {
        self.limits.layout()
    }

    /// Has it looked into whether another machine with our key is there.
    pub(super) fn suspect_twin(&self, address: SocketAddr) {
        let _ = self.twins.try_send(address);
    }

    /// Takes in that someone says `id` is at `addresses`. A peer that is news, or was away and may be back, is dialled.
    pub(super) fn learn(
        self: &Arc<Self>,
        id: NodeId,
        addresses: &[SocketAddr],
        provenance: Provenance,
    ) -> Option<Arc<Peer>> {
        if id == self.id || !self.admission.admits(id) || self.stop.is_cancelled() {
            return None;
        }
        // What the administrator wrote and what was remembered says nothing about now.
        let is_wanted = matches!(provenance, Provenance::Relay | Provenance::Site);
        let alive = is_wanted || matches!(provenance, Provenance::Introduced | Provenance::Mdns);
        if let Some(known) = self.table.get(id) {
            let news = known.claimed(addresses, provenance);
            let away = matches!(known.state(), State::Offline | State::Discovered);
            // One that is online and has a new address may have left the old one, and its connection be dead.
            if news || (alive && away) {
                known.look.notify_one();
            }
            return Some(known);
        }
        let rate = if provenance == Provenance::Mdns { &self.strangers } else { &self.guests };
        // Whom a relay or a site names was asked for.
        if alive && !is_wanted && !rate.lock().permits() {
            log::debug!(peer:% = id, source:% = provenance; "too many new peers at once: this one is ignored");
            return None;
        }
        let make = || {
            let transport = Box::new(Pool::new(id, self.dialler.target(Some(id)), self.trusted_keys.clone()));
            let (notices, gone) = (self.notices.clone(), self.stop.child_token());
            let block = self.decisions.block_of(id);
            Arc::new(Peer::new(id, provenance, transport, notices, gone, block))
        };
        match self.table.get_or_insert(id, (&self.layout().borrow(), is_wanted), make) {
            Inserted::Known(peer) => {
                peer.claimed(addresses, provenance);
                Some(peer)
            }
            Inserted::New(peer, evicted) => {
                if let Some(evicted) = evicted {
                    self.dismiss(&evicted);
                }
                peer.claimed(addresses, provenance);
                log::debug!(peer:% = id, source:% = provenance; "peer discovered");
                let (name, to) = (String::new(), peer.state());
                let _ = self.notices.events.send(PeerEvent::Changed { id, name, from: None, to });
                self.tasks.spawn(self.clone().look_after(peer.clone()));
                Some(peer)
            }
            Inserted::Full => {
                log::debug!(peer:% = id, source:% = provenance; "the table is full: this peer is ignored");
                None
            }
        }
    }

    /// Monitors a peer, and drops it once it has not been heard of for long.
    async fn look_after(self: Arc<Self>, peer: Arc<Peer>) {
        let id = peer.id();
        if presence::monitor(peer, self.limits.clone()).await {
            self.forget(id);
        }
    }

    /// Drops a peer. False if it is not there.
    pub(super) fn forget(&self, id: NodeId) -> bool {
        let peer = self.table.remove(id);
        if let Some(peer) = &peer {
            self.dismiss(peer);
        }
        peer.is_some()
    }

    /// Has the table show that a peer is blocked, whether or not it was known; gives its name.
    pub(super) fn show_blocked(self: &Arc<Self>, id: NodeId, block: &Block) -> String {
        let Some(peer) = self.learn(id, &[], Provenance::Remembered) else { return String::new() };
        peer.block(block.clone());
        peer.name()
    }

    /// What those who look for peers are given, until `stop`.
    pub(super) fn surroundings(&self, stop: &CancellationToken) -> Surroundings {
        Surroundings {
            id: self.id,
            share_port: self.share_port,
            network: self.network.clone(),
            refresh: self.refresh.subscribe(),
            sightings: self.sightings.clone(),
            troubles: self.troubles.clone(),
            stop: stop.clone(),
        }
    }

    /// Begins to look for a fixed peer, until everything stops or the search is ended.
    pub(super) fn begin_search(self: &Arc<Self>, peer: FixedPeer, added: bool) {
        let search = Arc::new(Search::new(peer, added, self.stop.child_token()));
        self.searches().push(search.clone());
        let surroundings = self.surroundings(&search.stop);
        self.tasks.spawn(fixed::run(search, surroundings, self.dialler.clone(), self.clone()));
    }

    /// The searches for fixed peers.
    pub(super) fn searches(&self) -> MutexGuard<'_, Vec<Arc<Search>>> {
        self.searches.lock()
    }

    /// Ends the searches that `which` picks; what they found becomes a peer like others.
    pub(super) fn end_searches(&self, which: impl Fn(&Search) -> bool) -> Vec<Arc<Search>> {
        let ended: Vec<_> = self.searches().extract_if(.., |search| which(search)).collect();
        for search in &ended {
            search.stop.cancel();
            let Some(peer) = search.found().and_then(|id| self.table.get(id)) else { continue };
            if !self.searches().iter().any(|other| other.found() == Some(peer.id())) {
                let mut record = peer.record();
                (record.provenance, record.added) = (Provenance::Remembered, false);
            }
        }
        ended
    }

    pub(super) fn dismiss(&self, peer: &Peer) {
        peer.gone.cancel();
        peer.close();
        log::debug!(peer:% = peer.id(); "peer forgotten");
        let _ = self.notices.events.send(PeerEvent::Forgotten { id: peer.id(), name: peer.name() });
    }

    /// Has a look at every peer now, because something happened that may have changed them all.
    pub(super) fn look_at_all(&self) {
        for peer in self.table.all() {
            peer.look.notify_one();
        }
    }

    /// The peers that can be asked now, the best first, but now and then another.
    pub(super) fn candidates(&self) -> Vec<Arc<Peer>> {
        let mut ranked = self.table.candidates();
        let turn = self.rankings.fetch_add(1, Ordering::Relaxed);
        if turn % EXPLORE_EVERY == EXPLORE_EVERY - 1 && ranked.len() > 1 {
            // Each of the others in turn; the modulus is below the length.
            #[allow(clippy::cast_possible_truncation)]
            let other = 1 + (turn / EXPLORE_EVERY % (ranked.len() as u64 - 1)) as usize;
            ranked[..=other].rotate_right(1);
        }
        ranked
    }

    /// Watches the network: whenever it changes, every peer is looked at, and anew when the machine moved or slept.
    pub(super) async fn watch_network(self: Arc<Self>) {
        let (mut network, mut moves) = (self.network.clone(), self.moves.clone());
        let mut slept = *moves.borrow();
        let watching = async {
            loop {
                tokio::select! {
                    Ok(()) = network.changed() => self.look_at_all(),
                    Ok(()) = moves.changed() => {
                        let before = std::mem::replace(&mut slept, *moves.borrow_and_update());
                        self.table.all().iter().for_each(|peer| peer.network_changed(slept != before));
                    }
                    else => return,
                }
            }
        };
        self.stop.run_until_cancelled(watching).await;
    }
}

impl KnownPeers for Shared {
    fn online_at(&self, addresses: &[SocketAddr]) -> Option<NodeId> {
        self.table.online_at(addresses).map(|peer| peer.id())
    }

    fn is_offline(&self, id: NodeId) -> bool {
        self.table.get(id).is_some_and(|peer| peer.state() == State::Offline)
    }

    fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.notices.events.subscribe()
    }
}

/// A name as it is told others: bounded, and without what a terminal could stumble over.
fn said(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect()
}

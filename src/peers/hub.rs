//! What the tasks of this room share: who we are, the table, and the limits on what they do at once.

use super::PeersOptions;
use super::decisions::Decisions;
use super::discovery::fixed::Attendant;
use super::error::PeersError;
use super::hello::{Hello, TEXT_MAX};
use super::identity::{NodeId, NodeKey};
use super::link::Dialler;
use super::membership::{Admission, Audience};
use super::peer::{Notices, Peer};
use super::presence;
use super::table::{Block, Inserted, PeerEvent, Source, State, Table};
use super::trusted_keys::Told;
use crate::resilience::TokenBucket;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many peers that were online before are dialled at once.
const DIALS_KNOWN: usize = 32;
/// How many strangers are dialled at once: a flood of them must not keep us from those we know.
const DIALS_STRANGERS: usize = 16;
/// How many peers have a connection of their own that is watched; the others are greeted on a new one each time.
pub(super) const WATCHED_MAX: usize = 256;
/// How many new peers may appear in a second.
const STRANGERS_PER_SECOND: u32 = 50;
/// How many events a slow listener may fall behind.
const EVENTS_MAX: usize = 1024;
/// Of so many rankings one begins with a peer that is not the best, so that measures of the others stay fresh.
const EXPLORE_EVERY: u64 = 10;

/// What the tasks of this room share.
pub(super) struct Hub {
    pub(super) id: NodeId,
    pub(super) share_port: u16,
    pub(super) hello: Bytes,
    pub(super) admission: Admission,
    pub(super) dialler: Dialler,
    pub(super) table: Table,
    pub(super) notices: Arc<Notices>,
    pub(super) network: watch::Receiver<u64>,
    /// What the administrator decided.
    pub(super) decisions: Decisions,
    /// Moves when the administrator wants everything looked at.
    pub(super) refresh: watch::Sender<u64>,
    /// Those who look for a fixed peer each.
    attendants: Mutex<Vec<Arc<Attendant>>>,
    /// Ends every task.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) dials_known: Semaphore,
    pub(super) dials_strangers: Semaphore,
    pub(super) watched: Semaphore,
    strangers: Mutex<TokenBucket>,
    rankings: AtomicU64,
}

impl Hub {
    pub(super) fn new(
        options: &PeersOptions,
        key: &NodeKey,
        network: watch::Receiver<u64>,
        decisions: Decisions,
        stop: &CancellationToken,
    ) -> Result<Self, PeersError> {
        let name: String = options.name.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect();
        let hello = Hello {
            id: key.id(),
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            share_port: options.share_port,
            features: Vec::new(),
        };
        Ok(Self {
            id: key.id(),
            share_port: options.share_port,
            hello: hello.to_body(),
            admission: options.admission.clone(),
            dialler: Dialler::new(key, options.admission.clone())?,
            table: Table::default(),
            notices: Arc::new(Notices {
                events: broadcast::channel(EVENTS_MAX).0,
                worth_saving: Notify::new(),
                trusted_keys: Arc::new(Told::new(&options.trusted_keys)),
            }),
            network,
            decisions,
            refresh: watch::Sender::new(0),
            attendants: Mutex::default(),
            stop: stop.child_token(),
            tasks: TaskTracker::new(),
            dials_known: Semaphore::new(DIALS_KNOWN),
            dials_strangers: Semaphore::new(DIALS_STRANGERS),
            watched: Semaphore::new(WATCHED_MAX),
            strangers: Mutex::new(TokenBucket::new(STRANGERS_PER_SECOND)),
            rankings: AtomicU64::new(0),
        })
    }

    /// Takes in that someone says `id` is at `addresses`. A peer that is news, or was away and may be back, is dialled.
    pub(super) fn learn(self: &Arc<Self>, id: NodeId, addresses: &[SocketAddr], source: Source) -> Option<Arc<Peer>> {
        if id == self.id || !self.admission.admits(id) || self.stop.is_cancelled() {
            return None;
        }
        if let Some(known) = self.table.get(id) {
            let news = known.claimed(addresses, source);
            // What the administrator wrote and what was remembered says nothing about now.
            let alive = matches!(source, Source::Introduced | Source::Mdns);
            let away = matches!(known.state(), State::Offline | State::Discovered);
            // One that is online and has a new address may have left the old one, and its connection be dead.
            if news || (alive && away) {
                known.look.notify_one();
            }
            return Some(known);
        }
        let told = matches!(source, Source::Introduced | Source::Mdns);
        if told && !self.strangers.lock().permits() {
            log::debug!(peer:% = id, source:% = source; "too many new peers at once: this one is ignored");
            return None;
        }
        let make = || {
            let target = self.dialler.target(Some(id));
            let enrolled = self.admission.audience(id) == Audience::Enrolled;
            let block = self.decisions.block_of(id);
            Arc::new(Peer::new(id, source, target, self.notices.clone(), self.stop.child_token(), enrolled, block))
        };
        match self.table.get_or_insert(id, make) {
            Inserted::Known(peer) => {
                peer.claimed(addresses, source);
                Some(peer)
            }
            Inserted::New(peer, evicted) => {
                if let Some(evicted) = evicted {
                    self.dismiss(&evicted);
                }
                peer.claimed(addresses, source);
                log::debug!(peer:% = id, source:% = source; "peer discovered");
                let (name, to) = (String::new(), peer.state());
                let _ = self.notices.events.send(PeerEvent::Changed { id, name, from: None, to });
                self.tasks.spawn(presence::attend(self.clone(), peer.clone()));
                Some(peer)
            }
            Inserted::Full => {
                log::debug!(peer:% = id, source:% = source; "the table is full: this peer is ignored");
                None
            }
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
        let Some(peer) = self.learn(id, &[], Source::Remembered) else { return String::new() };
        peer.block(block.clone());
        peer.name()
    }

    /// Those who look for a fixed peer each.
    pub(super) fn attendants(&self) -> MutexGuard<'_, Vec<Arc<Attendant>>> {
        self.attendants.lock()
    }

    /// Ends the attendants that `which` picks; what they found becomes a peer like others.
    pub(super) fn end_attendants(&self, which: impl Fn(&Attendant) -> bool) -> Vec<Arc<Attendant>> {
        let ended: Vec<_> = self.attendants().extract_if(.., |attendant| which(attendant)).collect();
        for attendant in &ended {
            attendant.stop.cancel();
            let Some(peer) = attendant.found().and_then(|id| self.table.get(id)) else { continue };
            if !self.attendants().iter().any(|other| other.found() == Some(peer.id())) {
                let mut record = peer.record();
                (record.source, record.added, record.label) = (Source::Remembered, false, None);
            }
        }
        ended
    }

    fn dismiss(&self, peer: &Peer) {
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
}

/// Watches the network: whenever it changes, every peer is looked at.
pub(super) async fn watch_network(hub: Arc<Hub>) {
    let mut network = hub.network.clone();
    let watching = async {
        while network.changed().await.is_ok() {
            hub.look_at_all();
        }
    };
    hub.stop.run_until_cancelled(watching).await;
}

/// Waits for a change of the network, for ever if nobody watches it any more.
pub(super) async fn changed(network: &mut watch::Receiver<u64>) {
    if network.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

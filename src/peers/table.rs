//! All peers that are known, bounded in number.

use super::identity::NodeId;
use super::peer::Peer;
use super::relays::{KNOWN_MAX, Layout, place};
use super::state::State;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// The most peers in the table.
pub(super) const PEERS_MAX: usize = 4096;
/// The same where this machine relays.
const PEERS_MAX_RELAY: usize = 16_384;

/// All peers by identity.
#[derive(Default)]
pub(super) struct Table(RwLock<HashMap<NodeId, Arc<Peer>>>);

/// What became of a peer that should go into the table.
pub(super) enum Inserted {
    /// It was there already.
    Known(Arc<Peer>),
    /// It is there now; perhaps another had to go for it.
    New(Arc<Peer>, Option<Arc<Peer>>),
    /// The table is full of peers that are better known.
    Full,
}

impl Table {
    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.0.read().get(&id).cloned()
    }

    /// Every peer, in no particular order.
    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.0.read().values().cloned().collect()
    }

    pub(super) fn remove(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.0.write().remove(&id)
    }

    /// The peer `id`, made by `make` if it is new. When the table is full, which depends on who knows whom, the most dispensable one goes.
    /// One that is `wanted` now gets a place in any case.
    pub(super) fn get_or_insert(
        &self,
        id: NodeId,
        (layout, wanted): (&Layout, bool),
        make: impl FnOnce() -> Arc<Peer>,
    ) -> Inserted {
        let mut peers = self.0.write();
        if let Some(known) = peers.get(&id) {
            return Inserted::Known(known.clone());
        }
        let mut evicted = None;
        let most = if layout.is_relay() { PEERS_MAX_RELAY } else { PEERS_MAX };
        if layout.is_leaf() && peers.len() >= KNOWN_MAX {
            let Some((last, dispensable)) = last_in_line(&peers) else { return Inserted::Full };
            if !wanted && last >= place(id) {
                return Inserted::Full;
            }
            evicted = peers.remove(&dispensable);
        } else if peers.len() >= most {
            let dispensable = peers.values().filter_map(|peer| Some((peer.record().eviction_order()?, peer.id())));
            let Some((_, least)) = dispensable.min() else { return Inserted::Full };
            evicted = peers.remove(&least);
        }
        let peer = make();
        peers.insert(id, peer.clone());
        Inserted::New(peer, evicted)
    }

    /// Takes out those that are too many where relays know all: the last ones in line to relay.
    pub(super) fn shorten(&self) -> Vec<Arc<Peer>> {
        let mut peers = self.0.write();
        let mut line: Vec<([u8; 32], NodeId)> = line(&peers).collect();
        line.sort_unstable();
        let surplus = peers.len().saturating_sub(KNOWN_MAX);
        line.into_iter().take(surplus).filter_map(|(_, id)| peers.remove(&id)).collect()
    }

    /// A peer that proved its identity at one of `addresses` and is still there.
    pub(super) fn online_at(&self, addresses: &[SocketAddr]) -> Option<Arc<Peer>> {
        let peers = self.0.read();
        let here = |peer: &&Arc<Peer>| {
            let record = peer.record();
            record.state == State::Online && addresses.iter().any(|address| record.addresses.worked_at(*address))
        };
        peers.values().find(here).cloned()
    }

    /// The peers that can be asked now, the best first.
    pub(super) fn candidates(&self) -> Vec<Arc<Peer>> {
        let now = Instant::now();
        let peers = self.0.read();
        let mut ranked: Vec<(f64, &Arc<Peer>)> =
            peers.values().filter_map(|peer| Some((peer.record().rank(now)?, peer))).collect();
        ranked.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        ranked.into_iter().map(|(_, peer)| peer.clone()).collect()
    }

    /// Those that are there and agree with others on who downloads what.
    pub(super) fn claimants(&self) -> Vec<NodeId> {
        let claims = |peer: &&Arc<Peer>| {
            let record = peer.record();
            record.state == State::Online && record.claims
        };
        self.0.read().values().filter(claims).map(|peer| peer.id()).collect()
    }

    /// Whether a peer that was there a moment ago cannot be asked now.
    pub(super) fn has_others(&self) -> bool {
        let now = Instant::now();
        self.0.read().values().any(|peer| peer.record().is_left_alone(now))
    }
}

/// Those of whom this machine needs to know nothing, with their places in line to relay.
fn line(peers: &HashMap<NodeId, Arc<Peer>>) -> impl Iterator<Item = ([u8; 32], NodeId)> {
    let is_dispensable = |peer: &&Arc<Peer>| peer.record().eviction_order().is_some();
    peers.values().filter(is_dispensable).map(|peer| (place(peer.id()), peer.id()))
}

/// The last of them.
fn last_in_line(peers: &HashMap<NodeId, Arc<Peer>>) -> Option<([u8; 32], NodeId)> {
    line(peers).min()
}

//! Peers of a machine, seen from inside.

use super::LIMIT;
use peernix::index::Index;
use peernix::peers::{NodeId, Peer, Peers, State};
use std::sync::Arc;
use tokio::time::timeout;

/// Waits until a peer can be asked, and gives it.
pub(crate) async fn online(peers: &Peers, id: NodeId) -> Arc<Peer> {
    let mut events = peers.subscribe();
    let online = async {
        loop {
            match peers.get(id) {
                Some(peer) if peer.state() == State::Online => return peer,
                _ => drop(events.recv().await),
            }
        }
    };
    timeout(LIMIT, online).await.expect("the peer comes online")
}

/// An index that tells nothing and follows nobody.
pub(crate) fn no_index(peers: &Peers) -> Index {
    Index::new(peers.clone(), false, Arc::default())
}

//! One connection of a peer to our share: whether it is still welcome, and what it took.

use super::hub::Hub;
use super::identity::NodeId;
use super::peer::Peer;
use std::sync::{Arc, OnceLock};

/// Who is at the other end of a connection that our share accepted.
pub struct Visitor {
    id: NodeId,
    hub: Arc<Hub>,
    /// Once it is in the table: it may be introduced by the first thing that it asks for.
    peer: OnceLock<Arc<Peer>>,
}

impl Visitor {
    pub(super) const fn new(id: NodeId, hub: Arc<Hub>) -> Self {
        Self { id, hub, peer: OnceLock::new() }
    }

    /// Whether the administrator has blocked it by now. Takes nanoseconds.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.hub.decisions.is_blocked(self.id)
    }

    /// Notes that it was given so many bytes.
    pub fn took(&self, bytes: u64) {
        if let Some(peer) = self.peer.get() {
            return peer.took(bytes);
        }
        if let Some(peer) = self.hub.table.get(self.id) {
            peer.took(bytes);
            // Another request on the same connection may have been faster; it found the same peer.
            let _ = self.peer.set(peer);
        }
    }
}

//! What is said by those who look for peers, and what they are given to look with.

use crate::peers::identity::NodeId;
use crate::peers::state::{Provenance, Troubles};
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Word of a peer. None of it is proved; whoever takes it in dials.
#[derive(Debug)]
pub(crate) enum Sighting {
    /// A peer is said to be somewhere.
    Here {
        id: NodeId,
        addresses: Vec<SocketAddr>,
        provenance: Provenance,
        /// Whether the administrator added it at run time.
        added: bool,
        /// Whoever says so. Once it is told to end, what it said and was not taken in yet does not count any more.
        sender: CancellationToken,
    },
    /// A peer said goodbye: it is worth a look whether it is still there.
    Goodbye(NodeId),
    /// Someone who may be another machine goes by our own name there.
    Ourselves(SocketAddr),
}

/// What all who look for peers are given.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// This machine.
    pub(crate) id: NodeId,
    /// The port that its share listens on, 0 when nothing is shared.
    pub(crate) share_port: u16,
    /// Moves when the network changes.
    pub(crate) network: watch::Receiver<u64>,
    /// Moves when the administrator wants everything looked at.
    pub(crate) refresh: watch::Receiver<u64>,
    /// Where to say what was found.
    pub(crate) sightings: mpsc::Sender<Sighting>,
    /// Where to say what is wrong.
    pub(crate) troubles: watch::Sender<Troubles>,
    /// When to end.
    pub(crate) stop: CancellationToken,
}

/// Waits for a change, for ever if nobody watches any more.
pub(super) async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

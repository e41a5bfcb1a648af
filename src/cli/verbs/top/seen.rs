//! What the service tells at one moment.

use crate::cli::error::{Doing as _, Done};
use crate::control::{Control, Peer, PeerFilter, Statistics, Status, Transfer, timestamp};
use std::time::SystemTime;

/// One look.
pub(super) struct Seen {
    pub(super) status: Status,
    pub(super) statistics: Statistics,
    pub(super) peers: Vec<Peer>,
    pub(super) transfers: Vec<Transfer>,
    /// When, in microseconds since 1970.
    pub(super) at: u64,
}

impl Seen {
    /// Looks now.
    pub(super) async fn look(control: &dyn Control) -> Done<Self> {
        Ok(Self {
            status: control.status().await.doing("show the status")?,
            statistics: control.statistics().await.doing("show the statistics")?,
            peers: control.peers(PeerFilter::default()).await.doing("list the peers")?,
            transfers: control.transfers().await.doing("list the transfers")?,
            at: timestamp(SystemTime::now()),
        })
    }

    /// Bytes given to other machines.
    pub(super) fn shared(&self) -> u64 {
        self.statistics.faces.iter().filter(|face| face.name == "share").map(|face| face.bytes_served).sum()
    }

    /// How many peers can be asked.
    pub(super) fn online(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_online()).count()
    }
}

//! What the page tells, all of one moment.

use crate::control::{
    Control, Day, Key, Outcome, Peer, PeerFilter, Statistics, Status, Transfer, TrustedKey, timestamp,
};
use std::time::SystemTime;

/// All of it.
pub(super) struct Overview {
    pub(super) status: Status,
    pub(super) statistics: Statistics,
    /// Those that can be asked first, the fastest of them before the others.
    pub(super) peers: Vec<Peer>,
    pub(super) transfers: Vec<Transfer>,
    pub(super) days: Vec<Day>,
    pub(super) keys: Vec<Key>,
    pub(super) trusted: Vec<TrustedKey>,
    /// When that was, in microseconds since 1970.
    pub(super) now: u64,
}

impl Overview {
    /// Asks for it.
    pub(super) async fn of(control: &dyn Control) -> Outcome<Self> {
        let (status, statistics) = (control.status().await?, control.statistics().await?);
        let mut peers = control.peers(PeerFilter::default()).await?;
        peers.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.name.cmp(&other.name)));
        Ok(Self {
            status,
            statistics,
            peers,
            transfers: control.transfers().await?,
            days: control.history().await?,
            keys: control.keys().await?,
            trusted: control.trusted_keys().await?,
            now: timestamp(SystemTime::now()),
        })
    }

    /// How many peers can be asked.
    pub(super) fn online(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_online()).count()
    }
}

/// The smallest first.
fn rank(peer: &Peer) -> (bool, std::cmp::Reverse<u64>) {
    (!peer.is_online(), std::cmp::Reverse(peer.throughput.unwrap_or_default()))
}

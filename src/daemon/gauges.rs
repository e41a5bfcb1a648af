//! The numbers of now that no room counts, for `/metrics`.

use crate::fetch::Fetcher;
use crate::http::{Drain, Share};
use crate::index::Index;
use crate::metrics::{GaugeNow, History};
use crate::peers::{Peers, State};
use std::sync::Arc;
use std::time::SystemTime;

/// The rooms that know them.
pub(super) struct Rooms {
    pub(super) fetcher: Fetcher,
    pub(super) peers: Peers,
    pub(super) index: Index,
    pub(super) share: Arc<Share>,
    pub(super) drain: Arc<Drain>,
    pub(super) history: Arc<History>,
}

impl Rooms {
    /// All of them.
    pub(super) fn now(&self) -> Vec<GaugeNow> {
        let peers = self.peers.snapshot();
        let online = peers.iter().filter(|peer| peer.state == State::Online).count();
        let indexes = self.index.status();
        let entries = indexes.iter().map(|index| index.entries).sum();
        let last = indexes.iter().map(|status| status.updated).max();
        let last = last.and_then(|last| self.index.when(last).duration_since(SystemTime::UNIX_EPOCH).ok());
        let (sending, waiting) = self.share.load();
        let levels = self.history.levels();
        let membership = self.peers.fleet().view().ours.map_or(0, |ours| ours.not_after);
        vec![
            ("peernix_peers_known", "Peers in the table.", peers.len() as u64),
            ("peernix_peers_online", "Peers that answer.", online as u64),
            ("peernix_transfers", "Transfers under way.", self.fetcher.transfers_running() as u64),
            ("peernix_index_peers", "Peers whose index is known.", indexes.len() as u64),
            ("peernix_index_entries", "Entries in the indexes of peers, all together.", entries),
            (
                "peernix_index_updated_timestamp_seconds",
                "When a peer last told what it has, in seconds since 1970; 0 before the first.",
                last.map_or(0, |last| last.as_secs()),
            ),
            ("peernix_index_offered", "Paths that peers are told.", self.index.offered() as u64),
            ("peernix_uploads", "Answers from the store on their way to other machines.", sending as u64),
            ("peernix_uploads_waiting", "Answers that wait until others are done.", waiting as u64),
            (
                "peernix_store_bytes",
                "The sizes of all paths in the store; 0 if not known.",
                levels.store_bytes.unwrap_or(0),
            ),
            (
                "peernix_store_disk_bytes",
                "How large the disk of the store is; 0 if not known.",
                levels.disk_bytes.unwrap_or(0),
            ),
            (
                "peernix_store_disk_free_bytes",
                "What is free on the disk of the store.",
                levels.disk_free_bytes.unwrap_or(0),
            ),
            (
                "peernix_membership_expires_timestamp_seconds",
                "When this machine's membership in its fleet ends, in seconds since 1970; 0 without one.",
                membership,
            ),
            ("peernix_draining", "1 while no new work is taken.", u64::from(self.drain.is_on())),
            ("peernix_offline", "1 while nobody is asked for anything.", u64::from(self.fetcher.is_offline())),
        ]
    }
}

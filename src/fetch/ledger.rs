//! What goes on in this room, for those who watch: the transfers under way, events, and which paths are in use.

use super::error::TransferError;
use crate::nix::{StoreHash, StorePath};
use crate::peers::NodeId;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How many events a slow listener may fall behind.
const EVENTS_MAX: usize = 1024;
/// How long a path counts as in use after it was promised to Nix, or its transfer ended: Nix may still be busy with it.
const IN_USE: Duration = Duration::from_secs(10 * 60);
/// For how many paths that is remembered: more than the largest system has.
const IN_USE_MAX: u64 = 64 * 1024;
/// The most sources of one transfer that are named.
const SOURCES_MAX: usize = 64;

/// Where bytes come from, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceName {
    /// A peer.
    Peer(NodeId),
    /// An upstream, by its host and (where that is not the usual one) its port.
    Upstream(String),
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(id) => id.fmt(f),
            Self::Upstream(host) => f.write_str(host),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// A transfer began.
    TransferStarted {
        /// Its number, which no other transfer of this run has.
        id: u64,
        /// What is fetched.
        path: StorePath,
        /// How many bytes that is on the wire to Nix, if known.
        bytes: Option<u64>,
    },
    /// A transfer ended.
    TransferFinished {
        /// Its number.
        id: u64,
        /// What was fetched.
        path: StorePath,
        /// How far it came, in bytes.
        bytes: u64,
        /// How long it took.
        elapsed: Duration,
        /// Who gave something, in the order of their first part.
        sources: Vec<SourceName>,
        /// How often it went on from another source, or again from the same.
        failovers: u32,
        /// Why it did not give everything, if so.
        result: Result<(), TransferError>,
    },
    /// A peer said or sent what no honest one does. It is banned for it.
    Violation {
        /// Who.
        peer: NodeId,
        /// What it was asked for.
        hash: StoreHash,
        /// The same with its name, where that is known.
        path: Option<StorePath>,
        /// What it did.
        reason: String,
    },
}

/// One transfer, noted by itself.
pub(super) struct Trace {
    id: u64,
    path: StorePath,
    begun: Instant,
    done: AtomicU64,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    sources: Vec<SourceName>,
    failovers: u32,
}

impl Trace {
    /// So many bytes are there by now.
    pub(super) fn reached(&self, offset: u64) {
        self.done.store(offset, Relaxed);
    }

    /// The bytes come from this source now.
    pub(super) fn flows_from(&self, source: SourceName) {
        let mut parts = self.parts();
        if !parts.sources.contains(&source) && parts.sources.len() < SOURCES_MAX {
            parts.sources.push(source);
        }
    }

    /// It goes on from another source, or again.
    pub(super) fn failed_over(&self) {
        self.parts().failovers += 1;
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock()
    }
}

/// What goes on.
pub(super) struct Ledger {
    events: broadcast::Sender<FetchEvent>,
    last: AtomicU64,
    running: Mutex<BTreeMap<u64, StoreHash>>,
    in_use: Cache<StoreHash, ()>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            events: broadcast::channel(EVENTS_MAX).0,
            last: AtomicU64::new(0),
            running: Mutex::default(),
            in_use: Cache::builder().max_capacity(IN_USE_MAX).time_to_live(IN_USE).build(),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<FetchEvent> {
        self.events.subscribe()
    }

    /// Tells what `event` makes, if somebody listens.
    pub(super) fn tell(&self, event: impl FnOnce() -> FetchEvent) {
        if self.events.receiver_count() > 0 {
            // Whoever left meanwhile misses it.
            let _ = self.events.send(event());
        }
    }

    /// Notes that a transfer begins.
    pub(super) fn begin(&self, path: &StorePath, bytes: Option<u64>) -> Arc<Trace> {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let trace = Arc::new(Trace {
            id,
            path: path.clone(),
            begun: Instant::now(),
            done: AtomicU64::new(0),
            parts: Mutex::default(),
        });
        self.promised(path.hash());
        self.running().insert(id, path.hash());
        self.tell(|| FetchEvent::TransferStarted { id, path: path.clone(), bytes });
        trace
    }

    /// Notes that a transfer ended.
    pub(super) fn end(&self, trace: &Trace, result: &Result<(), TransferError>) {
        self.promised(trace.path.hash());
        self.running().remove(&trace.id);
        self.tell(|| {
            let parts = trace.parts();
            FetchEvent::TransferFinished {
                id: trace.id,
                path: trace.path.clone(),
                bytes: trace.done.load(Relaxed),
                elapsed: trace.begun.elapsed(),
                sources: parts.sources.clone(),
                failovers: parts.failovers,
                result: result.clone(),
            }
        });
    }

    /// Notes that Nix was promised a path.
    pub(super) fn promised(&self, hash: StoreHash) {
        self.in_use.insert(hash, ());
    }

    /// The paths that were promised or in transfer lately, or are now.
    pub(super) fn in_use(&self) -> Vec<StoreHash> {
        let mut hashes: Vec<StoreHash> = self.in_use.iter().map(|(hash, ())| *hash).collect();
        hashes.extend(self.running().values());
        hashes
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, StoreHash>> {
        self.running.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::new("0mdqa9w1p6cmli6976v4wi0sw9r4p5pr".parse().unwrap(), name).unwrap()
    }

    #[tokio::test]
    async fn a_transfer_is_told_from_its_begin_to_its_end() {
        let ledger = Ledger::new();
        let unheard = ledger.begin(&path("unheard"), None);
        ledger.end(&unheard, &Ok(()));
        let mut events = ledger.subscribe();
        let trace = ledger.begin(&path("heard"), Some(10));
        let upstream = SourceName::Upstream("cache.example.org".to_owned());
        trace.flows_from(upstream.clone());
        trace.reached(4);
        assert!(ledger.in_use().contains(&path("heard").hash()));
        trace.failed_over();
        trace.flows_from(upstream.clone());
        let lagging = Err(TransferError::Lagging);
        ledger.end(&trace, &lagging);
        assert!(ledger.running().is_empty() && ledger.in_use().contains(&path("heard").hash()));
        let started = FetchEvent::TransferStarted { id: 2, path: path("heard"), bytes: Some(10) };
        assert_eq!(events.recv().await.unwrap(), started);
        let FetchEvent::TransferFinished { id: 2, bytes: 4, sources, failovers: 1, result, .. } =
            events.recv().await.unwrap()
        else {
            panic!()
        };
        assert_eq!((sources, result), (vec![upstream], lagging));
    }

    #[tokio::test]
    async fn a_listener_that_sleeps_stops_nobody() {
        let ledger = Ledger::new();
        let mut events = ledger.subscribe();
        for _ in 0..EVENTS_MAX * 2 {
            ledger.begin(&path("x"), None);
        }
        assert!(matches!(events.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
        assert!(matches!(events.recv().await, Ok(FetchEvent::TransferStarted { .. })));
    }
}

//! What goes on in this room, for those who watch: the transfers under way, events, and which paths are in use.

use super::error::TransferError;
use super::source::SourceName;
use crate::nix::{StoreHash, StorePath};
use crate::peers::NodeId;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// How many events a slow listener may fall behind.
const EVENTS_MAX: usize = 1024;
/// How long a path counts as in use after it was promised to Nix, or its transfer ended: Nix may still be busy with it.
const IN_USE: Duration = Duration::from_secs(10 * 60);
/// For how many paths that is remembered: more than the largest system has.
const IN_USE_MAX: u64 = 64 * 1024;
/// Of how many transfers it is remembered how they went.
const REMEMBERED_MAX: u64 = 4096;
/// The most sources of one transfer that are named.
const SOURCES_MAX: usize = 64;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// A transfer began.
    TransferStarted {
        /// Its number, which no other transfer of this run has.
        id: u64,
        /// What is fetched.
        path: StorePath,
        /// How many bytes that is.
        bytes: u64,
    },
    /// A transfer waits, because all who have the path are busy. Told once.
    TransferWaiting {
        /// Its number.
        id: u64,
        /// What is fetched.
        path: StorePath,
        /// How many bytes are there.
        bytes: u64,
    },
    /// The machines of the network agreed on who downloads what none of them has.
    TransferClaimed {
        /// The number of this machine's transfer.
        id: u64,
        /// What is fetched.
        path: StorePath,
        /// Whom this machine streams it from; `None`: it downloads it for the others.
        follows: Option<SourceName>,
    },
    /// A transfer ended.
    TransferFinished {
        /// Its number.
        id: u64,
        /// What was fetched.
        path: StorePath,
        /// How far it came, in bytes.
        bytes: u64,
        /// Who gave something, in the order of their first part.
        sources: Vec<SourceName>,
        /// Why it did not give everything, if so.
        result: Result<(), TransferError>,
    },
    /// A peer said or sent what no honest one does, or damaged content. It is banned, or the path is not asked of it any more.
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

/// How a transfer went that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastTransfer {
    /// When it ended.
    pub ended: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// How far it came, in bytes.
    pub bytes: u64,
    /// Who gave something, in the order of their first part.
    pub sources: Vec<SourceName>,
    /// Why it did not give everything, if so.
    pub error: Option<String>,
}

/// A transfer under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its number, which no other transfer of this run has.
    pub id: u64,
    /// What is fetched.
    pub path: StorePath,
    /// How many bytes that is.
    pub size: u64,
    /// How many of them are there.
    pub bytes: u64,
    /// Who gave something, in the order of their first part.
    pub sources: Vec<SourceName>,
    /// When it began.
    pub began: SystemTime,
    /// Whether it waits or waited, because all who have the path were busy.
    pub has_waited: bool,
}

/// One transfer, noted by itself.
pub(crate) struct Trace {
    id: u64,
    path: StorePath,
    size: u64,
    began: SystemTime,
    begun: Instant,
    done: AtomicU64,
    /// It was told that it waits.
    has_waited: AtomicBool,
    sources: Mutex<Vec<SourceName>>,
}

impl Trace {
    /// So many bytes are there by now.
    pub(crate) fn reached(&self, offset: u64) {
        self.done.store(offset, Relaxed);
    }

    fn now(&self) -> Running {
        Running {
            id: self.id,
            path: self.path.clone(),
            size: self.size,
            bytes: self.done.load(Relaxed),
            sources: self.sources.lock().clone(),
            began: self.began,
            has_waited: self.has_waited.load(Relaxed),
        }
    }

    /// The bytes come from this source now.
    pub(crate) fn flows_from(&self, source: SourceName) {
        let mut sources = self.sources.lock();
        if !sources.contains(&source) && sources.len() < SOURCES_MAX {
            sources.push(source);
        }
    }
}

/// What goes on.
pub(crate) struct Activity {
    events: broadcast::Sender<FetchEvent>,
    last: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Trace>>>,
    in_use: Cache<StoreHash, ()>,
    over: Cache<StoreHash, Arc<LastTransfer>>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            events: broadcast::channel(EVENTS_MAX).0,
            last: AtomicU64::new(0),
            running: Mutex::default(),
            in_use: Cache::builder().max_capacity(IN_USE_MAX).time_to_live(IN_USE).build(),
            over: Cache::builder().max_capacity(REMEMBERED_MAX).build(),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<FetchEvent> {
        self.events.subscribe()
    }

    /// Tells what `event` makes, if somebody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> FetchEvent) {
        if self.events.receiver_count() > 0 {
            // Whoever left meanwhile misses it.
            let _ = self.events.send(event());
        }
    }

    /// Notes that a transfer begins.
    pub(crate) fn begin(&self, path: &StorePath, bytes: u64) -> Arc<Trace> {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let (done, has_waited) = (AtomicU64::new(0), AtomicBool::new(false));
        let (begun, sources) = (Instant::now(), Mutex::default());
        let (path, size, began) = (path.clone(), bytes, SystemTime::now());
        let trace = Arc::new(Trace { id, path: path.clone(), size, began, begun, done, has_waited, sources });
        self.promised(path.hash());
        self.running().insert(id, Arc::clone(&trace));
        self.tell(|| FetchEvent::TransferStarted { id, path, bytes });
        trace
    }

    /// Notes that a transfer waits for others to be less busy; false if that is known.
    pub(crate) fn waits(&self, trace: &Trace) -> bool {
        let is_new = !trace.has_waited.swap(true, Relaxed);
        if is_new {
            let (id, path, bytes) = (trace.id, trace.path.clone(), trace.done.load(Relaxed));
            self.tell(|| FetchEvent::TransferWaiting { id, path, bytes });
        }
        is_new
    }

    /// Notes who downloads: this machine, or the one that it `follows`.
    pub(crate) fn claimed(&self, trace: &Trace, follows: Option<SourceName>) {
        self.tell(|| FetchEvent::TransferClaimed { id: trace.id, path: trace.path.clone(), follows });
    }

    /// Notes that a transfer ended.
    pub(crate) fn end(&self, trace: &Trace, result: &Result<(), TransferError>) {
        self.promised(trace.path.hash());
        self.running().remove(&trace.id);
        // Nobody read it: that says nothing of how it comes.
        if !matches!(result, Err(TransferError::Abandoned)) {
            let last = LastTransfer {
                ended: SystemTime::now(),
                took: trace.begun.elapsed(),
                bytes: trace.done.load(Relaxed),
                sources: trace.sources.lock().clone(),
                error: result.as_ref().err().map(ToString::to_string),
            };
            self.over.insert(trace.path.hash(), Arc::new(last));
        }
        self.tell(|| FetchEvent::TransferFinished {
            id: trace.id,
            path: trace.path.clone(),
            bytes: trace.done.load(Relaxed),
            sources: trace.sources.lock().clone(),
            result: result.clone(),
        });
    }

    /// How the last transfer of a path went, if it is remembered.
    pub(crate) fn last(&self, hash: StoreHash) -> Option<LastTransfer> {
        self.over.get(&hash).map(|last| LastTransfer::clone(&last))
    }

    /// Notes that Nix was promised a path.
    pub(crate) fn promised(&self, hash: StoreHash) {
        self.in_use.insert(hash, ());
    }

    /// The paths that were promised or in transfer lately, or are now.
    pub(crate) fn in_use(&self) -> Vec<StoreHash> {
        let mut hashes: Vec<StoreHash> = self.in_use.iter().map(|(hash, ())| *hash).collect();
        hashes.extend(self.running().values().map(|trace| trace.path.hash()));
        hashes
    }

    /// The transfers under way, the oldest first, not more than `most`.
    pub(crate) fn now(&self, most: usize) -> Vec<Running> {
        let running: Vec<_> = self.running().values().take(most).cloned().collect();
        running.iter().map(|trace| trace.now()).collect()
    }

    /// The transfer of this path that is under way, if there is one.
    pub(crate) fn now_of(&self, hash: StoreHash) -> Option<Running> {
        let trace = self.running().values().find(|trace| trace.path.hash() == hash).cloned();
        trace.map(|trace| trace.now())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Trace>>> {
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
        let activity = Activity::new();
        let unheard = activity.begin(&path("unheard"), 10);
        activity.end(&unheard, &Ok(()));
        let mut events = activity.subscribe();
        let trace = activity.begin(&path("heard"), 10);
        let upstream = SourceName::Upstream("cache.example.org".to_owned());
        trace.flows_from(upstream.clone());
        trace.reached(4);
        assert!(activity.in_use().contains(&path("heard").hash()));
        trace.flows_from(upstream.clone());
        let [now] = &activity.now(10)[..] else { panic!() };
        assert_eq!((now.id, now.size, now.bytes, &now.sources), (2, 10, 4, &vec![upstream.clone()]));
        assert!(!now.has_waited && activity.now(0).is_empty());
        assert_eq!(activity.now_of(path("heard").hash()).as_ref(), Some(now));
        let lagging = Err(TransferError::Lagging);
        activity.end(&trace, &lagging);
        assert!(activity.now_of(path("heard").hash()).is_none() && activity.in_use().contains(&path("heard").hash()));
        let started = FetchEvent::TransferStarted { id: 2, path: path("heard"), bytes: 10 };
        assert_eq!(events.recv().await.unwrap(), started);
        let FetchEvent::TransferFinished { id: 2, bytes: 4, sources, result, .. } = events.recv().await.unwrap() else {
            panic!()
        };
        assert_eq!((&sources, result), (&vec![upstream], lagging));
        let last = activity.last(path("heard").hash()).unwrap();
        assert_eq!((last.bytes, &last.sources, last.error.is_some()), (4, &sources, true));
        let abandoned = activity.begin(&path("given-up"), 10);
        activity.end(&abandoned, &Err(TransferError::Abandoned));
        assert_eq!(activity.last(path("given-up").hash()).unwrap().bytes, 4, "the hash is the same");
    }

    #[tokio::test]
    async fn a_listener_that_sleeps_stops_nobody() {
        let activity = Activity::new();
        let mut events = activity.subscribe();
        for _ in 0..EVENTS_MAX * 2 {
            activity.begin(&path("x"), 10);
        }
        assert!(matches!(events.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
        assert!(matches!(events.recv().await, Ok(FetchEvent::TransferStarted { .. })));
    }
}

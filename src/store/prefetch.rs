//! Fetching paths into the store before anybody needs them, by the Nix daemon.
//!
//! The daemon asks its substituters, among which our gateway should be (`peernixctl doctor` says whether it is); it checks
//! signatures as always and never builds. What it has lately been told is nowhere it does not ask for again before its
//! `narinfo-cache-negative-ttl`. What was fetched is garbage until something refers to it: pin what shall stay.

use super::daemon::{COPY_PATH, Fetcher, Message};
use super::{Store, StoreError};
use crate::nix::{StoreDir, StorePath};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use tokio_util::sync::CancellationToken;

/// How many paths one call may ask for.
pub const PREFETCH_MAX: usize = 4096;
/// How many of them are fetched at once, each over a connection of its own. The daemon fetches each closure's paths at once.
const FETCHERS: usize = 4;
/// After how many more bytes there is news.
const NEWS: u64 = 1024 * 1024;
/// How many copies are followed for one path that was asked for; of more the bytes are not counted.
const COPIES_MAX: usize = 1 << 16;

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefetchResult {
    /// It was there.
    Present,
    /// It is there now, with its closure.
    Fetched,
    /// It is not to be had, and why.
    Unavailable(String),
}

/// A path that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefetch {
    /// Which.
    pub path: StorePath,
    /// The size of its NAR in bytes, if it is there.
    pub size: Option<u64>,
    /// What became of it.
    pub result: PrefetchResult,
}

/// What happens while paths are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefetchProgress {
    /// What has to be fetched, closures included, as far as the substituters know.
    Planned {
        /// How many paths.
        paths: u64,
        /// How many bytes will be downloaded; compressed, maybe.
        download_size: u64,
        /// How many bytes that is in the store.
        nar_size: u64,
    },
    /// So many bytes are fetched by now, counted as those of NARs.
    Bytes(u64),
    /// The daemon is done with a path that was asked for.
    Done(Prefetch),
}

/// What it came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// The paths that the daemon is done with, in the order of the request.
    pub paths: Vec<Prefetch>,
    /// The bytes that were fetched, counted as those of NARs.
    pub bytes: u64,
    /// Whether it was ended before its time.
    pub cancelled: bool,
}

type Tell<'a> = &'a mut (dyn FnMut(PrefetchProgress) + Send);

impl Store {
    /// Fetches `paths` with their closures from the Nix daemon's substituters.
    ///
    /// # Errors
    /// Too many paths, or the daemon cannot be reached at all. What goes wrong later goes wrong for single paths.
    pub async fn prefetch(
        &self,
        paths: &[StorePath],
        mut progress: impl FnMut(PrefetchProgress) + Send,
        cancel: &CancellationToken,
    ) -> Result<Prefetched, StoreError> {
        if paths.len() > PREFETCH_MAX {
            return Err(StoreError::Limit { what: "paths to fetch at once".to_owned(), limit: PREFETCH_MAX as u64 });
        }
        let work = Work { next: 0, done: HashMap::new(), bytes: 0, told: 0, lost: None, tell: &mut progress };
        let work = Shared { paths, work: Mutex::new(work) };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            result = self.fetch_all(&work) => Some(result),
        };
        if let Some(Err(error)) = ended {
            return Err(error.needs_daemon("fetching paths"));
        }
        let mut work = work.work.into_inner();
        let done = (0..paths.len()).filter_map(|number| work.done.remove(&number)).collect();
        Ok(Prefetched { paths: done, bytes: work.bytes, cancelled: ended.is_none() })
    }

    async fn fetch_all(&self, work: &Shared<'_>) -> Result<(), StoreError> {
        let mut first = self.0.daemon.fetcher().await?;
        match first.missing(work.paths).await {
            Ok(missing) => work.tell(PrefetchProgress::Planned {
                paths: missing.fetched.len() as u64,
                download_size: missing.download_size,
                nar_size: missing.nar_size,
            }),
            // The totals are not worth a failure.
            Err(StoreError::Refused(reason)) => log::debug!(reason; "the Nix daemon does not say what is missing"),
            Err(error) => return Err(error),
        }
        let others = || self.fetch_some(work, None);
        const { assert!(FETCHERS == 4) };
        tokio::join!(self.fetch_some(work, Some(first)), others(), others(), others());
        Ok(())
    }

    /// Fetches one after the other of what nobody else has begun with.
    async fn fetch_some<'a>(&'a self, work: &Shared<'_>, mut fetcher: Option<Fetcher<'a>>) {
        while let Some((number, path)) = work.begin() {
            let result = match self.valid(path).await {
                Ok(Some(_)) => Ok(PrefetchResult::Present),
                _ => self.fetch_one(work, &mut fetcher, path).await,
            };
            let result = result.unwrap_or_else(|error| PrefetchResult::Unavailable(error.to_string()));
            let size = match result {
                PrefetchResult::Unavailable(_) => None,
                _ => self.valid(path).await.ok().flatten().map(|valid| valid.info.nar_size),
            };
            work.end(number, Prefetch { path: path.clone(), size, result });
        }
    }

    async fn fetch_one<'a>(
        &'a self,
        work: &Shared<'_>,
        fetcher: &mut Option<Fetcher<'a>>,
        path: &StorePath,
    ) -> Result<PrefetchResult, StoreError> {
        // Twice, because the daemon may be being restarted; a refusal is final.
        for last in [false, true] {
            if let Some(reason) = work.lost() {
                return Ok(PrefetchResult::Unavailable(reason));
            }
            let connected = match fetcher.take() {
                Some(connected) => Ok(connected),
                None => self.0.daemon.fetcher().await,
            };
            let mut connected = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    // So that not every path waits for a daemon that is gone.
                    work.lose(&error);
                    return Err(error);
                }
            };
            let mut copies = HashMap::new();
            match connected.ensure(path, &mut |message| work.hear(&self.0.dir, &mut copies, message)).await {
                Ok(()) => {
                    *fetcher = Some(connected);
                    self.settle(work, copies).await;
                    return Ok(PrefetchResult::Fetched);
                }
                Err(StoreError::Refused(reason)) => {
                    *fetcher = Some(connected);
                    return Ok(PrefetchResult::Unavailable(reason));
                }
                Err(error) if last => return Err(error),
                Err(error) => log::debug!(reason:% = error; "the connection to the Nix daemon is made anew"),
            }
        }
        Err(StoreError::Closed)
    }

    /// Counts what was not told of copies that succeeded: the daemon does not speak of every last byte.
    async fn settle(&self, work: &Shared<'_>, copies: Copies) {
        let mut counted: HashMap<StorePath, u64> = HashMap::new();
        for (path, done) in copies.into_values() {
            let known = counted.entry(path).or_default();
            *known = (*known).max(done);
        }
        for (path, done) in counted {
            if let Ok(Some(valid)) = self.valid(&path).await {
                work.count(valid.info.nar_size.saturating_sub(done));
            }
        }
    }
}

/// By the daemon's number: what is copied, and how many bytes of it are.
type Copies = HashMap<u64, (StorePath, u64)>;

/// What the fetchers share.
struct Shared<'a> {
    paths: &'a [StorePath],
    work: Mutex<Work<'a>>,
}

struct Work<'a> {
    next: usize,
    done: HashMap<usize, Prefetch>,
    bytes: u64,
    /// How many of them were told.
    told: u64,
    /// Why the daemon cannot be reached any more.
    lost: Option<String>,
    tell: Tell<'a>,
}

impl<'a> Shared<'a> {
    fn work(&self) -> MutexGuard<'_, Work<'a>> {
        self.work.lock()
    }

    fn tell(&self, progress: PrefetchProgress) {
        (self.work().tell)(progress);
    }

    fn begin(&self) -> Option<(usize, &'a StorePath)> {
        let mut work = self.work();
        let path = self.paths.get(work.next)?;
        work.next += 1;
        Some((work.next - 1, path))
    }

    fn end(&self, number: usize, path: Prefetch) {
        let mut work = self.work();
        if work.told != work.bytes {
            work.told = work.bytes;
            let bytes = work.bytes;
            (work.tell)(PrefetchProgress::Bytes(bytes));
        }
        (work.tell)(PrefetchProgress::Done(path.clone()));
        work.done.insert(number, path);
    }

    fn lost(&self) -> Option<String> {
        self.work().lost.clone()
    }

    fn lose(&self, error: &StoreError) {
        self.work().lost = Some(error.to_string());
    }

    /// Counts what is copied.
    fn hear(&self, dir: &StoreDir, copies: &mut Copies, message: Message) {
        match message {
            Message::Start { id, kind: COPY_PATH, subject } if copies.len() < COPIES_MAX => {
                if let Ok(path) = dir.parse(&subject) {
                    copies.insert(id, (path, 0));
                }
            }
            Message::Progress { id, done } => {
                let Some((_, before)) = copies.get_mut(&id) else { return };
                let more = done.saturating_sub(*before);
                *before = (*before).max(done);
                self.count(more);
            }
            _ => {}
        }
    }

    fn count(&self, more: u64) {
        let mut work = self.work();
        work.bytes = work.bytes.saturating_add(more);
        if work.bytes - work.told >= NEWS {
            work.told = work.bytes;
            let bytes = work.bytes;
            (work.tell)(PrefetchProgress::Bytes(bytes));
        }
    }
}

//! Getting a path: from a store hash to a verified path info, and from there to the bytes of its NAR.
//!
//! The gateway asks this room and nobody else. Its promises: an answer within the budget, one lookup and one transfer for
//! however many ask at once, nothing unverified, and no source whose failure a reader would notice while another one can
//! go on.
#![forbid(unsafe_code)]

mod administration;
mod begin;
mod candidates;
mod decode;
mod error;
mod found;
mod hasher;
mod ledger;
mod lookup;
mod pace;
mod pass_through;
mod patience;
mod settling;
mod source;
mod stream;
mod survey;
mod suspects;
mod transfer;
mod trusted;
mod upstream;
mod upstreams;
mod verify;

pub use error::{Lie, SourceError, TransferError};
pub use found::Found;
pub use ledger::{FetchEvent, SourceName};
pub use survey::{SourceView, Survey};
pub use verify::Trust;

use crate::metrics::Metrics;
use crate::nix::{Compression, NarHash, StoreHash, TrustedKeys};
use crate::peers::Peers;
use bytes::Bytes;
use hyper::Uri;
use hyper::body::{Body, Frame, SizeHint};
use ledger::Ledger;
use lookup::{Answer, Answers, Budget, Lookup};
use moka::future::Cache;
use parking_lot::Mutex;
use settling::Settling;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use stream::{Progress, Reader, Stream};
use suspects::Suspects;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use trusted::CurrentTrust;
use upstreams::Upstreams;

/// How long a found path is remembered. Its sources may go away sooner; then they are looked for again.
const REMEMBER_FOUND: Duration = Duration::from_secs(60);
/// How long it is remembered that nobody has a path: the time between Nix's HEAD and its GET.
const REMEMBER_ABSENT: Duration = Duration::from_secs(2);
/// How long it is remembered that somebody did not answer.
const REMEMBER_UNKNOWN: Duration = Duration::from_millis(500);
/// How much memory recent answers may take, in bytes.
const MEMORY_OF_ANSWERS: u64 = 8 * 1024 * 1024;
/// The largest log, listing or other small document fetched for Nix, in bytes.
const DOCUMENT_LIMIT: usize = 16 * 1024 * 1024;
/// How many documents are fetched at once.
const DOCUMENTS: usize = 4;
/// How long a NAR that turned out wrong is not continued: Nix would put the right end to the wrong beginning.
const TAINTED: Duration = Duration::from_secs(60);

/// What this room needs to know; the daemon takes it from the configuration.
pub struct Options {
    /// Whose signatures let a path in.
    pub trust: Trust,
    /// The binary caches on the Internet, in order of preference.
    pub upstreams: Vec<Uri>,
    /// How long a lookup may take in all.
    pub budget: Duration,
    /// How much memory transfers may take together, in bytes; at least one whole NAR's worth is always granted.
    pub memory: u64,
}

/// The room's handle; cheap to clone.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    lookup: Arc<Lookup>,
    answers: Answers,
    transfers: Mutex<HashMap<TransferKey, Arc<Stream>>>,
    /// Transfers that ended with wrong content lately.
    tainted: moka::sync::Cache<TransferKey, ()>,
    documents: Semaphore,
    /// Turns of the transfers that work on threads of their own.
    turns: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// How many permits `memory` has in all.
    memory_units: u32,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    settling: Settling,
}

/// What makes two requests the same transfer: the NAR, how it is compressed, and how long that file is, because two
/// upstreams may have different files.
type TransferKey = (NarHash, Compression, Option<u64>);

/// A request for a NAR, as the gateway's URL tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarRequest {
    /// The path.
    pub hash: StoreHash,
    /// The NAR that its narinfo promised.
    pub nar_hash: NarHash,
    /// The compression that its narinfo promised.
    pub compression: Compression,
}

/// The bytes of a NAR; an error ends the connection, so that nobody takes a part for the whole.
pub struct NarBody(Reader);

impl Body for NarBody {
    type Data = Bytes;
    type Error = TransferError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Fetcher {
    /// Sets up the room. Nothing is sent before somebody asks.
    #[must_use]
    pub fn new(options: Options, peers: Peers, metrics: Arc<Metrics>, tasks: TaskTracker) -> Self {
        let lookup = Lookup {
            peers,
            upstreams: Upstreams::new(&options.upstreams, &metrics),
            trust: CurrentTrust::new(options.trust),
            budget: Budget::new(options.budget),
            metrics: Arc::clone(&metrics),
            ledger: Ledger::new(),
            suspects: Suspects::new(),
            late: Arc::new(Semaphore::new(lookup::LATE_LOOKUPS)),
        };
        let answers = Cache::builder()
            .weigher(|_, answer: &Answer| match answer {
                Answer::Found(found) => found.weight(),
                Answer::Absent | Answer::Unknown => 128,
            })
            .max_capacity(MEMORY_OF_ANSWERS)
            .expire_after(Remember)
            .build();
        let memory_units = begin::units(options.memory.max(transfer::WHOLE));
        Self(Arc::new(Inner {
            lookup: Arc::new(lookup),
            answers,
            transfers: Mutex::default(),
            tainted: moka::sync::Cache::builder().max_capacity(1024).time_to_live(TAINTED).build(),
            documents: Semaphore::new(DOCUMENTS),
            turns: Arc::new(Semaphore::new(begin::TRANSFERS_MAX)),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            tasks,
            metrics,
            settling: Settling::new(),
        }))
    }

    /// Who has `hash`, as a verified path info; `None` if nobody is known to have it within the budget.
    pub async fn narinfo(&self, hash: StoreHash) -> Option<Arc<Found>> {
        match self.answer(hash).await {
            Answer::Found(found) => {
                self.0.lookup.ledger.promised(hash);
                Some(found)
            }
            Answer::Absent | Answer::Unknown => None,
        }
    }

    async fn answer(&self, hash: StoreHash) -> Answer {
        let metrics = &self.0.metrics;
        let lookup = &self.0.lookup;
        let trusted = lookup.trust.now();
        let key = (trusted.number, hash);
        let mut asked = false;
        let answer = self
            .0
            .answers
            .get_with(key, async {
                asked = true;
                lookup.ask(hash, None, &trusted, Some(&self.0.answers)).await
            })
            .await;
        let result = match &answer {
            _ if !asked => &metrics.lookups_remembered,
            Answer::Found(found) if found.is_from_peer() => &metrics.lookups_peer,
            Answer::Found(_) => &metrics.lookups_upstream,
            Answer::Absent => &metrics.lookups_absent,
            Answer::Unknown => &metrics.lookups_unknown,
        };
        result.add(1);
        answer
    }

    /// The path of `request`, if somebody has it with that very NAR.
    async fn find(&self, request: &NarRequest) -> Option<Arc<Found>> {
        // Right after a start Nix may go on with a download that the end of the last process broke off, and a "not found" is
        // final to it. Watched from before the first look, so that nobody comes between it and the wait.
        let mut arrivals = self.0.settling.watch(&self.0.lookup.peers);
        loop {
            let found = self.find_now(request).await;
            if found.is_some() || !arrivals.next().await {
                return found;
            }
        }
    }

    async fn find_now(&self, request: &NarRequest) -> Option<Arc<Found>> {
        let lookup = &self.0.lookup;
        let is_it = |found: &Found| found.info.nar_hash == request.nar_hash;
        let found = match self.answer(request.hash).await {
            Answer::Found(found) if is_it(&found) => found,
            // Nix remembers narinfos for 30 days: another build of the path may be what is found first by now.
            _ => match lookup.ask(request.hash, Some(request.nar_hash), &lookup.trust.now(), None).await {
                Answer::Found(found) => found,
                // A file of an upstream was promised, and it may be slower than the budget.
                _ => return lookup.ask_upstreams(request.hash, request.nar_hash, &request.compression).await,
            },
        };
        if !found.is_offered_in(&request.compression) {
            // Peers answered first; what the upstreams have is remembered beside it.
            let file = lookup.ask_upstreams(request.hash, request.nar_hash, &request.compression).await?;
            found.add_all(&file);
        }
        found.is_offered_in(&request.compression).then_some(found)
    }

    /// How long the file of `request` is, without fetching it. `None`: nobody has it; `Some(None)`: its length is not known.
    pub async fn size(&self, request: &NarRequest) -> Option<Option<u64>> {
        Some(self.find(request).await?.size_in(&request.compression))
    }

    /// The file of `request`, which is `size` bytes long as [`Self::size`] said, from byte `offset` on; `None` if no source
    /// could even begin.
    pub async fn nar(&self, request: &NarRequest, size: Option<u64>, offset: u64) -> Option<NarBody> {
        let key = (request.nar_hash, request.compression.clone(), size);
        if offset == 0 {
            self.0.tainted.invalidate(&key);
        } else if self.0.tainted.contains_key(&key) {
            return None;
        }
        let joined = self.running().get(&key).and_then(|stream| Some((Arc::clone(stream), stream.reader(offset)?)));
        let (stream, reader) = match joined {
            Some(joined) => {
                self.0.metrics.transfers_joined.add(1);
                joined
            }
            None => self.start(request, key, offset).await?,
        };
        let mut progress = stream.progress();
        // The sender is in `stream`, which is alive.
        let state = progress.wait_for(|progress| *progress != Progress::Pending).await.ok()?.clone();
        match state {
            Progress::Failed(error) => {
                log::debug!(path:% = request.hash, reason:% = error; "no NAR: {error}");
                self.0.answers.invalidate(&(self.0.lookup.trust.now().number, request.hash)).await;
                None
            }
            Progress::Pending | Progress::Flowing => Some(NarBody(reader)),
        }
    }

    /// A small document of the cache protocol (a log, a listing, a realisation) from the upstreams, which alone may be
    /// asked for what no signature covers.
    pub async fn document(&self, path: &str) -> Option<Bytes> {
        let _seat = self.0.documents.acquire().await.ok()?;
        for upstream in self.0.lookup.upstreams.now().iter().filter(|upstream| upstream.is_available()) {
            match upstream.document(path, DOCUMENT_LIMIT).await {
                Ok(Some(document)) => return Some(document),
                Ok(None) => {}
                Err(error) => log::debug!(upstream:% = upstream; "no document: {error}"),
            }
        }
        None
    }

    /// Puts other trusted keys in force. Every lookup that begins after this is judged by
    /// them, and nothing found before is remembered: what only a key that is gone signed is refused at once, narinfo and
    /// NAR. Transfers that already have a reader end as they began; Nix itself judges what they bring.
    pub fn set_trust(&self, keys: TrustedKeys) {
        self.0.lookup.trust.set(keys);
        // They are not found any more; this gives their memory back.
        self.0.answers.invalidate_all();
    }
}

/// How long which answer is remembered.
struct Remember;

impl moka::Expiry<lookup::Asked, Answer> for Remember {
    fn expire_after_create(&self, _: &lookup::Asked, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(match answer {
            Answer::Found(_) => REMEMBER_FOUND,
            Answer::Absent => REMEMBER_ABSENT,
            Answer::Unknown => REMEMBER_UNKNOWN,
        })
    }
}

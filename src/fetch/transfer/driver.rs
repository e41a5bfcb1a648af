//! Carries out what the scheduler decides: nothing is decided here.

use super::assembly::Assembly;
use super::events::{Action, Candidate, Event};
use super::flight::Flight;
use super::keeper::{Decision, Keeper};
use super::memory::Reserved;
use super::scheduler::Scheduler;
use super::shared::{Place, Shared};
use super::spool::Writer;
use crate::fetch::activity::Trace;
use crate::fetch::blame::About;
use crate::fetch::claims::lease::Lease;
use crate::fetch::claims::site::Granted;
use crate::fetch::error::{SourceError, TransferError};
use crate::fetch::patch::frames::NAR_MIN;
use crate::fetch::pieces::gather::{Notes, gather, is_worth_it};
use crate::fetch::pieces::several::Several;
use crate::fetch::pieces::stripes::WINDOW;
use crate::fetch::pieces::table::PIECE;
use crate::fetch::resolve::resolution::Resolution;
use crate::fetch::resolve::resolver::Late;
use crate::fetch::source::patched::Patched;
use crate::fetch::source::rest::RestSource;
use crate::fetch::source::{Abilities, NarId, Source, SourceId};
use crate::nix::{NarHash, PathInfo};
use crate::peers::Sample;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

/// Who looks for more sources, and adds them to the resolution: ready when those have answered who do so at once.
pub(crate) type Search = Pin<Box<dyn Future<Output = Late> + Send>>;

/// A transfer under way.
pub(crate) struct Transfer<F> {
    shared: Arc<Shared>,
    resolution: Arc<Resolution>,
    /// Asks everybody who has the NAR of a resolution.
    find: F,
    trace: Arc<Trace>,
    assembly: Assembly,
    scheduler: Scheduler,
    /// By their keys.
    sources: Vec<Arc<dyn Source>>,
    flight: Option<Flight>,
    /// What went well, to be told once the content has turned out right.
    samples: Vec<(Arc<dyn Source>, Sample)>,
    /// How many sources are known to the resolution.
    known: watch::Receiver<usize>,
    search: Option<Search>,
    late: Option<Late>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Its place among the transfers of the site, once others were asked…
    lease: Option<Lease>,
    claim: Option<Asking>,
    /// Until when other machines may be followed of which nothing reaches a reader before all is there.
    follow_until: Option<Pin<Box<Sleep>>>,
    /// They are followed no longer.
    followed_enough: bool,
    begun: Instant,
    /// … and where what comes is kept for them.
    spool: Option<Writer>,
    /// Whether it is kept for this machine.
    keeper: Option<Keeper>,
    /// Held while several send at once.
    window: Option<Reserved>,
}

/// Why a NAR is not given of which nothing may be seen before it is proved.
const NO_ROOM: &str =
    "there is no room to keep it until it is verified ([cache] max_size, and the disk of the cache directory)";

/// How long other machines are followed where readers get nothing before all is there, unless it will be there in [`NIX_WAITS`]…
const FOLLOWED_MAX: Duration = Duration::from_secs(150);
/// … which is a little less than Nix waits without a byte.
const NIX_WAITS: Duration = Duration::from_secs(280);
/// After how long that is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// What the others say.
type Asking = Pin<Box<dyn Future<Output = Granted> + Send>>;

/// What is waited for.
enum Step {
    Chunk(Option<Result<Bytes, SourceError>>),
    Searched(Late),
    HeardAll,
    Claimed(Granted),
    FollowedLongEnough,
    Known,
    Rested,
}

impl<F> Transfer<F>
where
    F: Fn(&Arc<Resolution>) -> Search + Send,
{
    /// Of the NAR of `resolution` into `assembly`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        resolution: Arc<Resolution>,
        find: F,
        assembly: Assembly,
        trace: Arc<Trace>,
    ) -> Self {
        let PathInfo { nar_hash, nar_size, .. } = resolution.info;
        // What came wrong from others of late comes from where it is known to be right.
        let has_others = shared.place.site.has_others() && !shared.suspects.is_doubtful(nar_hash);
        Self {
            scheduler: Scheduler::new(nar_hash, nar_size, assembly.is_restartable(), has_others),
            known: resolution.subscribe(),
            shared,
            resolution,
            find,
            trace,
            assembly,
            sources: Vec::new(),
            flight: None,
            samples: Vec::new(),
            search: None,
            late: None,
            pause: None,
            lease: None,
            claim: None,
            follow_until: None,
            followed_enough: false,
            begun: Instant::now(),
            spool: None,
            keeper: None,
            window: None,
        }
    }

    /// Runs it to its end, which its readers are told.
    pub(crate) async fn run(mut self) -> Result<(), TransferError> {
        let outcome = self.drive().await.map_err(|error| self.explained(error));
        let (metrics, path) = (&self.shared.metrics, &self.resolution.info.path);
        match &outcome {
            Ok(()) => metrics.transfers_completed.add(1),
            Err(TransferError::Abandoned) => log::debug!(path:% = path; "given up: nobody reads"),
            Err(error) => {
                metrics.transfers_failed.add(1);
                log::info!(path:% = path, reason:% = error; "a transfer failed: {error}");
            }
        }
        self.assembly.finish(outcome.clone());
        outcome
    }

    async fn drive(&mut self) -> Result<(), TransferError> {
        self.known.mark_unchanged();
        let rest: Option<Arc<dyn Source>> = self.take_rest().await.map(|rest| Arc::new(rest) as _);
        let patched: Option<Arc<dyn Source>> = self.patched().await.map(|patched| Arc::new(patched) as _);
        let several: Option<Arc<dyn Source>> = match patched {
            Some(_) => None,
            None => self.gather().await.map(|several| Arc::new(several) as _),
        };
        self.found(rest.into_iter().chain(patched).chain(several).chain(self.resolution.sources()).collect());
        if self.sources.is_empty() {
            // All who had it broke their promise meanwhile: everybody is asked.
            self.handle(Event::Found(Vec::new()));
        }
        loop {
            while let Some(action) = self.scheduler.next_action() {
                match action {
                    Action::Request { key, from } => self.request(key, from),
                    Action::Pause(pause) => self.pause = Some(Box::pin(sleep(pause))), // backoff
                    Action::Wait(pause) => {
                        self.announce_wait();
                        self.pause = Some(Box::pin(sleep(pause))); // backoff
                    }
                    Action::Claim => self.claim(),
                    Action::Lost(key, how) => {
                        if let (Some(lease), SourceId::Partial(id)) = (&mut self.lease, self.sources[key].remote().id())
                        {
                            lease.lost(id, how);
                        }
                    }
                    Action::Search => self.search = Some((self.find)(&self.resolution)),
                    Action::StartOver { set_aside } => {
                        self.samples.clear();
                        // What others got of it is as wrong.
                        self.keep_no_more();
                        self.assembly.start_over(set_aside);
                    }
                    Action::Verify => {
                        let hash = self.verify().await?;
                        self.handle(Event::PieceDone(hash));
                    }
                    Action::Compare(parts) => {
                        let wrong = self.assembly.compare(parts).await;
                        self.handle(Event::Compared(wrong));
                    }
                    Action::Blame(key, error) => {
                        let (path, remote) = (&self.resolution.info.path, self.sources[key].remote());
                        // Of the others nothing was promised.
                        if matches!(remote.id(), SourceId::Peer(_) | SourceId::Site(_) | SourceId::Upstream(_)) {
                            self.shared.promises.note(path.hash(), &remote.id(), &error);
                            self.resolution.remove(&remote.id());
                        }
                        self.shared.blame.blame(remote, About::Nar(path), &error);
                    }
                    Action::Suspect(keys) => {
                        let ids = keys.into_iter().map(|key| self.sources[key].remote().id());
                        self.shared.suspects.add(self.resolution.info.nar_hash, ids);
                    }
                    Action::Finish(result) => return result,
                }
            }
            match self.step().await {
                Step::Chunk(Some(Ok(chunk))) => self.take(chunk).await?,
                Step::Chunk(Some(Err(error))) => self.failed(error),
                Step::Chunk(None) => {
                    let (offset, size) = (self.scheduler.offset(), self.resolution.info.nar_size);
                    self.failed(SourceError::Truncated(offset, size));
                }
                Step::Searched(late) => {
                    (self.search, self.late) = (None, Some(late));
                    self.found(self.resolution.sources());
                    self.handle(Event::Searched);
                }
                Step::HeardAll => {
                    self.late = None;
                    self.found(self.resolution.sources());
                    self.handle(Event::HeardAll);
                }
                Step::Claimed(granted) => {
                    self.claim = None;
                    self.claimed(granted);
                }
                Step::FollowedLongEnough => {
                    self.follow_until = None;
                    self.look_how_far_it_is();
                }
                Step::Known => self.found(self.resolution.sources()),
                Step::Rested => {
                    self.pause = None;
                    self.handle(Event::Tick);
                }
            }
        }
    }

    /// What is here of it from before.
    async fn take_rest(&mut self) -> Option<RestSource> {
        let info = &self.resolution.info;
        let is_doubtful = self.shared.suspects.is_doubtful(info.nar_hash);
        if self.assembly.is_restartable() {
            return None;
        }
        let Place { spools, whole, .. } = &self.shared.place;
        // Without anybody who can go on with it, it is no NAR: then nobody is to see its beginning.
        let has_others = !self.resolution.sources().is_empty();
        let rest = if has_others && !is_doubtful { spools.take_rest(info).await } else { None };
        self.keeper = Keeper::new(info.nar_size, rest.is_some(), *whole);
        let (file, length) = rest?;
        log::info!(path:% = info.path, bytes = length; "{length} bytes of it are here from before");
        Some(RestSource::new(file, length))
    }

    /// One of the sources that may send what the NAR differs in from another version which is here, where the line to all of them is slow.
    async fn patched(&mut self) -> Option<Patched> {
        let Shared { bases, suspects, .. } = &*self.shared;
        let (bases, info) = (bases.as_ref()?, &self.resolution.info);
        if info.nar_size < NAR_MIN || suspects.is_doubtful(info.nar_hash) {
            return None;
        }
        let mut sources = self.resolution.sources();
        sources.retain(|source| source.standing().usable && source.remote().id().is_peer());
        let is_quick = |source: &Arc<dyn Source>| !source.abilities().is_far && !source.gives_patches();
        if sources.iter().any(is_quick) {
            return None;
        }
        let source = sources.into_iter().find(|source| source.gives_patches())?;
        let SourceId::Peer(id) = source.remote().id() else { return None };
        let candidates = bases.of(info).await;
        (!candidates.is_empty()).then(|| Patched::new((source, id), bases.clone(), candidates))
    }

    /// Those of the sources that can send at once, if the NAR is worth it and there is memory for it.
    async fn gather(&mut self) -> Option<Several> {
        let Shared { pieces, suspects, promises, blame, metrics, .. } = &*self.shared;
        let info = &self.resolution.info;
        if pieces.most < 2 || !is_worth_it(info.nar_size) || self.assembly.is_restartable() {
            return None;
        }
        let is_good = |source: &Arc<dyn Source>| {
            let id = source.remote().id();
            let is_trusted = suspects.suspicion(info.nar_hash, &id) == 0 && !promises.is_broken(info.path.hash(), &id);
            source.has_pieces() && source.standing().usable && is_trusted
        };
        let sources: Vec<_> = self.resolution.sources().into_iter().filter(is_good).collect();
        if sources.len() < 2 {
            return None;
        }
        self.window = Some(pieces.memory.spare(u64::from(WINDOW) * PIECE)?);
        let (blame, metrics, trace) = (Arc::clone(blame), Arc::clone(metrics), Arc::clone(&self.trace));
        let several = gather(sources, info, pieces.most, Notes { blame, metrics, trace }).await;
        if several.is_none() {
            self.window = None;
        }
        several
    }

    /// Waits for the next thing that happens.
    async fn step(&mut self) -> Step {
        let sources = &self.sources;
        let has_other = self.scheduler.has_other(|key| sources[key].standing());
        let (flight, search, late) = (&mut self.flight, &mut self.search, &mut self.late);
        let (pause, known, claim) = (&mut self.pause, &mut self.known, &mut self.claim);
        let follow_until = &mut self.follow_until;
        let chunk = async {
            match flight {
                Some(flight) => flight.next(has_other).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            chunk = chunk => Step::Chunk(chunk),
            late = present(search) => Step::Searched(late),
            () = present(late) => Step::HeardAll,
            granted = present(claim) => Step::Claimed(granted),
            () = present(follow_until) => Step::FollowedLongEnough,
            () = present(pause) => Step::Rested,
            // The resolution is ours: its sender lives.
            Ok(()) = known.changed() => Step::Known,
        }
    }

    fn handle(&mut self, event: Event) {
        let sources = &self.sources;
        self.scheduler.handle(event, |key| sources[key].standing());
    }

    /// Tells the scheduler of sources that it does not know yet.
    fn found(&mut self, sources: Vec<Arc<dyn Source>>) {
        let nar = self.resolution.info.nar_hash;
        let mut new = Vec::new();
        for source in sources {
            let id = source.remote().id();
            if self.sources.iter().all(|known| known.remote().id() != id) {
                let suspicion = self.shared.suspects.suspicion(nar, &id);
                let broke_promise = self.shared.promises.is_broken(self.resolution.info.path.hash(), &id);
                let Abilities { begins_anywhere, is_far, is_partial, is_once, .. } = source.abilities();
                new.push(Candidate { begins_anywhere, suspicion, broke_promise, is_far, is_partial, is_once });
                self.sources.push(source);
            }
        }
        if !new.is_empty() {
            self.handle(Event::Found(new));
        }
    }

    /// Asks the others what they do about this NAR.
    fn claim(&mut self) {
        let (shared, info) = (&self.shared, &self.resolution.info);
        if self.lease.is_none() {
            // What did not come from its first byte on cannot be kept whole.
            let may_serve = self.scheduler.offset() == 0 && (shared.place.may_share)(info);
            if may_serve {
                self.spool = shared.place.spools.open(info, shared.place.whole);
                self.keeper = self.keeper.take().filter(|_| self.spool.is_none());
            }
        }
        let lease = self.lease.get_or_insert_with(|| {
            let site = Arc::clone(&shared.place.site);
            let serves = self.spool.as_ref().is_some_and(|spool| !spool.is_private());
            Lease::new(site, info.nar_hash, serves, shared.place.spools.clone())
        });
        lease.reached(self.scheduler.offset());
        self.claim = Some(Box::pin(lease.want()));
    }

    /// Takes in what they say.
    fn claimed(&mut self, granted: Granted) {
        match granted {
            Granted::Alone => self.handle(Event::MayDownload),
            Granted::Download => {
                self.shared.activity.claimed(&self.trace, None);
                self.handle(Event::MayDownload);
            }
            Granted::Follow(_, source)
                if self.followed_enough || self.shared.suspects.passed_on(&source.remote().id()) =>
            {
                self.handle(Event::MayDownload);
            }
            Granted::Follow(_, source) => {
                if self.assembly.is_restartable() {
                    self.follow_until.get_or_insert_with(|| Box::pin(sleep(FOLLOWED_MAX))); // backoff
                }
                let id = source.remote().id();
                self.shared.activity.claimed(&self.trace, Some(id.name()));
                self.found(vec![source]);
                if let Some(key) = self.sources.iter().position(|known| known.remote().id() == id) {
                    self.handle(Event::Follow(key));
                }
            }
        }
    }

    /// Follows others no longer if Nix would not wait for what they bring, and the Internet could.
    fn look_how_far_it_is(&mut self) {
        let (there, size) = (self.scheduler.offset(), self.resolution.info.nar_size);
        // Beyond 2^53 bytes a rounded number does as well.
        #[allow(clippy::cast_precision_loss)]
        let part = there as f64 / size as f64;
        let will_be_there = self.begun.elapsed().as_secs_f64() <= NIX_WAITS.as_secs_f64() * part;
        if self.scheduler.has_far() && !will_be_there {
            self.followed_enough = true;
            self.handle(Event::FollowedLongEnough);
        } else {
            self.follow_until = Some(Box::pin(sleep(LOOK_AGAIN))); // poll
        }
    }

    fn request(&mut self, key: usize, from: u64) {
        self.pause = None;
        if let Some(keeper) = &mut self.keeper {
            keeper.begins();
        }
        let source = Arc::clone(&self.sources[key]);
        if let Some(lease) = self.lease.as_ref().filter(|_| source.abilities().is_far) {
            // Whatever was agreed on.
            lease.downloads();
        }
        if from > 0 {
            self.shared.metrics.transfers_failed_over.add(1);
            let (path, id) = (&self.resolution.info.path, source.remote().id());
            log::info!(path:% = path, source:% = id, bytes = from; "going on from {id} at byte {from}");
        }
        self.flight = Some(Flight::begin(source, NarId::from(&self.resolution.info), from));
    }

    /// Takes in what the source that sends gave.
    async fn take(&mut self, chunk: Bytes) -> Result<(), TransferError> {
        let Some(flight) = &mut self.flight else { return Ok(()) };
        let metrics = &self.shared.metrics;
        let is_far = flight.source.abilities().is_far;
        let counter = if is_far { &metrics.fetched_upstream_bytes } else { &metrics.fetched_peer_bytes };
        counter.add(flight.fresh());
        if flight.sample().bytes == 0 {
            let id = flight.source.remote().id();
            if matches!(id, SourceId::Patch(_)) {
                metrics.patches_fetched.add(1);
            }
            let name = id.name();
            self.assembly.comes_from(&name);
            self.trace.flows_from(name);
        }
        let spooled = (self.spool.is_some() || self.keeper.is_some()).then(|| chunk.clone());
        match self.assembly.take(chunk).await? {
            Ok(bytes) => {
                if !is_far && flight.source.remote().id().is_peer() {
                    metrics.fetched_peer_nar_bytes.add(bytes);
                }
                let pause = self.shared.limit.came(&flight.source.remote().id().name(), flight.fresh());
                if !pause.is_zero() {
                    sleep(pause).await; // pace
                }
                flight.taken(bytes);
                self.handle(Event::Received(bytes));
                self.trace.reached(self.scheduler.offset());
                if let Some(lease) = &self.lease {
                    lease.reached(self.scheduler.offset());
                }
                if let Some(chunk) = spooled {
                    self.keep(chunk).await;
                }
                let is_kept = self.spool.is_some() || self.keeper.is_some() || self.assembly.is_restartable();
                if self.shared.place.whole && !is_kept {
                    return Err(TransferError::NoSource(NO_ROOM.to_owned()));
                }
            }
            Err(error) => self.failed(error),
        }
        Ok(())
    }

    /// Keeps what comes: for others, or for this machine if it takes long.
    async fn keep(&mut self, chunk: Bytes) {
        if let Some(keeper) = &mut self.keeper {
            match keeper.take(chunk, &self.resolution.info, &self.shared.place.spools).await {
                Decision::Later => return,
                Decision::Kept(writer) => self.spool = Some(writer),
                Decision::Not => {}
            }
            self.keeper = None;
        } else if let Some(spool) = &mut self.spool
            && !spool.push(chunk).await
        {
            self.keep_no_more();
        }
    }

    /// What comes is not kept any more.
    fn keep_no_more(&mut self) {
        self.keeper = None;
        if let Some(spool) = self.spool.take() {
            spool.discard();
        }
        if let Some(lease) = &self.lease {
            lease.serves_no_more();
        }
    }

    fn failed(&mut self, error: SourceError) {
        let flight = self.flight.take();
        if flight.is_some_and(|flight| matches!(flight.source.remote().id(), SourceId::Several(_))) {
            self.window = None;
        }
        self.handle(match error {
            SourceError::Busy => Event::Busy,
            error => Event::Failed(error),
        });
    }

    /// Says once that it takes longer, and why.
    fn announce_wait(&self) {
        let path = &self.resolution.info.path;
        if self.shared.activity.waits(&self.trace) {
            log::info!(path:% = path; "waiting for {path}: all who have it are busy");
        }
    }

    /// The hash of all that came.
    async fn verify(&mut self) -> Result<NarHash, TransferError> {
        if let Some(flight) = self.flight.take() {
            let sample = flight.sample();
            self.samples.push((flight.source, sample));
        }
        let (hash, table) = self.assembly.verify().await.ok_or(TransferError::Abandoned)?;
        let PathInfo { path, nar_hash, nar_size, .. } = &self.resolution.info;
        if hash == *nar_hash {
            for (source, sample) in self.samples.drain(..) {
                source.remote().succeeded(sample);
            }
            self.shared.suspects.clear(*nar_hash);
            if let Some(table) = table.filter(|_| is_worth_it(*nar_size)) {
                self.shared.pieces.tables.note(hash, table);
            }
            let kept = match self.spool.take() {
                Some(spool) if spool.is_private() && !self.shared.place.whole => {
                    spool.discard();
                    None
                }
                Some(spool) => Some(spool.proved().await),
                None => None,
            };
            match (self.lease.take(), kept) {
                // Whoever waits for it reads it from there.
                (lease, Some(kept)) if self.shared.place.whole => {
                    let is_kept = kept.await;
                    if let Some(lease) = lease {
                        lease.complete(std::future::ready(is_kept));
                    }
                }
                (Some(lease), Some(kept)) => lease.complete(kept),
                (_, None) | (None, Some(_)) => {}
            }
        } else {
            self.shared.metrics.verification_failures.add(1);
            log::warn!(path:% = path; "wrong content came for {path}");
            if let Some(spool) = self.spool.take() {
                spool.discard();
            }
        }
        Ok(hash)
    }

    /// With the one who failed last.
    fn explained(&self, error: TransferError) -> TransferError {
        match (error, self.scheduler.last_failure()) {
            (TransferError::NoSource(_), Some((key, reason))) => {
                TransferError::NoSource(format!("{}: {reason}", self.sources[*key].remote().id()))
            }
            (error, _) => error,
        }
    }
}

/// Waits for what is there; for ever if nothing is.
async fn present<T: Future + Unpin>(future: &mut Option<T>) -> T::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

//! Who has a path: the first verified answer of a peer wins, an upstream's waits a moment for a peer's. Whoever answers later is
//! added to the sources behind the scenes. How long whom is waited for is the plan's.

use super::cache::{Answer, Answers, Key};
use super::era::Era;
use super::plan::UPSTREAM_LIMIT;
use super::race::{Patience, Question, Race, Reply};
use super::resolution::{Holder, Resolution};
use super::responder::{Network, Responders};
use super::verify::Trust;
use crate::fetch::blame::{About, Blame};
use crate::fetch::promises::BrokenPromises;
use crate::fetch::source::SourceId;
use crate::fetch::startup_grace::StartupGrace;
use crate::metrics::Metrics;
use crate::nix::{NarHash, StoreDir, StoreHash, TrustedKeys};
use crate::peers::Sample;
use crate::resilience::{Version, Versioned};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What an answer to a lookup counts for: nothing worth measuring.
pub(crate) const SMALL: Sample = Sample { bytes: 0, elapsed: Duration::ZERO };
/// How long those who were asked may go on answering when a lookup is over: what they say is remembered, and that they said nothing
/// is held against them. An upstream has its whole time in it.
const LATE: Duration = UPSTREAM_LIMIT;
/// How many of those who are said to have a path are noted as sources, beside the one that answered.
const SPARES: usize = 4;
/// How many lookups may have such latecomers.
const LATE_LOOKUPS: usize = 64;

/// The end of a search: nobody is left to wait for.
pub(crate) type Late = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who is asked, and whose word counts.
pub(crate) struct Resolver {
    pub(crate) network: Arc<dyn Network>,
    trusted: Versioned<TrustedKeys>,
    store_dir: StoreDir,
    /// The generation of trusted keys that answers were last judged by.
    judged_by: AtomicU64,
    /// How long a lookup waits for peers, in microseconds.
    budget: AtomicU64,
    pub(crate) answers: Answers,
    era: Era,
    metrics: Arc<Metrics>,
    pub(crate) blame: Arc<Blame>,
    pub(crate) promises: BrokenPromises,
    startup_grace: StartupGrace,
    late: Arc<Semaphore>,
}

impl Resolver {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        (trusted, store_dir): (Versioned<TrustedKeys>, StoreDir),
        budget: Duration,
        (metrics, blame): (Arc<Metrics>, Arc<Blame>),
    ) -> Self {
        let era = Era::new(network.subscribe(), network.more());
        let resolver = Self {
            network,
            trusted,
            store_dir,
            judged_by: AtomicU64::new(0),
            budget: AtomicU64::new(0),
            answers: Answers::new(),
            era,
            metrics,
            blame,
            promises: BrokenPromises::new(),
            startup_grace: StartupGrace::new(),
            late: Arc::new(Semaphore::new(LATE_LOOKUPS)),
        };
        resolver.set_budget(budget);
        resolver
    }

    /// How long a lookup waits for peers.
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_micros(self.budget.load(Relaxed))
    }

    pub(crate) fn set_budget(&self, budget: Duration) {
        self.budget.store(u64::try_from(budget.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The keys that are trusted now.
    pub(crate) fn trusted(&self) -> Version<TrustedKeys> {
        self.trusted.now()
    }

    /// The generation of the keys that are trusted now.
    pub(crate) fn generation(&self) -> u64 {
        self.trusted.generation()
    }

    /// What everybody is asked about `hash` now.
    pub(crate) fn question(&self, hash: StoreHash) -> Question {
        let trust = Trust { keys: self.trusted.now(), store_dir: self.store_dir.clone() };
        Question { hash, trust: Arc::new(trust), now_trusted: self.trusted.clone() }
    }

    /// What is known of `hash`, from memory or by asking.
    pub(crate) async fn answer(self: &Arc<Self>, hash: StoreHash) -> Answer {
        let question = self.question(hash);
        let key = (question.trust.keys.generation, hash);
        let asked = AtomicBool::new(false);
        // Whoever comes from here on is not sure to be asked.
        let era = self.era.now();
        let answer = self.answers.get_with(key, era, || {
            asked.store(true, Relaxed);
            self.first(question.clone(), None, Patience::Working)
        });
        let answer = answer.await;
        let metrics = &self.metrics;
        let result = match &answer {
            _ if !asked.load(Relaxed) => &metrics.lookups_remembered,
            Answer::Found(resolution) if resolution.is_from_peer() => &metrics.lookups_peer,
            Answer::Found(_) => &metrics.lookups_upstream,
            Answer::Absent => &metrics.lookups_absent,
            Answer::Unknown => &metrics.lookups_unknown,
        };
        result.add(1);
        answer
    }

    /// Who has the path with that very NAR. It was promised to Nix, so that this goes further than a lookup.
    pub(crate) async fn find(self: &Arc<Self>, hash: StoreHash, nar_hash: NarHash) -> Option<Arc<Resolution>> {
        // Right after a start Nix may go on with a download that the end of the last process broke off, and a "not found" is
        // final to it. Watched from before the first look, so that nobody comes between it and the wait.
        let mut arrivals = self.startup_grace.watch(self.network.subscribe());
        loop {
            let resolution = self.find_now(hash, nar_hash).await;
            if resolution.is_some() || !arrivals.next().await {
                return resolution;
            }
        }
    }

    async fn find_now(self: &Arc<Self>, hash: StoreHash, nar_hash: NarHash) -> Option<Arc<Resolution>> {
        match self.answer(hash).await {
            Answer::Found(resolution) if resolution.info.nar_hash == nar_hash => return Some(resolution),
            Answer::Found(_) | Answer::Absent | Answer::Unknown => {}
        }
        // Nix remembers narinfos for 30 days: another build of the path may be what is found first by now. And no upstream is left
        // unheard that may have it.
        match self.first(self.question(hash), Some(nar_hash), Patience::Promised).await {
            Answer::Found(resolution) => Some(resolution),
            Answer::Absent | Answer::Unknown => None,
        }
    }

    /// Forgets what is known of `hash`: it turned out that nobody could keep what was promised.
    pub(crate) async fn forget(&self, hash: StoreHash) {
        self.answers.forget(&(self.generation(), hash)).await;
    }

    /// Forgets that nobody had what was looked for: somebody may be there who was not asked.
    pub(crate) fn forget_misses(&self) {
        self.era.end();
    }

    /// Asks everybody until one has it; with `wanted` only answers for that very NAR count, and without it only those of sources that
    /// keep their promises. What is found too late for that is remembered if nothing special is wanted.
    async fn first(self: &Arc<Self>, question: Question, wanted: Option<NarHash>, patience: Patience) -> Answer {
        let key = (question.trust.keys.generation, question.hash);
        let is_wanted = |holder: &Holder| match wanted {
            Some(wanted) => wanted == holder.info.nar_hash,
            None => !self.promises.is_broken_for_good(key.1, &holder.source.remote().id()),
        };
        if self.judged_by.swap(key.0, Relaxed) != key.0 {
            self.network.trust_changed();
        }
        let responders = match patience {
            Patience::Working => self.network.responders_for(key.1),
            // What was promised is looked for everywhere, whatever the index says.
            Patience::Promised => Responders { upstreams: self.network.upstreams(), ..self.network.responders() },
        };
        let mut others: Vec<_> =
            responders.peers[..responders.holders].iter().filter_map(|peer| peer.source()).collect();
        let mut race = Race::start(question, responders, patience, self.budget());
        let mut from_upstreams: Vec<Holder> = Vec::new();
        let mut all_said_no = true;
        let mut from_peer = None;
        while let Some(reply) = race.next().await {
            let is_peer = reply.from.remote().id().is_peer();
            if let (SourceId::Peer(id), Ok(answer)) = (reply.from.remote().id(), &reply.answer) {
                self.network.tried(id, key.1, answer.is_some());
                if answer.is_none() {
                    others.retain(|other| other.remote().id() != SourceId::Peer(id));
                }
            }
            match self.take(key.1, reply) {
                Ok(Some(holder)) if is_wanted(&holder) && is_peer => {
                    from_peer = Some(holder);
                    break;
                }
                Ok(Some(holder)) if is_wanted(&holder) => {
                    from_upstreams.push(holder);
                    race.upstream_has_it();
                }
                Ok(_) => {}
                Err(()) => all_said_no = false,
            }
        }
        self.metrics.lookups_hedged.add(race.hedged());
        let mut holders = from_peer.into_iter().chain(from_upstreams);
        if let Some(first) = holders.next() {
            let resolution = Resolution::new(first);
            for holder in holders {
                resolution.add(holder);
            }
            // Others who are said to have it are not asked now, and go on where the first one fails.
            others.into_iter().take(SPARES).for_each(|other| resolution.add_source(other));
            self.collect_late(Some(&resolution), race, key, false);
            return Answer::Found(resolution);
        }
        if all_said_no && race.heard_everybody() {
            return Answer::Absent;
        }
        race.blame_silent();
        self.collect_late(None, race, key, wanted.is_none());
        Answer::Unknown
    }

    /// Asks everybody who has the NAR of `resolution`, and adds whoever has it: for a transfer whose sources failed. When one has it, this
    /// is ready after the budget; before that it waits for upstreams, as it does for what is promised. What it gives is ready when
    /// there is nobody left to wait for. Those are asked as well that are left alone otherwise: this is the last that can be done before
    /// a promise is broken.
    pub(crate) async fn search(self: Arc<Self>, resolution: Arc<Resolution>) -> Late {
        let question = self.question(resolution.info.path.hash());
        let hash = question.hash;
        let everybody = Responders { upstreams: self.network.upstreams(), ..self.network.responders() };
        let mut race = Race::start(question, everybody, Patience::Promised, self.budget());
        // The sources that failed may be those of the first.
        race.ask_all_tiers();
        while let Some(reply) = race.next().await {
            if let Ok(Some(holder)) = self.take(hash, reply)
                && resolution.add(holder)
            {
                race.somebody_has_it();
            }
        }
        Box::pin(async move {
            let late = async {
                while let Some(reply) = race.late().await {
                    if let Ok(Some(holder)) = self.take(hash, reply) {
                        resolution.add(holder);
                    }
                }
            };
            // What is not answered by then is no help to Nix any more.
            let _ = timeout(LATE, late).await;
        })
    }

    /// Notes how a reply went; gives what it says, if it says anything.
    fn take(&self, hash: StoreHash, reply: Reply) -> Result<Option<Holder>, ()> {
        let remote = reply.from.remote();
        if reply.answer.is_ok() {
            let is_peer = remote.id().is_peer();
            let took = if is_peer { &self.metrics.peer_answer_took } else { &self.metrics.upstream_answer_took };
            took.observe(reply.elapsed);
        }
        reply.answer.inspect(|_| remote.succeeded(SMALL)).map_err(|error| {
            self.blame.blame(remote, About::Lookup(hash), &error);
        })
    }

    /// Lets those who were asked and have not answered yet add themselves to the sources, or be remembered as the first.
    fn collect_late(self: &Arc<Self>, known: Option<&Arc<Resolution>>, mut race: Race, key: Key, remember: bool) {
        if race.silent().is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.late).try_acquire_owned() else { return };
        let (resolver, mut known) = (Arc::clone(self), known.cloned());
        tokio::spawn(async move {
            let late = async {
                while let Some(reply) = race.late().await {
                    let Ok(Some(holder)) = resolver.take(key.1, reply) else { continue };
                    match &known {
                        Some(known) => {
                            known.add(holder);
                        }
                        None => {
                            let keeps = !resolver.promises.is_broken_for_good(key.1, &holder.source.remote().id());
                            let first = Resolution::new(holder);
                            if remember && keeps {
                                resolver.answers.found(key, Arc::clone(&first)).await;
                            }
                            known = Some(first);
                        }
                    }
                }
            };
            if timeout(LATE, late).await.is_err() {
                race.blame_silent();
            }
            drop(place);
        });
    }
}

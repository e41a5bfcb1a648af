//! Who has a path: the first verified answer of a peer wins, an upstream's waits a moment for a peer's. Whoever answers later is
//! added to the sources behind the scenes.

use super::cache::{Answer, Answers};
use super::plan::Mode;
use super::race::{Question, Race, Reply};
use super::resolution::{Holder, Resolution};
use super::responder::Network;
use super::verify::Trust;
use crate::fetch::blame::{About, Blame};
use crate::fetch::source::Source;
use crate::fetch::startup_grace::StartupGrace;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo, StoreDir, StoreHash, TrustedKeys};
use crate::peers::Sample;
use crate::resilience::{Version, Versioned};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What an answer to a lookup counts for: nothing worth measuring.
pub(crate) const SMALL: Sample = Sample { bytes: 0, elapsed: Duration::ZERO };
/// How long those who were asked may go on answering when the budget is over: what they say is remembered, and that they
/// said nothing is held against them.
const LATE: Duration = Duration::from_secs(6);
/// How many lookups may have such latecomers.
const LATE_LOOKUPS: usize = 64;

/// Who is asked, and whose word counts.
pub(crate) struct Resolver {
    pub(crate) network: Arc<dyn Network>,
    trusted: Versioned<TrustedKeys>,
    store_dir: StoreDir,
    /// How long a lookup may take in all, in microseconds.
    budget: AtomicU64,
    pub(crate) answers: Answers,
    metrics: Arc<Metrics>,
    pub(crate) blame: Arc<Blame>,
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
        let resolver = Self {
            network,
            trusted,
            store_dir,
            budget: AtomicU64::new(0),
            answers: Answers::new(),
            metrics,
            blame,
            startup_grace: StartupGrace::new(),
            late: Arc::new(Semaphore::new(LATE_LOOKUPS)),
        };
        resolver.set_budget(budget);
        resolver
    }

    /// How long a lookup may take in all.
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
        let mut asked = false;
        let answer = self.answers.get_with(key, async {
            asked = true;
            self.first(question, None, true).await
        });
        let answer = answer.await;
        let metrics = &self.metrics;
        let result = match &answer {
            _ if !asked => &metrics.lookups_remembered,
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
        // Nix remembers narinfos for 30 days: another build of the path may be what is found first by now.
        if let Answer::Found(resolution) = self.first(self.question(hash), Some(nar_hash), false).await {
            return Some(resolution);
        }
        // An upstream may be slower than the budget.
        let question = self.question(hash);
        for upstream in self.network.responders().upstreams {
            match upstream.narinfo(hash, &question.trust).await {
                Ok(Some(holder)) if holder.info.nar_hash == nar_hash => return Some(Resolution::new(holder)),
                Ok(_) => {}
                Err(error) => {
                    log::debug!(upstream:% = upstream.remote().id(), path:% = hash; "an upstream failed: {error}");
                }
            }
        }
        None
    }

    /// Forgets what is known of `hash`: it turned out that nobody could keep what was promised.
    pub(crate) async fn forget(&self, hash: StoreHash) {
        self.answers.forget(&(self.generation(), hash)).await;
    }

    /// Asks everybody until one has it; with `wanted` only answers for that very NAR count. What is found after the budget is over
    /// is remembered if `remember` is set.
    async fn first(self: &Arc<Self>, question: Question, wanted: Option<NarHash>, remember: bool) -> Answer {
        let key = (question.trust.keys.generation, question.hash);
        let is_wanted = |holder: &Holder| wanted.is_none_or(|wanted| wanted == holder.info.nar_hash);
        let mut race = Race::start(question, self.network.responders(), Mode::Waves, self.budget());
        let mut from_upstreams: Vec<Holder> = Vec::new();
        let mut all_said_no = true;
        let mut from_peer = None;
        while let Some(reply) = race.next().await {
            let is_peer = reply.from.remote().id().is_peer();
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
        let mut holders = from_peer.into_iter().chain(from_upstreams);
        if let Some(first) = holders.next() {
            let resolution = Resolution::new(first);
            holders.for_each(|holder| resolution.add(holder));
            self.collect_late(Some(&resolution), race.into_late(), key, false);
            return Answer::Found(resolution);
        }
        if all_said_no && race.heard_everybody() {
            return Answer::Absent;
        }
        race.silent().iter().for_each(|silent| silent.remote().kept_us_waiting());
        self.collect_late(None, race.into_late(), key, remember);
        Answer::Unknown
    }

    /// Asks everybody within the budget who has this very NAR, and gives all who do: for a transfer whose sources failed.
    pub(crate) async fn all(self: &Arc<Self>, info: &PathInfo) -> Vec<Arc<dyn Source>> {
        let question = self.question(info.path.hash());
        let key = (question.trust.keys.generation, question.hash);
        let mut race = Race::start(question, self.network.responders(), Mode::AtOnce, self.budget());
        let mut sources = Vec::new();
        while let Some(reply) = race.next().await {
            if let Ok(Some(holder)) = self.take(key.1, reply)
                && (holder.info.nar_hash, holder.info.nar_size) == (info.nar_hash, info.nar_size)
            {
                sources.push(holder.source);
            }
        }
        self.collect_late(None, race.into_late(), key, false);
        sources
    }

    /// Notes how a reply went; gives what it says, if it says anything.
    fn take(&self, hash: StoreHash, reply: Reply) -> Result<Option<Holder>, ()> {
        let remote = reply.from.remote();
        reply.answer.inspect(|_| remote.succeeded(SMALL)).map_err(|error| {
            self.blame.blame(remote, About::Lookup(hash), &error);
        })
    }

    /// Lets those who were asked and have not answered yet add themselves to the sources, or be remembered as the first.
    fn collect_late(
        self: &Arc<Self>,
        known: Option<&Arc<Resolution>>,
        mut asked: JoinSet<Reply>,
        key: (u64, StoreHash),
        remember: bool,
    ) {
        if asked.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.late).try_acquire_owned() else { return };
        let (resolver, mut known) = (Arc::clone(self), known.cloned());
        tokio::spawn(async move {
            let late = async {
                while let Some(reply) = asked.join_next().await {
                    let Ok(reply) = reply else { continue };
                    let Ok(Some(holder)) = resolver.take(key.1, reply) else { continue };
                    match &known {
                        Some(known) => known.add(holder),
                        None => {
                            let first = Resolution::new(holder);
                            if remember {
                                resolver.answers.found(key, Arc::clone(&first)).await;
                            }
                            known = Some(first);
                        }
                    }
                }
            };
            let _ = timeout(LATE, late).await;
            drop(place);
        });
    }
}

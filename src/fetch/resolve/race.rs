//! Asking everybody for one path at once: one stream of replies, in the order in which they come.
//!
//! "The first who has it", "all who have it" and the report for people are folds over it, in [`super`] and
//! [`super::source_report`].

use super::plan::{Plan, Rank};
use super::resolution::Holder;
use super::responder::{Responder, Responders};
use super::verify::Trust;
use crate::fetch::error::{SourceError, Violation};
use crate::nix::{StoreHash, TrustedKeys};
use crate::resilience::Versioned;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What everybody is asked.
#[derive(Clone)]
pub(crate) struct Question {
    /// For which path.
    pub(crate) hash: StoreHash,
    /// By what its answers are judged.
    pub(crate) trust: Arc<Trust>,
    /// What is trusted now: peers are told that, and may answer in its light.
    pub(crate) now_trusted: Versioned<TrustedKeys>,
}

/// Which upstreams are waited for longer than peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Those that work.
    Working,
    /// All of them: what is asked for was promised to Nix.
    Promised,
}

/// One reply.
pub(crate) struct Reply {
    /// Who was asked.
    pub(crate) from: Arc<dyn Responder>,
    /// What became of it.
    pub(crate) answer: Result<Option<Holder>, SourceError>,
    /// How long it took.
    pub(crate) elapsed: Duration,
    rank: Rank,
}

/// The replies of one lookup.
pub(crate) struct Race {
    question: Question,
    begun: Instant,
    plan: Plan,
    budget: Duration,
    patience: Patience,
    peers: Vec<Arc<dyn Responder>>,
    /// Upstreams that were not asked yet, those of the next tier first.
    later: VecDeque<Arc<dyn Responder>>,
    asked: JoinSet<Reply>,
    /// Who was asked and has not answered.
    silent: Vec<Arc<dyn Responder>>,
    /// Everybody who is there is asked.
    is_complete: bool,
    /// All peers are said to have it: the next one is asked because one before it has not answered, or said no.
    all_hold: bool,
    /// How many were asked because one before them had not answered.
    hedged: u64,
}

impl Race {
    /// Asks the upstreams tier after tier, and the peers in waves. Waits for peers as long as `budget`, and for upstreams as the plan
    /// says.
    pub(crate) fn start(question: Question, responders: Responders, patience: Patience, budget: Duration) -> Self {
        let Responders { mut peers, holders, mut upstreams, is_partial } = responders;
        let begun = Instant::now();
        upstreams.sort_by_key(|upstream| upstream.tier());
        let tiers = upstreams.chunk_by(|one, next| one.tier() == next.tier()).count();
        // Whoever is silent is asked after the others that are said to have it, and not waited for longer than anybody.
        peers[..holders].sort_by_key(|holder| !holder.works());
        let awaited = peers[..holders].iter().filter(|holder| holder.works()).count();
        let plan = Plan::new(peers.len(), budget, begun).and_tiers(tiers).and_holders(awaited);
        // As long as somebody has not told what it has, all are asked together.
        let all_told = holders > 0 && holders == peers.len();
        let plan = match all_told {
            true => plan.and_no_others(peers.first().and_then(|first| first.latency())),
            false => plan,
        };
        let (asked, silent, later) = (JoinSet::new(), Vec::new(), upstreams.into());
        let is_complete = !is_partial;
        let mut race = Self {
            question,
            begun,
            plan,
            budget,
            patience,
            peers,
            later,
            asked,
            silent,
            is_complete,
            all_hold: all_told,
            hedged: 0,
        };
        race.ask_due();
        race
    }

    /// Asks the upstreams of all tiers now: everybody who has it is wanted.
    pub(crate) fn ask_all_tiers(&mut self) {
        self.plan.ask_all_tiers();
        while let Some(upstream) = self.later.pop_front() {
            self.ask_upstream(upstream);
        }
    }

    /// The next reply; `None` when everybody has answered or the time is over.
    pub(crate) async fn next(&mut self) -> Option<Reply> {
        loop {
            self.ask_due();
            let now = Instant::now();
            if self.asked.is_empty() || self.plan.is_over(now) {
                return None;
            }
            let wake = self.plan.wake(now);
            tokio::select! {
                reply = self.answer() => if reply.is_some() { return reply },
                () = sleep_until(wake) => {}
            }
        }
    }

    /// The next reply of those who were asked so far, whenever it comes; `None` when there is none.
    pub(crate) async fn late(&mut self) -> Option<Reply> {
        while !self.asked.is_empty() {
            if let Some(reply) = self.answer().await {
                return Some(reply);
            }
        }
        None
    }

    /// An upstream has it: only peers are waited for yet, and not for long.
    pub(crate) fn upstream_has_it(&mut self) {
        self.plan.upstream_has_it(Instant::now());
    }

    /// Somebody has it: who else does may say so within the budget.
    pub(crate) fn somebody_has_it(&mut self) {
        self.plan.somebody_has_it();
    }

    /// Whether everybody was asked and has answered.
    pub(crate) fn heard_everybody(&self) -> bool {
        self.is_complete && self.silent.is_empty() && self.plan.asked_everybody()
    }

    /// Who was asked and has not answered.
    pub(crate) fn silent(&self) -> &[Arc<dyn Responder>] {
        &self.silent
    }

    /// How many peers were asked because another one that is said to have it was slow to answer.
    pub(crate) const fn hedged(&self) -> u64 {
        self.hedged
    }

    /// Holds it against those who were asked that they have not answered.
    pub(crate) fn blame_silent(&self) {
        self.silent.iter().for_each(|silent| silent.remote().kept_us_waiting(self.begun));
    }

    async fn answer(&mut self) -> Option<Reply> {
        // A task fails only when the program is being stopped.
        let reply = self.asked.join_next().await?.ok()?;
        self.silent.retain(|silent| !Arc::ptr_eq(silent, &reply.from));
        self.plan.answered(reply.rank);
        Some(reply)
    }

    fn ask_due(&mut self) {
        while self.plan.tier_is_due(self.budget, Instant::now()) {
            let tier = self.later.front().map(|upstream| upstream.tier());
            while self.later.front().map(|upstream| upstream.tier()) == tier
                && let Some(upstream) = self.later.pop_front()
            {
                self.ask_upstream(upstream);
            }
        }
        let is_kept_waiting = self.all_hold && self.silent.iter().any(|silent| silent.remote().id().is_peer());
        for place in self.plan.due(Instant::now()) {
            self.hedged += u64::from(is_kept_waiting);
            self.ask(Arc::clone(&self.peers[place]), self.plan.rank_of(place));
        }
    }

    fn ask_upstream(&mut self, upstream: Arc<dyn Responder>) {
        let is_awaited = self.patience == Patience::Promised || upstream.works();
        let rank = if is_awaited { Rank::Upstream } else { Rank::Doubtful };
        self.plan.asks(rank);
        self.ask(upstream, rank);
    }

    fn ask(&mut self, responder: Arc<dyn Responder>, rank: Rank) {
        self.silent.push(Arc::clone(&responder));
        let Question { hash, trust, now_trusted } = self.question.clone();
        self.asked.spawn(async move {
            let begun = Instant::now();
            let answer = match responder.narinfo(hash, &trust).await {
                // A peer that was asked before a change may answer in the light of the other trust: that is no lie.
                Err(SourceError::Violation(Violation::Unsigned | Violation::Forged(_)))
                    if now_trusted.generation() != trust.keys.generation =>
                {
                    Err(SourceError::Unavailable("the trusted keys changed meanwhile".to_owned()))
                }
                answer => answer,
            };
            Reply { from: responder, answer, elapsed: begun.elapsed(), rank }
        });
    }
}

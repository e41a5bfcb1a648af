//! Asking everybody for one path at once: one stream of replies, in the order in which they come.
//!
//! "The first who has it", "all who have it" and the report for people are folds over it, in [`super`] and
//! [`super::source_report`].

use super::plan::{Mode, Plan};
use super::resolution::Holder;
use super::responder::{Responder, Responders};
use super::verify::Trust;
use crate::fetch::error::{SourceError, Violation};
use crate::nix::{StoreHash, TrustedKeys};
use crate::resilience::Versioned;
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

/// One reply.
pub(crate) struct Reply {
    /// Who was asked.
    pub(crate) from: Arc<dyn Responder>,
    /// What became of it.
    pub(crate) answer: Result<Option<Holder>, SourceError>,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// The replies of one lookup.
pub(crate) struct Race {
    question: Question,
    plan: Plan,
    peers: Vec<Arc<dyn Responder>>,
    asked: JoinSet<Reply>,
    /// Who was asked and has not answered.
    silent: Vec<Arc<dyn Responder>>,
    /// Everybody who is there is asked.
    is_complete: bool,
}

impl Race {
    /// Asks all upstreams now, and the peers as `mode` says. Takes `budget` at most.
    pub(crate) fn start(question: Question, responders: Responders, mode: Mode, budget: Duration) -> Self {
        let Responders { peers, upstreams, is_partial } = responders;
        let plan = Plan::new(mode, peers.len(), budget, Instant::now());
        let mut race =
            Self { question, plan, peers, asked: JoinSet::new(), silent: Vec::new(), is_complete: !is_partial };
        upstreams.into_iter().for_each(|upstream| race.ask(upstream));
        race.ask_due();
        race
    }

    /// The next reply; `None` when everybody has answered or the time is over.
    pub(crate) async fn next(&mut self) -> Option<Reply> {
        loop {
            self.ask_due();
            if self.asked.is_empty() || self.plan.is_over(Instant::now()) {
                return None;
            }
            tokio::select! {
                reply = self.asked.join_next() => {
                    // A task fails only when the program is being stopped.
                    let Some(Ok(reply)) = reply else { continue };
                    self.silent.retain(|silent| !Arc::ptr_eq(silent, &reply.from));
                    if reply.from.remote().id().is_peer() {
                        self.plan.peer_answered();
                    }
                    return Some(reply);
                }
                () = sleep_until(self.plan.wake()) => {}
            }
        }
    }

    /// An upstream has it: only peers are waited for yet, and not for long.
    pub(crate) fn upstream_has_it(&mut self) {
        self.plan.upstream_has_it(Instant::now());
    }

    /// Whether everybody was asked and has answered.
    pub(crate) fn heard_everybody(&self) -> bool {
        self.is_complete && self.silent.is_empty() && self.plan.is_exhausted()
    }

    /// Who was asked and has not answered.
    pub(crate) fn silent(&self) -> &[Arc<dyn Responder>] {
        &self.silent
    }

    /// What has not come yet, for who goes on listening.
    pub(crate) fn into_late(self) -> JoinSet<Reply> {
        self.asked
    }

    fn ask_due(&mut self) {
        for rank in self.plan.due(Instant::now()) {
            self.ask(Arc::clone(&self.peers[rank]));
        }
    }

    fn ask(&mut self, responder: Arc<dyn Responder>) {
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
            Reply { from: responder, answer, elapsed: begun.elapsed() }
        });
    }
}

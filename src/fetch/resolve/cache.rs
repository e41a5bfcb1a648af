//! What lookups came to, remembered for a while: Nix asks for a path two or three times within a second.
//!
//! What was found is remembered apart from what lookups came to. An answer may come after the lookup that asked for it, or from
//! another one; so no lookup that ends without an answer can put its miss over what is known.

use super::resolution::Resolution;
use crate::nix::StoreHash;
use moka::future::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a path that somebody has is remembered. Its sources may go away sooner; then they are looked for again.
const FOUND: Duration = Duration::from_secs(60);
/// How long it is remembered that nobody has a path: the time between Nix's HEAD and its GET.
const ABSENT: Duration = Duration::from_secs(2);
/// How long it is remembered that somebody did not answer.
const UNKNOWN: Duration = Duration::from_millis(500);
/// How much memory the paths that were found may take, in bytes.
const MEMORY: u64 = 7 * 1024 * 1024;
/// How much memory the outcomes of lookups may take, in bytes.
const OUTCOMES_MEMORY: u64 = 1024 * 1024;
/// What an outcome weighs, in bytes; a path in it is one of those that were found.
const OUTCOME: u32 = 128;

/// What a lookup came to.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Somebody has it.
    Found(Arc<Resolution>),
    /// Everybody was asked, and nobody has it.
    Absent,
    /// Nobody said yes, and somebody said nothing: not the same as absent, and not to be remembered as such.
    Unknown,
}

/// A path, in the light of the trusted keys of this generation.
pub(crate) type Key = (u64, StoreHash);

/// What a lookup came to that began in this era.
#[derive(Clone)]
struct Outcome {
    answer: Answer,
    era: u64,
}

/// The answers of late.
#[derive(Clone)]
pub(crate) struct Answers {
    found: Cache<Key, Arc<Resolution>>,
    outcomes: Cache<Key, Outcome>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let weight = |_: &Key, resolution: &Arc<Resolution>| resolution.weight();
        let found = Cache::builder().weigher(weight).max_capacity(MEMORY).time_to_live(FOUND).build();
        let most = OUTCOMES_MEMORY / u64::from(OUTCOME);
        let outcomes = Cache::builder().max_capacity(most).expire_after(Lifetimes).build();
        Self { found, outcomes }
    }

    /// The answer that is remembered, or what `lookup` comes to, which begins in this `era`; many who want the same wait for one
    /// lookup.
    pub(crate) async fn get_with<F>(&self, key: Key, era: u64, lookup: impl Fn() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        loop {
            if let Some(resolution) = self.found.get(&key).await.filter(|found| found.is_good()) {
                return Answer::Found(resolution);
            }
            let asking = async {
                let answer = lookup().await;
                if let Answer::Found(resolution) = &answer {
                    self.found.insert(key, Arc::clone(resolution)).await;
                }
                Outcome { answer, era }
            };
            let is_over = |outcome: &Outcome| !matches!(outcome.answer, Answer::Found(_)) && outcome.era < era;
            let outcome = self.outcomes.entry(key).or_insert_with_if(asking, is_over).await.into_value();
            // Over is also what a lookup came to that was under way when this era began.
            if !is_over(&outcome) {
                let found = self.found.get(&key).await.filter(|found| found.is_good()).map(Answer::Found);
                return found.unwrap_or(outcome.answer);
            }
        }
    }

    /// Remembers that somebody has it after all.
    pub(crate) async fn found(&self, key: Key, resolution: Arc<Resolution>) {
        self.found.insert(key, resolution).await;
    }

    /// Forgets one.
    pub(crate) async fn forget(&self, key: &Key) {
        self.found.invalidate(key).await;
        self.outcomes.invalidate(key).await;
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&self) {
        self.found.invalidate_all();
        self.outcomes.invalidate_all();
    }

    /// How much memory they take, in bytes.
    pub(crate) async fn weight(&self) -> u64 {
        self.found.run_pending_tasks().await;
        self.outcomes.run_pending_tasks().await;
        self.found.weighted_size() + self.outcomes.entry_count() * u64::from(OUTCOME)
    }
}

/// How long which outcome is remembered.
struct Lifetimes;

impl Lifetimes {
    const fn of(outcome: &Outcome) -> Duration {
        match outcome.answer {
            // It is among the paths that were found, unless those took too much memory; this is for who waited for the lookup.
            Answer::Found(_) | Answer::Unknown => UNKNOWN,
            Answer::Absent => ABSENT,
        }
    }
}

impl moka::Expiry<Key, Outcome> for Lifetimes {
    fn expire_after_create(&self, _: &Key, outcome: &Outcome, _: Instant) -> Option<Duration> {
        Some(Self::of(outcome))
    }

    fn expire_after_update(&self, _: &Key, outcome: &Outcome, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(Self::of(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::scripted::Scripted;
    use crate::nix::{Compression, PathInfo};
    use moka::Expiry as _;

    const KEY: Key = (0, StoreHash::new([1; 20]));

    fn resolution() -> Arc<Resolution> {
        let source = Arc::new(Scripted::peer(1, &bytes::Bytes::new(), []));
        let info = PathInfo::example();
        Resolution::new(super::super::resolution::Holder {
            info,
            source,
            compression: Compression::None,
            file_size: None,
        })
    }

    #[test]
    fn an_answer_lives_as_long_as_it_is_worth_whatever_was_there_before() {
        let (now, outcome) = (Instant::now(), |answer| Outcome { answer, era: 0 });
        let created = Lifetimes.expire_after_create(&KEY, &outcome(Answer::Unknown), now);
        let updated = Lifetimes.expire_after_update(&KEY, &outcome(Answer::Absent), now, Some(UNKNOWN));
        assert_eq!((created, updated), (Some(UNKNOWN), Some(ABSENT)));
        assert_eq!(Answers::new().found.policy().time_to_live(), Some(FOUND), "also what came after a miss");
    }

    #[tokio::test]
    async fn a_miss_never_covers_what_is_known() {
        for miss in [Answer::Absent, Answer::Unknown] {
            let answers = Answers::new();
            // While this lookup is under way, another one hears of somebody.
            let lookup = || async {
                answers.found(KEY, resolution()).await;
                miss.clone()
            };
            assert!(matches!(answers.get_with(KEY, 0, lookup).await, Answer::Found(_)));
            let again = answers.get_with(KEY, 0, || async { panic!("nobody has to ask") }).await;
            assert!(matches!(again, Answer::Found(_)));
            answers.forget(&KEY).await;
            assert!(matches!(answers.get_with(KEY, 0, || async { Answer::Absent }).await, Answer::Absent));
        }
    }

    #[tokio::test]
    async fn a_miss_is_remembered_in_its_era_only() {
        let answers = Answers::new();
        let ask = async |era, answer: Answer| answers.get_with(KEY, era, || async { answer.clone() }).await;
        assert!(matches!(ask(0, Answer::Absent).await, Answer::Absent));
        assert!(matches!(ask(0, Answer::Unknown).await, Answer::Absent), "remembered");
        assert!(matches!(ask(1, Answer::Unknown).await, Answer::Unknown), "of another era");
        assert!(matches!(ask(0, Answer::Absent).await, Answer::Unknown), "one of a later era is as good");
        let found = Answer::Found(resolution());
        assert!(matches!(ask(2, found).await, Answer::Found(_)));
        assert!(matches!(ask(3, Answer::Absent).await, Answer::Found(_)), "what is found is of all eras");
    }

    #[tokio::test]
    async fn a_lookup_of_the_era_before_is_not_the_answer() {
        let answers = Answers::new();
        let (go, told) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let before = answers.get_with(KEY, 0, || async {
            told.notify_one();
            go.notified().await;
            Answer::Absent
        });
        let after = async {
            told.notified().await;
            let after = answers.get_with(KEY, 1, || async { Answer::Unknown });
            let (after, ()) = tokio::join!(after, async { go.notify_one() });
            after
        };
        let (before, after) = tokio::join!(before, after);
        assert!(matches!((before, after), (Answer::Absent, Answer::Unknown)));
    }
}

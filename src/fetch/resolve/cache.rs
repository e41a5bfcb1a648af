//! What lookups came to, remembered for a while: Nix asks for a path two or three times within a second.

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
/// How much memory recent answers may take, in bytes.
const MEMORY: u64 = 8 * 1024 * 1024;
/// What an answer without a path weighs, in bytes.
const EMPTY: u32 = 128;

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

/// The answers of late.
#[derive(Clone)]
pub(crate) struct Answers(Cache<Key, Answer>);

impl Answers {
    pub(crate) fn new() -> Self {
        let weight = |_: &Key, answer: &Answer| match answer {
            Answer::Found(resolution) => resolution.weight(),
            Answer::Absent | Answer::Unknown => EMPTY,
        };
        Self(Cache::builder().weigher(weight).max_capacity(MEMORY).expire_after(Lifetimes).build())
    }

    /// The answer that is remembered, or what `lookup` comes to; many who want the same wait for one lookup.
    pub(crate) async fn get_with(&self, key: Key, lookup: impl Future<Output = Answer>) -> Answer {
        self.0.get_with(key, lookup).await
    }

    /// Remembers that somebody has it after all.
    pub(crate) async fn found(&self, key: Key, resolution: Arc<Resolution>) {
        self.0.insert(key, Answer::Found(resolution)).await;
    }

    /// Forgets one.
    pub(crate) async fn forget(&self, key: &Key) {
        self.0.invalidate(key).await;
    }

    /// Forgets all of them.
    pub(crate) fn forget_all(&self) {
        self.0.invalidate_all();
    }

    /// How much memory they take, in bytes.
    pub(crate) async fn weight(&self) -> u64 {
        self.0.run_pending_tasks().await;
        self.0.weighted_size()
    }
}

/// How long which answer is remembered.
struct Lifetimes;

impl Lifetimes {
    const fn of(answer: &Answer) -> Duration {
        match answer {
            Answer::Found(_) => FOUND,
            Answer::Absent => ABSENT,
            Answer::Unknown => UNKNOWN,
        }
    }
}

impl moka::Expiry<Key, Answer> for Lifetimes {
    fn expire_after_create(&self, _: &Key, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(Self::of(answer))
    }

    fn expire_after_update(&self, _: &Key, answer: &Answer, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(Self::of(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moka::Expiry as _;

    #[test]
    fn an_answer_lives_as_long_as_it_is_worth_whatever_was_there_before() {
        let key = (0, StoreHash::new([1; 20]));
        let now = Instant::now();
        let created = Lifetimes.expire_after_create(&key, &Answer::Unknown, now);
        let updated = Lifetimes.expire_after_update(&key, &Answer::Absent, now, Some(UNKNOWN));
        assert_eq!((created, updated), (Some(UNKNOWN), Some(ABSENT)));
    }
}

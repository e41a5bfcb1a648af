//! Whether an upstream is worth asking, worth waiting for and worth asking again: a decision without any input or output.
//!
//! What counts is what lookups and downloads came to, with all their attempts, and not each attempt. Of many that fail at the same time
//! one counts: they had the same cause. And one that fails while others are answered says nothing of the upstream.

use crate::fetch::error::SourceError;
use crate::resilience::{Breaker, Schedule};
use std::time::Duration;
use tokio::time::Instant;

/// How often in a row lookups come to nothing before an upstream is left alone. Once may be bad luck, and a lookup that is not
/// answered may be one that Nix remembers as a miss for an hour.
pub(super) const FAILURES_MAX: u32 = 3;
/// For how long it is left alone. Meanwhile misses are answered at once: a machine without Internet must not wait for it on
/// every path.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(60), spread: false };

/// How something came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// It was refused, or the connection broke, as often as it was tried.
    Failed,
    /// There was no answer in time.
    Silent,
}

/// Whether the same question may have another answer in a moment.
pub(crate) const fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Connection(_) | SourceError::Stalled(_) | SourceError::Truncated(..) => true,
        SourceError::Status(status) => is_passing_status(*status),
        _ => false,
    }
}

/// Whether this status says that the server is in trouble or busy, and not what is there.
pub(crate) const fn is_passing_status(status: u16) -> bool {
    // 501, 505 and 511 are said to every request of this kind. Nix takes these for final, too.
    matches!(status, 408 | 429 | 500..=599) && !matches!(status, 501 | 505 | 511)
}

/// What is known of an upstream.
#[derive(Debug)]
pub(crate) struct Health {
    breaker: Breaker,
    /// When it last answered.
    answered: Option<Instant>,
    /// When it was last noted that something came to nothing.
    failed: Option<Instant>,
    /// It let the whole time of a lookup go by, and has not answered since.
    is_silent: bool,
    /// Until when it wants to be left alone, as it said itself.
    busy_until: Option<Instant>,
    /// When all was forgotten: what was begun before says nothing.
    since: Option<Instant>,
}

/// What is news of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It is left alone from now on.
    Lost,
    /// It answers again.
    Back,
}

impl Health {
    pub(crate) const fn new() -> Self {
        let breaker = Breaker::new(FAILURES_MAX, PAUSES);
        Self { breaker, answered: None, failed: None, is_silent: false, busy_until: None, since: None }
    }

    /// Whether it is worth asking now.
    pub(crate) fn permits(&self, now: Instant) -> bool {
        self.breaker.permits(now)
    }

    /// Whether its answer is worth waiting for, as long as it takes. The first lookup that waits in vain is the last that does.
    pub(crate) const fn works(&self) -> bool {
        !self.is_silent && !self.breaker.is_doubtful()
    }

    /// Whether it is worth asking again when it failed: nobody else did so in vain.
    pub(crate) const fn is_worth_retries(&self) -> bool {
        self.works() && self.breaker.failures() == 0
    }

    /// Until when it wants to be left alone.
    pub(crate) const fn busy_until(&self) -> Option<Instant> {
        self.busy_until
    }

    /// It answered.
    pub(crate) fn answered(&mut self, now: Instant) -> Option<News> {
        self.answered = Some(now);
        self.is_silent = false;
        self.busy_until = None;
        self.breaker.succeeded().then_some(News::Back)
    }

    /// It said that it cannot answer now, and perhaps for how long.
    pub(crate) fn was_busy(&mut self, pause: Option<Duration>, now: Instant) {
        self.busy_until = pause.and_then(|pause| now.checked_add(pause));
    }

    /// What `begun` then came to nothing.
    pub(crate) fn came_to_nothing(&mut self, how: Nothing, begun: Instant, now: Instant) -> Option<News> {
        let is_old = self.since.is_some_and(|since| begun < since);
        if is_old
            || self.answered.is_some_and(|answered| answered >= begun)
            || self.failed.is_some_and(|failed| failed > begun)
        {
            return None;
        }
        self.failed = Some(now);
        self.is_silent |= how == Nothing::Silent;
        let was_doubtful = self.breaker.is_doubtful();
        (self.breaker.failed(now).is_some() && !was_doubtful).then_some(News::Lost)
    }

    /// Forgets failures: the network is another one now.
    pub(crate) fn try_again(&mut self, now: Instant) {
        *self = Self { since: Some(now), ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn what_passes_is_tried_again_and_what_is_said_is_not() {
        for status in [408, 429, 500, 502, 503, 504, 520, 530] {
            assert!(is_passing(&SourceError::Status(status)), "{status}");
        }
        for status in [400, 401, 403, 404, 410, 418, 501, 505, 511] {
            assert!(!is_passing(&SourceError::Status(status)), "{status}");
        }
        assert!(is_passing(&SourceError::Connection("reset".into())));
        assert!(is_passing(&SourceError::Stalled(Duration::from_secs(5))));
        assert!(!is_passing(&SourceError::TooLarge(1)) && !is_passing(&SourceError::Redirect("x".into())));
    }

    #[test]
    fn one_that_lets_a_lookup_go_by_is_waited_for_no_more_and_then_left_alone() {
        let (mut health, now) = (Health::new(), Instant::now());
        assert!(health.works() && health.is_worth_retries());
        assert_eq!(health.came_to_nothing(Nothing::Silent, now, now + 8 * SEC), None);
        assert!(health.permits(now + 8 * SEC) && !health.works());
        for other in 0..25 {
            let begun = now + Duration::from_millis(other);
            assert_eq!(health.came_to_nothing(Nothing::Silent, begun, now + 8 * SEC), None, "it had the same cause");
        }
        assert!(health.permits(now + 8 * SEC));
        assert_eq!(health.came_to_nothing(Nothing::Silent, now + 9 * SEC, now + 9 * SEC), None);
        assert_eq!(health.came_to_nothing(Nothing::Silent, now + 10 * SEC, now + 10 * SEC), Some(News::Lost));
        assert!(!health.permits(now + 10 * SEC) && health.permits(now + 11 * SEC));
        assert!(!health.works(), "the next is a test");
        assert_eq!(health.answered(now + 11 * SEC), Some(News::Back));
        assert!(health.works() && health.is_worth_retries());
    }

    #[test]
    fn one_path_in_trouble_says_nothing_of_the_upstream() {
        let (mut health, now) = (Health::new(), Instant::now());
        health.answered(now + SEC);
        for _ in 0..9 {
            assert_eq!(health.came_to_nothing(Nothing::Silent, now, now + 8 * SEC), None);
        }
        assert!(health.works() && health.is_worth_retries());
    }

    #[test]
    fn one_that_refuses_is_asked_again_by_the_first_lookup_alone() {
        let (mut health, now) = (Health::new(), Instant::now());
        health.came_to_nothing(Nothing::Failed, now, now + 2 * SEC);
        assert!(health.works(), "its answer comes soon enough");
        assert!(!health.is_worth_retries());
        health.try_again(now + 3 * SEC);
        health.came_to_nothing(Nothing::Silent, now, now + 4 * SEC);
        assert!(health.is_worth_retries());
    }

    #[test]
    fn what_it_wants_holds_until_it_answers() {
        let (mut health, now) = (Health::new(), Instant::now());
        health.was_busy(Some(SEC), now);
        assert_eq!(health.busy_until(), Some(now + SEC));
        health.was_busy(Some(Duration::MAX), now);
        assert_eq!(health.busy_until(), None, "no time at all");
        health.was_busy(Some(SEC), now);
        health.answered(now);
        assert_eq!(health.busy_until(), None);
    }
}

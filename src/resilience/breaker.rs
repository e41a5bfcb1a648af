//! Keeping requests away from somebody who keeps failing.

use super::backoff::{Backoff, Schedule};
use std::time::Duration;
use tokio::time::Instant;

/// A circuit breaker. After some failures in a row no requests go there for a while. When the pause is over the next request
/// is the test: one more failure begins the next, longer pause, one success closes the breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    /// How many requests in a row must fail before requests are kept away.
    threshold: u32,
    failures: u32,
    backoff: Backoff,
    schedule: Schedule,
    open_until: Option<Instant>,
}

impl Breaker {
    /// A closed one, which opens after `threshold` failures in a row for the pauses of `schedule`.
    #[must_use]
    pub const fn new(threshold: u32, schedule: Schedule) -> Self {
        Self { threshold, failures: 0, backoff: Backoff::new(schedule), schedule, open_until: None }
    }

    /// Whether requests may go there.
    #[must_use]
    pub fn permits(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| until <= now)
    }

    /// Whether the last requests went wrong and the next is a test.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.open_until.is_some()
    }

    /// How long requests are kept away yet.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.open_until.filter(|until| *until > now).map(|until| until - now)
    }

    /// Failed requests since the last that went well.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Goes on from before a restart: `failures` in a row, and requests kept away for `rest` yet.
    pub fn restore(&mut self, failures: u32, rest: Option<Duration>, now: Instant) {
        self.failures = failures;
        self.open_until = rest.map(|rest| now + rest.min(self.schedule.most.saturating_mul(2)));
        // As many pauses came before this one.
        let pauses = if rest.is_some() { failures.saturating_sub(self.threshold - 1) } else { 0 };
        self.backoff = Backoff::resumed(self.schedule, pauses);
    }

    /// A request failed. Tells for how long requests are kept away from now on, if this failure was the one.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        // Requests that were under way when it opened say nothing new.
        if !self.permits(now) || (self.open_until.is_none() && self.failures < self.threshold) {
            return None;
        }
        let pause = self.backoff.next_pause();
        self.open_until = Some(now + pause);
        Some(pause)
    }

    /// A request went well. True if requests had been kept away.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.is_doubtful();
        *self = Self::new(self.threshold, self.schedule);
        was_open
    }

    /// What went wrong may be over: the next request is the test at once.
    pub fn test_now(&mut self, now: Instant) {
        self.open_until = self.open_until.map(|until| until.min(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule =
        Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(300), spread: false };

    #[tokio::test(start_paused = true)]
    async fn opens_tests_and_closes() {
        let mut breaker = Breaker::new(3, SCHEDULE);
        assert_eq!((breaker.failed(Instant::now()), breaker.failed(Instant::now())), (None, None));
        assert!(breaker.permits(Instant::now()) && !breaker.is_doubtful());
        assert_eq!(breaker.failed(Instant::now()), Some(SCHEDULE.first));
        assert!(!breaker.permits(Instant::now()));
        // Stragglers neither lengthen the pause nor count towards the next.
        assert_eq!((0..10).find_map(|_| breaker.failed(Instant::now())), None);
        assert_eq!(breaker.remaining(Instant::now()), Some(SCHEDULE.first));
        tokio::time::advance(SCHEDULE.first).await;
        assert!(breaker.permits(Instant::now()) && breaker.is_doubtful());
        assert_eq!(breaker.failed(Instant::now()), Some(SCHEDULE.first * 2));
        breaker.test_now(Instant::now());
        assert!(breaker.permits(Instant::now()) && breaker.is_doubtful());
        assert!(breaker.succeeded() && !breaker.succeeded());
        assert!(breaker.permits(Instant::now()) && !breaker.is_doubtful() && breaker.failures() == 0);
        assert_eq!(breaker.failed(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_after_a_restart() {
        let mut breaker = Breaker::new(3, SCHEDULE);
        breaker.restore(4, Some(Duration::from_secs(1)), Instant::now());
        assert!(!breaker.permits(Instant::now()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(breaker.failed(Instant::now()), Some(SCHEDULE.first * 4), "two pauses came before");
        breaker.restore(4, Some(Duration::MAX), Instant::now());
        assert_eq!(breaker.remaining(Instant::now()), Some(SCHEDULE.most * 2), "a file cannot make it longer");
        breaker.restore(2, None, Instant::now());
        assert_eq!(breaker.failed(Instant::now()), Some(SCHEDULE.first));
    }
}

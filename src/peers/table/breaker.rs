//! Pauses that grow: between attempts to reach a peer, and for a peer whose answers keep going wrong.

use std::time::Duration;
use tokio::time::Instant;

/// The first pause.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub(crate) const PAUSE_MOST: Duration = Duration::from_secs(300);
/// How many requests in a row must fail before requests are kept away.
pub(crate) const FAILURES_MAX: u32 = 3;

/// Pauses that double from [`PAUSE_FIRST`] to [`PAUSE_MOST`], each spread by a quarter so that peers do not keep step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    doublings: u32,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.doublings.min(16)).min(PAUSE_MOST);
        self.doublings = self.doublings.saturating_add(1);
        spread(pause)
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.doublings = 0;
    }
}

/// A random duration within a quarter of `around`.
pub(crate) fn spread(around: Duration) -> Duration {
    // Without randomness peers may keep step, which is no harm worth an error.
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    around.mul_f64(0.75 + random / 2.0)
}

/// Keeps requests away from a peer that keeps failing. When the pause is over the next request is the test: one more
/// failure begins the next, longer pause, one success closes the breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    backoff: Backoff,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether requests may go to the peer.
    pub(crate) fn permits(&self, now: Instant) -> bool {
        self.open_until.is_none_or(|until| until <= now)
    }

    /// Whether the last requests went wrong and the next is a test.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.open_until.is_some()
    }

    /// How long requests are kept away yet.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.open_until.filter(|until| *until > now).map(|until| until - now)
    }

    /// Failed requests since the last that went well.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Goes on from before a restart: `failures` in a row, and requests kept away for `rest` yet.
    pub(crate) fn restore(&mut self, failures: u32, rest: Option<Duration>, now: Instant) {
        self.failures = failures;
        self.open_until = rest.map(|rest| now + rest.min(PAUSE_MOST.saturating_mul(2)));
        // As many pauses came before this one.
        self.backoff.doublings = failures.saturating_sub(FAILURES_MAX - 1).min(u32::from(rest.is_some()) * 16);
    }

    /// A request failed. Tells for how long requests are kept away from now on, if this failure was the one.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        // Requests that were under way when it opened say nothing new.
        if !self.permits(now) || (self.open_until.is_none() && self.failures < FAILURES_MAX) {
            return None;
        }
        let pause = self.backoff.next();
        self.open_until = Some(now + pause);
        Some(pause)
    }

    /// A request went well.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The peer came back: what went wrong may be over, so the next request is the test at once.
    pub(crate) fn test_now(&mut self, now: Instant) {
        self.open_until = self.open_until.map(|until| until.min(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most() {
        let mut backoff = Backoff::default();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let expected = Duration::from_secs(expected);
            let pause = backoff.next();
            assert!(pause >= expected.mul_f64(0.75) && pause <= expected.mul_f64(1.25), "{pause:?} for {expected:?}");
        }
        backoff.doublings = u32::MAX;
        assert!(backoff.next() <= PAUSE_MOST.mul_f64(1.25));
        backoff.reset();
        assert!(backoff.next() <= PAUSE_FIRST.mul_f64(1.25));
    }

    #[test]
    fn pauses_differ() {
        let pauses: std::collections::BTreeSet<_> = (0..16).map(|_| spread(PAUSE_MOST)).collect();
        assert!(pauses.len() > 8, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn opens_tests_and_closes() {
        let mut breaker = Breaker::default();
        assert_eq!((breaker.failed(Instant::now()), breaker.failed(Instant::now())), (None, None));
        assert!(breaker.permits(Instant::now()) && !breaker.is_doubtful());
        let first = breaker.failed(Instant::now()).unwrap();
        assert!(!breaker.permits(Instant::now()));
        // Stragglers neither lengthen the pause nor count towards the next.
        assert_eq!((0..10).find_map(|_| breaker.failed(Instant::now())), None);
        assert_eq!(breaker.remaining(Instant::now()), Some(first));
        tokio::time::advance(first).await;
        assert!(breaker.permits(Instant::now()) && breaker.is_doubtful());
        let second = breaker.failed(Instant::now()).unwrap();
        assert!(second >= Duration::from_millis(1500), "{second:?}");
        breaker.test_now(Instant::now());
        assert!(breaker.permits(Instant::now()) && breaker.is_doubtful());
        breaker.succeeded();
        assert!(breaker.permits(Instant::now()) && !breaker.is_doubtful() && breaker.failures() == 0);
        assert_eq!(breaker.failed(Instant::now()), None);
    }
}

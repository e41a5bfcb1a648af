//! Whether an upstream that failed is asked again, and when: a decision without any input or output.

use super::plan::UPSTREAM_LIMIT;
use crate::resilience::{Backoff, Schedule};
use std::time::Duration;
use tokio::time::Instant;

/// How often an upstream is asked again.
const RETRIES: u32 = 3;
/// The pauses before that. Spread, because many lookups may have met the same failure.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(200), factor: 3, most: Duration::from_secs(2), spread: true };

/// The attempts of one lookup at one upstream.
#[derive(Debug)]
pub(crate) struct Retries {
    until: Instant,
    backoff: Backoff,
}

impl Retries {
    /// Those of a lookup that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { until: now + UPSTREAM_LIMIT, backoff: Backoff::new(PAUSES) }
    }

    /// The pause before the next attempt; `None` if there is none. An upstream that wants to be left alone until `busy_until` is, and
    /// not asked again if the lookup cannot wait for that.
    pub(crate) fn next(&mut self, busy_until: Option<Instant>, now: Instant) -> Option<Duration> {
        if self.backoff.failures() == RETRIES {
            return None;
        }
        let own = self.backoff.next_pause();
        let pause = busy_until.map_or(own, |until| own.max(until.saturating_duration_since(now)));
        (now + pause < self.until).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_few_within_the_limit() {
        let start = Instant::now();
        let (mut retries, mut now) = (Retries::new(start), start);
        let mut pauses = Vec::new();
        while let Some(pause) = retries.next(None, now) {
            pauses.push(pause.as_secs_f64());
            now += pause;
        }
        let near = |pause: f64, about: f64| (0.74 * about..1.26 * about).contains(&pause);
        assert!(matches!(pauses[..], [a, b, c] if near(a, 0.2) && near(b, 0.6) && near(c, 1.8)), "{pauses:?}");
        assert_eq!(Retries::new(start).next(None, start + UPSTREAM_LIMIT), None, "there is no time for it");
    }

    #[test]
    fn who_wants_to_be_left_alone_is() {
        let (start, secs) = (Instant::now(), Duration::from_secs);
        let ask = |busy| Retries::new(start).next(Some(start + busy), start);
        assert_eq!(ask(secs(3)), Some(secs(3)));
        assert_eq!(ask(secs(3600)), None, "longer than the lookup can wait");
        assert!(
            ask(Duration::ZERO).is_some_and(|pause| pause >= Duration::from_millis(149)),
            "and not sooner than is wise"
        );
    }
}

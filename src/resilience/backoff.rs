//! Pauses that grow from one failure to the next.

use std::time::Duration;

/// How pauses grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The first pause.
    pub first: Duration,
    /// How many times as long each next one is.
    pub factor: u32,
    /// The longest.
    pub most: Duration,
    /// Whether each is spread at random by a quarter, so that many who wait do not keep step.
    pub spread: bool,
}

impl Schedule {
    /// The pause after `failures` failures in a row, not spread; none after none.
    #[must_use]
    pub fn after(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(steps) => self.first.saturating_mul(self.factor.saturating_pow(steps)).min(self.most),
        }
    }
}

/// The pauses of one who keeps failing.
#[derive(Debug, Clone)]
pub struct Backoff {
    schedule: Schedule,
    failures: u32,
}

impl Backoff {
    /// No failure so far.
    #[must_use]
    pub const fn new(schedule: Schedule) -> Self {
        Self::resumed(schedule, 0)
    }

    /// After so many failures in a row, say before a restart.
    #[must_use]
    pub const fn resumed(schedule: Schedule, failures: u32) -> Self {
        Self { schedule, failures }
    }

    /// Notes a failure; gives the pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = self.schedule.after(self.failures);
        if self.schedule.spread { spread(pause) } else { pause }
    }

    /// How many failures there were in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins anew: it went well.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random duration within a quarter of `around`.
fn spread(around: Duration) -> Duration {
    // Without randomness those who wait may keep step, which is no harm worth an error.
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    around.mul_f64(0.75 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBLING: Schedule =
        Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(300), spread: false };

    #[test]
    fn pauses_grow_up_to_the_most() {
        let mut backoff = Backoff::new(DOUBLING);
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(backoff.next_pause(), Duration::from_secs(expected));
        }
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next_pause(), DOUBLING.most);
        backoff.reset();
        assert_eq!(backoff.next_pause(), DOUBLING.first);
        assert_eq!(Schedule { factor: 4, ..DOUBLING }.after(3), Duration::from_secs(16));
        assert_eq!(DOUBLING.after(0), Duration::ZERO);
    }

    #[test]
    fn spread_pauses_differ_by_a_quarter_at_most() {
        let schedule = Schedule { spread: true, ..DOUBLING };
        let pauses: std::collections::BTreeSet<_> = (0..16).map(|_| Backoff::new(schedule).next_pause()).collect();
        assert!(pauses.len() > 8, "{pauses:?}");
        let bounds = [0.75, 1.25].map(|part| schedule.first.mul_f64(part));
        assert!(pauses.iter().all(|pause| (bounds[0]..=bounds[1]).contains(pause)), "{pauses:?}");
    }
}

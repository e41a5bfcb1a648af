//! How well a peer does: smoothed measures, and one number to rank peers by.

use crate::resilience::Ewma;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Bodies below this size, in bytes, say more about latency than about throughput.
const THROUGHPUT_BYTES_MIN: u64 = 256 * 1024;
/// A throughput that is worth half of the throughput's share of the score, in bytes per second: a 1 Gbit/s link.
const THROUGHPUT_HALF: f64 = 110e6;
/// A latency that is worth half of the latency's share of the score, in seconds.
const LATENCY_HALF: f64 = 0.005;
/// What a measure that was not taken yet is worth: as much as a middling one, so that newcomers get their chance.
const UNKNOWN: f64 = 0.5;
/// The shares of throughput and latency in the score.
const SHARES: [f64; 2] = [0.65, 0.35];

/// The largest measures taken over from a file: an hour, and more than any link carries.
const LATENCY_MOST: f64 = 3600.0;
const THROUGHPUT_MOST: f64 = 1e13;

/// The measures of one peer; kept over a restart in this form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Seconds to the first byte.
    latency: Ewma,
    /// Bytes per second.
    throughput: Ewma,
    /// The part of requests that go well.
    success: Ewma,
    /// Somebody waited for its answer in vain, and nothing has come since.
    #[serde(skip)]
    is_silent: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self { latency: Ewma::default(), throughput: Ewma::default(), success: Ewma::at(1.0), is_silent: false }
    }
}

impl Health {
    /// Goes on from what was measured before; what makes no sense is left out.
    pub(crate) fn restore(&mut self, before: Self) {
        let take_over = |mine: &mut Ewma, before: Ewma, most: f64| {
            if before.get().is_some_and(|measure| (0.0..=most).contains(&measure)) {
                *mine = before;
            }
        };
        take_over(&mut self.latency, before.latency, LATENCY_MOST);
        take_over(&mut self.throughput, before.throughput, THROUGHPUT_MOST);
        take_over(&mut self.success, before.success, 1.0);
    }

    /// The first byte of an answer took this long.
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.latency.add(latency.as_secs_f64());
        self.is_silent = false;
    }

    /// An answer was waited for in vain.
    pub(crate) const fn kept_waiting(&mut self) {
        self.is_silent = true;
    }

    /// Whether its answer is worth waiting for: the first that waits in vain is the last that does, until something comes again.
    pub(crate) const fn is_worth_waiting_for(&self) -> bool {
        !self.is_silent
    }

    /// A body came whole.
    pub(crate) fn succeeded(&mut self, bytes: u64, elapsed: Duration) {
        self.success.add(1.0);
        if bytes >= THROUGHPUT_BYTES_MIN && !elapsed.is_zero() {
            // Beyond 2^53 bytes a rounded number does as well.
            #[allow(clippy::cast_precision_loss)]
            self.throughput.add(bytes as f64 / elapsed.as_secs_f64());
        }
    }

    /// A request went wrong.
    pub(crate) fn failed(&mut self) {
        self.success.add(0.0);
    }

    /// The smoothed time to the first byte.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latency.get().map(Duration::from_secs_f64)
    }

    /// The smoothed throughput in bytes per second.
    pub(crate) const fn throughput(&self) -> Option<f64> {
        self.throughput.get()
    }

    /// From 0 (useless) to 1 (perfect). Success multiplies: what fails is worth nothing, however fast.
    pub(crate) fn score(&self) -> f64 {
        let throughput = self.throughput.get().map_or(UNKNOWN, |rate| rate / (rate + THROUGHPUT_HALF));
        let latency = self.latency.get().map_or(UNKNOWN, |seconds| LATENCY_HALF / (LATENCY_HALF + seconds));
        (SHARES[0] * throughput + SHARES[1] * latency) * self.success.get().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_silent_is_waited_for_once() {
        let mut health = Health::default();
        assert!(health.is_worth_waiting_for());
        health.kept_waiting();
        assert!(!health.is_worth_waiting_for());
        health.answered(Duration::from_millis(1));
        assert!(health.is_worth_waiting_for());
    }

    fn measured(latency_ms: u64, bytes_per_second: u64) -> Health {
        let mut health = Health::default();
        health.answered(Duration::from_millis(latency_ms));
        health.succeeded(bytes_per_second, Duration::from_secs(1));
        health
    }

    #[test]
    fn better_measures_rank_higher() {
        let fast = measured(1, 500_000_000).score();
        let slow = measured(1, 5_000_000).score();
        let far = measured(80, 500_000_000).score();
        let fresh = Health::default().score();
        assert!(fast > slow && fast > far && fast > fresh && fresh > slow, "{fast} {slow} {far} {fresh}");
        assert!(fast < 1.0 && measured(10_000, 300_000).score() > 0.0);
    }

    #[test]
    fn failures_weigh_until_successes_outweigh_them() {
        let mut health = measured(1, 500_000_000);
        let before = health.score();
        for _ in 0..10 {
            health.failed();
        }
        let bad = health.score();
        assert!(bad < measured(20, 50_000_000).score(), "{bad}");
        for _ in 0..30 {
            health.succeeded(500_000_000, Duration::from_secs(1));
        }
        assert!((health.score() - before).abs() < 0.01);
    }

    #[test]
    fn measures_survive_and_nonsense_does_not() {
        let before = measured(3, 70_000_000);
        let mut after = Health::default();
        after.restore(before);
        assert_eq!(after, before);
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            let bad = Ewma::at(bad);
            after.restore(Health { latency: bad, throughput: bad, success: bad, is_silent: false });
            assert_eq!(after, before, "{bad:?}");
        }
    }

    #[test]
    fn averages_follow_and_small_bodies_are_not_throughput() {
        let mut health = measured(10, 1_000_000);
        for _ in 0..40 {
            health.answered(Duration::from_millis(2));
            health.succeeded(1000, Duration::from_secs(1));
        }
        let latency = health.latency().unwrap().as_secs_f64();
        assert!((latency - 0.002).abs() < 0.000_1, "{latency}");
        assert_eq!(health.throughput(), Some(1_000_000.0));
        health.succeeded(u64::MAX, Duration::ZERO);
        assert_eq!(health.throughput(), Some(1_000_000.0));
    }
}

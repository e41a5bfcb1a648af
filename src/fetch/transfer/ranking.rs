//! Which source sends: the order among those that have a NAR.

use crate::fetch::source::{Standing, Tier};
use crate::peers::hello::WEIGHT_MAX;
use std::time::Duration;

/// What a source is taken for that was not measured yet: as good as a wired machine, so that newcomers get their chance, once.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(1);
/// Bytes a second: a line of 1 Gbit/s.
const UNKNOWN_THROUGHPUT: f64 = 110e6;
/// The least throughput reckoned with, in bytes a second.
const THROUGHPUT_LEAST: f64 = 1.0;

/// The place of a source, the smallest is the best.
pub(crate) type Rank = (u32, u32, Tier, Duration);

/// Suspects last, then those that failed least, then the nearest, then who will be done with `bytes` first.
pub(crate) fn rank(standing: &Standing, suspicion: u32, failures: u32, bytes: u64) -> Rank {
    (suspicion, failures, standing.tier, expected(standing, bytes))
}

/// How long a source will probably take to send so many bytes.
fn expected(standing: &Standing, bytes: u64) -> Duration {
    let weight = f64::from(standing.weight) / f64::from(WEIGHT_MAX);
    let throughput = (standing.throughput.unwrap_or(UNKNOWN_THROUGHPUT) * weight).max(THROUGHPUT_LEAST);
    // Beyond 2^53 bytes a rounded number does as well.
    #[allow(clippy::cast_precision_loss)]
    let seconds = bytes as f64 / throughput;
    let sending = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    standing.latency.unwrap_or(UNKNOWN_LATENCY).saturating_add(sending)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const GIB: u64 = 1024 * 1024 * 1024;

    fn peer(latency_ms: u64, throughput: f64) -> Standing {
        let latency = Some(Duration::from_millis(latency_ms));
        Standing { usable: true, tier: Tier::Online, latency, throughput: Some(throughput), weight: WEIGHT_MAX }
    }

    #[test]
    fn latency_decides_who_sends_the_small_and_throughput_who_sends_the_large() {
        let (near_and_slow, far_and_fast) = (peer(1, 2e6), peer(20, 500e6));
        let first = |bytes| rank(&near_and_slow, 0, 0, bytes) < rank(&far_and_fast, 0, 0, bytes);
        assert!(first(4 * KIB) && !first(GIB));
    }

    #[test]
    fn who_wants_to_be_counted_on_less_is_asked_later() {
        let laptop = Standing { weight: 10, ..peer(1, 110e6) };
        assert!(rank(&peer(1, 20e6), 0, 0, GIB) < rank(&laptop, 0, 0, GIB));
        assert!(rank(&laptop, 0, 0, GIB) < rank(&peer(1, 5e6), 0, 0, GIB));
    }

    #[test]
    fn nearness_before_speed_failures_before_nearness_suspicion_before_all() {
        let slow = peer(50, 1e6);
        let upstream = Standing { tier: Tier::Upstream, ..peer(1, 1e9) };
        assert!(rank(&slow, 0, 0, GIB) < rank(&upstream, 0, 0, GIB));
        assert!(rank(&upstream, 0, 0, GIB) < rank(&slow, 0, 1, GIB));
        assert!(rank(&slow, 0, 2, GIB) < rank(&upstream, 1, 0, GIB));
    }

    #[test]
    fn who_was_never_measured_is_given_a_chance() {
        let unknown = Standing { latency: None, throughput: None, ..peer(0, 0.0) };
        assert!(rank(&unknown, 0, 0, GIB) < rank(&peer(1, 50e6), 0, 0, GIB));
        assert!(rank(&peer(1, 0.0), 0, 0, u64::MAX) > rank(&unknown, 0, 0, u64::MAX), "no division by zero");
    }
}

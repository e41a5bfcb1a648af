//! Moments at which everything is done that has to be done now and then: so that a machine that is idle wakes up once for all of it.

use std::time::Duration;
use tokio::time::Instant;

/// Moments at a regular distance, from one that is this program's own: machines that start together do not keep step.
#[derive(Debug)]
pub struct Rounds {
    first: Instant,
}

impl Rounds {
    /// The first one is at random within `most`, the longest distance that will be asked for.
    #[must_use]
    pub fn new(most: Duration) -> Self {
        // Without randomness machines that start together keep step, which is no harm worth an error.
        let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        Self { first: Instant::now() + most.mul_f64(random) }
    }

    /// The moment for what was done last at `last` and is to be done every `distance`: a quarter to five quarters of that later, and exactly
    /// that once it keeps step.
    #[must_use]
    pub fn next(&self, last: Instant, distance: Duration) -> Instant {
        let earliest = last + distance / 4;
        // The moments go on before the first one as well.
        let (since, is_after) = match earliest.checked_duration_since(self.first) {
            Some(since) => (since, true),
            None => (self.first - earliest, false),
        };
        let nanoseconds = since.as_nanos() % distance.as_nanos().max(1);
        let rest = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        match (is_after, rest) {
            (_, Duration::ZERO) => earliest,
            (true, rest) => earliest + (distance - rest),
            (false, rest) => earliest + rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everybody_keeps_step_after_one_round(lasts in proptest::collection::vec(0..600_000u64, 1..20), distance in 1_000..20_000u64) {
            let (start, distance) = (Instant::now(), Duration::from_millis(distance));
            let rounds = Rounds::new(Duration::from_secs(20));
            for last in lasts {
                let last = start + Duration::from_millis(last);
                let next = rounds.next(last, distance);
                prop_assert!(next >= last + distance / 4 && next < last + distance / 4 + distance);
                let in_step = |moment: Instant| {
                    let apart = moment.checked_duration_since(rounds.first).unwrap_or_else(|| rounds.first - moment);
                    apart.as_nanos().is_multiple_of(distance.as_nanos())
                };
                prop_assert!(in_step(next));
                prop_assert_eq!(rounds.next(next, distance), next + distance);
            }
        }
    }
}

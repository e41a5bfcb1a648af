//! How much time of the processors may go into work that is only worth it where there is nothing else to do.

use std::time::Duration;
use tokio::time::Instant;

/// What may be saved up, in time of one processor for each that there is.
const SAVED: Duration = Duration::from_secs(1);
/// The part of the processors' time that comes in: half of it.
const PART: u32 = 2;

/// Time of processors, which comes in as it passes and is taken by the work. It is the time on the clock: on a machine that is at something else the same
/// work takes longer, and is soon done less.
#[derive(Debug)]
pub(super) struct Spare {
    processors: u32,
    /// What was taken and did not come in again: more than can be saved up where the last work was long.
    taken: Duration,
    /// When that was so.
    counted: Instant,
}

impl Spare {
    /// All that can be saved up is there.
    pub(super) fn new(processors: u32, now: Instant) -> Self {
        Self { processors: processors.max(1), taken: Duration::ZERO, counted: now }
    }

    /// Whether anything is there.
    pub(super) fn is_there(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        self.taken = self.taken.saturating_sub(passed.saturating_mul(self.processors) / PART);
        self.taken < SAVED * self.processors
    }

    /// Notes that the work took so long.
    pub(super) fn take(&mut self, took: Duration) {
        self.taken += took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_taken_comes_again_with_time() {
        let begun = Instant::now();
        let mut spare = Spare::new(4, begun);
        assert!(spare.is_there(begun));
        spare.take(SAVED * 4 + Duration::from_secs(2));
        assert!(!spare.is_there(begun), "two seconds too much");
        assert!(!spare.is_there(begun + Duration::from_secs(1)), "which half of four processors make up for in one");
        assert!(spare.is_there(begun + Duration::from_millis(1001)));
    }

    proptest! {
        #[test]
        fn over_any_time_half_of_the_processors_and_what_was_saved_are_the_most(
            steps in proptest::collection::vec((0..2000u64, 0..500u64), 1..200), processors in 1..64u32
        ) {
            let begun = Instant::now();
            let mut spare = Spare::new(processors, begun);
            let (mut now, mut took) = (begun, Duration::ZERO);
            for (wait, work) in steps {
                now += Duration::from_millis(wait);
                if spare.is_there(now) {
                    let work = Duration::from_millis(work);
                    spare.take(work);
                    took += work;
                    let most = SAVED * processors + (now - begun) * processors / PART;
                    prop_assert!(took <= most + work, "the last may have been too much");
                }
            }
        }
    }
}

//! How long a source may be silent before another one is asked, or before it is given up.

use std::time::Duration;
use tokio::time::Instant;

/// How long a source may be silent when another one can go on.
const WITH_OTHER: Duration = Duration::from_millis(1000);
/// How long it may keep one transfer waiting when there is no other source, and it sends to other transfers meanwhile: a small machine
/// that many paths are wanted from at once is busy, not gone. As long as a share lets an answer wait for its reader.
const BUSY: Duration = Duration::from_secs(30);

/// The silence of one source in one transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallTimeout {
    /// When the transfer got something last.
    since: Instant,
    /// When the source last gave anything to anybody, as far as was noticed.
    alive: Instant,
    /// How many bytes it had given by then to all transfers.
    given: u64,
}

impl StallTimeout {
    /// From now on, for a source that has given so many bytes so far to all transfers.
    pub(crate) const fn start(now: Instant, given: u64) -> Self {
        Self { since: now, alive: now, given }
    }

    /// When to look at [`Self::stalled`] next. The source may be silent for `alone` when no other one could go on.
    pub(crate) fn deadline(&self, alone: Duration, has_other: bool) -> Instant {
        if has_other { self.since + WITH_OTHER } else { (self.alive + alone).min(self.since + BUSY.max(alone)) }
    }

    /// For how long it has been silent, if that is too long; it has `given` so many bytes by now to all transfers.
    pub(crate) fn stalled(&mut self, now: Instant, given: u64, alone: Duration, has_other: bool) -> Option<Duration> {
        if given != self.given {
            (self.alive, self.given) = (now, given);
        }
        (now >= self.deadline(alone, has_other)).then(|| now - self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Duration = Duration::from_secs(5);

    /// For how long something that never comes is waited for.
    fn waited(has_other: bool, given: impl Fn(Duration) -> u64) -> Duration {
        let begun = Instant::now();
        let mut timeout = StallTimeout::start(begun, given(Duration::ZERO));
        loop {
            let now = timeout.deadline(ALONE, has_other);
            if let Some(waited) = timeout.stalled(now, given(now - begun), ALONE, has_other) {
                return waited;
            }
        }
    }

    #[test]
    fn who_is_busy_is_waited_for_longer_if_there_is_nobody_else() {
        let sends = |elapsed: Duration| elapsed.as_secs();
        assert_eq!(waited(true, |_| 7), WITH_OTHER);
        assert_eq!(waited(true, sends), WITH_OTHER);
        assert_eq!(waited(false, |_| 7), ALONE);
        assert_eq!(waited(false, sends), BUSY);
        // It has stopped sending.
        let stops = |elapsed: Duration| elapsed.as_secs().min(12);
        let waited = waited(false, stops);
        assert!(waited > Duration::from_secs(12) && waited < BUSY, "{waited:?}");
    }

    #[test]
    fn another_source_that_turns_up_ends_the_wait() {
        let begun = Instant::now();
        let mut timeout = StallTimeout::start(begun, 0);
        let later = begun + WITH_OTHER * 2;
        assert_eq!(timeout.stalled(later, 0, ALONE, false), None);
        assert_eq!(timeout.stalled(later, 0, ALONE, true), Some(WITH_OTHER * 2));
    }
}

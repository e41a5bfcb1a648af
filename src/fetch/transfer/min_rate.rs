//! How fast a source is while it is waited for: one that sends a byte now and then must not hold Nix for hours.
//!
//! A source that sends a lot, but to many of our transfers at once over a slow line, is not one of those: that each of them gets little
//! is nobody's fault, and nobody would gain if all of them were given up.

use crate::fetch::error::SourceError;
use std::time::Duration;

/// The least that a source must send, in bytes a second, on average over [`SPAN`]: all transfers from it together…
const LEAST: u64 = 16 * 1024;
/// … and this one alone, so that a liar cannot hold one transfer for ever by feeding another.
const LEAST_ALONE: u64 = 1024;
/// The least of one that fetches the NAR itself, in bytes a second: it is as fast as what it waits for.
const LEAST_PARTIAL: u64 = 4 * 1024;
/// How long a source is watched before it is judged; only time spent waiting for it counts.
const SPAN: Duration = Duration::from_secs(5);

/// The rate of one source in one transfer.
pub(crate) struct MinRate {
    /// Since the last judgement, as is `bytes`.
    since_judged: Duration,
    bytes: u64,
    /// What all transfers had got from the source by then, in bytes.
    given_before: u64,
    /// In all.
    waited: Duration,
    /// The least that all transfers together must get.
    least: u64,
}

impl MinRate {
    /// For a source that has given all transfers so many bytes up to now.
    pub(crate) fn start(given: u64) -> Self {
        let (since_judged, waited) = (Duration::ZERO, Duration::ZERO);
        Self { since_judged, bytes: 0, given_before: given, waited, least: LEAST }
    }

    /// For one that fetches the NAR itself.
    pub(crate) fn of_partial() -> Self {
        Self { least: LEAST_PARTIAL, ..Self::start(0) }
    }

    /// Notes that the source was waited for so long, and brought `bytes` from the network; all transfers together have been `given` so
    /// many by now.
    ///
    /// # Errors
    /// It is too slow.
    pub(crate) fn note(&mut self, waited: Duration, bytes: u64, given: u64) -> Result<(), SourceError> {
        self.since_judged += waited;
        self.waited += waited;
        self.bytes += bytes;
        if self.since_judged < SPAN {
            return Ok(());
        }
        let seconds = self.since_judged.as_secs();
        // What a decoder skips is counted here only.
        let together = self.bytes.max(given.saturating_sub(self.given_before));
        let enough = together >= self.least * seconds && self.bytes >= LEAST_ALONE * seconds;
        *self = Self { waited: self.waited, least: self.least, ..Self::start(given) };
        if enough { Ok(()) } else { Err(SourceError::Stalled(SPAN)) }
    }

    /// How long the source was waited for in all.
    pub(crate) const fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn drops_are_not_a_stream() {
        let mut rate = MinRate::start(0);
        assert!(rate.note(seconds(4), 1, 1).is_ok(), "too early to say");
        assert!(rate.note(seconds(1), 1, 2).is_err());
        assert!(rate.note(seconds(5), 5 * LEAST, 5 * LEAST + 2).is_ok());
        assert!(rate.note(seconds(6), 0, 5 * LEAST + 2).is_err());
        assert_eq!(rate.waited(), seconds(16));
    }

    #[test]
    fn who_fetches_it_itself_may_be_slower() {
        let mut rate = MinRate::of_partial();
        assert!(rate.note(seconds(5), 5 * LEAST_PARTIAL, 0).is_ok());
        assert!(rate.note(seconds(5), 5 * LEAST_PARTIAL - 1, 0).is_err());
    }

    #[test]
    fn a_slow_line_that_many_share_is_no_drip() {
        let share = 5 * LEAST / 12 + 1;
        let mut given = 1_000_000;
        let mut rate = MinRate::start(given);
        for _ in 0..10 {
            given += 12 * share;
            assert!(rate.note(seconds(5), share, given).is_ok());
        }
        // The others are done: what is left has the line for itself, and does not use it.
        given += share;
        assert!(rate.note(seconds(5), share, given).is_err());
    }

    #[test]
    fn a_drip_does_not_hide_behind_a_stream() {
        let mut rate = MinRate::start(0);
        assert!(rate.note(seconds(5), 5, 100_000_000).is_err());
    }
}

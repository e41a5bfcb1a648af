//! How fast a source is while it is waited for: one that sends a byte now and then must not hold Nix for hours.

use super::error::SourceError;
use std::time::Duration;

/// The least that a source must send, in bytes a second, on average over [`SPAN`].
const LEAST: u64 = 16 * 1024;
/// How long a source is watched before it is judged; only time spent waiting for it counts.
const SPAN: Duration = Duration::from_secs(5);

/// The pace of one source.
#[derive(Default)]
pub(super) struct Pace {
    /// Since the last judgement, as is `bytes`.
    since_judged: Duration,
    bytes: u64,
    /// In all.
    waited: Duration,
}

impl Pace {
    /// Notes that the source was waited for so long, and brought `bytes`.
    ///
    /// # Errors
    /// It is too slow.
    pub(super) fn note(&mut self, waited: Duration, bytes: u64) -> Result<(), SourceError> {
        self.since_judged += waited;
        self.waited += waited;
        self.bytes += bytes;
        if self.since_judged < SPAN {
            return Ok(());
        }
        let enough = self.bytes >= LEAST * self.since_judged.as_secs();
        (self.since_judged, self.bytes) = (Duration::ZERO, 0);
        if enough { Ok(()) } else { Err(SourceError::Stalled(SPAN)) }
    }

    /// How long the source was waited for in all.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_not_a_stream() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::default();
        assert!(pace.note(seconds(4), 1).is_ok(), "too early to say");
        assert!(pace.note(seconds(1), 1).is_err());
        assert!(pace.note(seconds(5), 5 * LEAST).is_ok());
        assert!(pace.note(seconds(6), 0).is_err());
        assert_eq!(pace.waited().as_secs(), 16);
    }
}

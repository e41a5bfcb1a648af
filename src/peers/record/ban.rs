//! Bans: there is nothing to do with a peer for a while, also after a restart, and never for longer than was meant.
//!
//! Clocks are wrong now and then: at the first start of a machine without a battery, in a restored virtual machine. So what is
//! written down is how much of the ban was left and when that was; the clock can only shorten it.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The longest ban there is, whoever asks for it: what makes no sense in a file is cut to it as well.
pub(crate) const BAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why and until when there is nothing to do with the peer.
#[derive(Debug, Clone)]
pub(crate) struct Ban {
    pub(crate) until: Instant,
    pub(crate) reason: String,
}

/// A ban as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RememberedBan {
    /// When it ends by the clock of then, in seconds since 1970. For people, and for versions that knew only this.
    until: u64,
    reason: String,
    /// How many seconds were left when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
    /// When that was, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written: Option<u64>,
}

impl Ban {
    /// For `duration` from now on, at most [`BAN_MAX`].
    pub(crate) fn new(duration: Duration, reason: String) -> Self {
        Self { until: Instant::now() + duration.min(BAN_MAX), reason }
    }

    /// What to write down at the time `wall`; `None` when it is over.
    pub(crate) fn remember(&self, wall: SystemTime) -> Option<RememberedBan> {
        let left = self.until.saturating_duration_since(Instant::now());
        let written = super::unix(wall)?;
        let until = written.checked_add(left.as_secs())?;
        let reason = self.reason.clone();
        (!left.is_zero()).then_some(RememberedBan { until, reason, left: Some(left.as_secs()), written: Some(written) })
    }
}

impl RememberedBan {
    /// What is left of it at the time `wall`: never more than when it was written. `None` when it is over.
    pub(crate) fn recall(self, wall: SystemTime) -> Option<Ban> {
        // A clock that went back since has not made the time before it pass again.
        let since = |seconds| {
            let then = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
            Some(wall.duration_since(then).unwrap_or_default())
        };
        let left = match (self.left, self.written) {
            (Some(left), Some(written)) => Duration::from_secs(left).min(BAN_MAX).saturating_sub(since(written)?),
            _ => UNIX_EPOCH.checked_add(Duration::from_secs(self.until))?.duration_since(wall).ok()?,
        };
        (!left.is_zero()).then(|| Ban::new(left, self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn left(ban: &Ban) -> Duration {
        ban.until.saturating_duration_since(Instant::now())
    }

    #[test]
    fn a_right_clock_lets_it_run_on() {
        let ban = Ban::new(Duration::from_secs(600), "it lied".into());
        let written = ban.remember(at(1_000_000)).unwrap();
        let again = written.clone().recall(at(1_000_100)).unwrap();
        assert!((498..=500).contains(&left(&again).as_secs()), "{again:?}");
        assert_eq!(again.reason, "it lied");
        assert!(written.recall(at(1_000_600)).is_none());
    }

    #[test]
    fn what_only_says_when_it_ends_is_bounded() {
        let old = |until| RememberedBan { until, reason: String::new(), left: None, written: None };
        assert!((98..=100).contains(&left(&old(1_100).recall(at(1_000)).unwrap()).as_secs()));
        assert!(left(&old(4_000_000_000).recall(at(1_000)).unwrap()) <= BAN_MAX);
        assert!(old(900).recall(at(1_000)).is_none());
    }

    proptest! {
        /// However the clock jumps between restarts, what is left never grows.
        #[test]
        fn no_clock_makes_it_longer(
            seconds in 0..200_000_u64,
            jumps in proptest::collection::vec((0..4_000_000_000_u64, 0..4_000_000_000_u64), 1..6),
        ) {
            let mut ban = Some(Ban::new(Duration::from_secs(seconds), String::new()));
            let mut most = Duration::from_secs(seconds).min(BAN_MAX);
            for (written, read) in jumps {
                let Some(before) = ban else { break };
                ban = before.remember(at(written)).and_then(|remembered| remembered.recall(at(read)));
                let now = ban.as_ref().map(left).unwrap_or_default();
                prop_assert!(now <= most, "{now:?} after {most:?}");
                most = now;
            }
        }

        #[test]
        fn nonsense_is_bounded(until: u64, left_then: Option<u64>, written: Option<u64>, wall in 0..4_000_000_000_u64) {
            let remembered = RememberedBan { until, reason: String::new(), left: left_then, written };
            if let Some(ban) = remembered.recall(at(wall)) {
                prop_assert!(left(&ban) <= BAN_MAX);
            }
        }
    }
}

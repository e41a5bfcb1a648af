//! Lines in the log that strangers can provoke: one a minute is enough to know.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

/// The time between two lines, in seconds.
const INTERVAL: u64 = 60;

/// Says when it is time for the next line. The same line is logged at debug level in between.
#[derive(Debug, Default)]
pub struct LogThrottle {
    /// In seconds since 1970.
    next: AtomicU64,
}

impl LogThrottle {
    /// The first line is due at once.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0) }
    }

    /// The level at which to log now: `warn` if it is time, else [`log::Level::Debug`].
    pub fn level(&self) -> log::Level {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let next = self.next.load(Relaxed);
        // A clock that was set back must not silence us for long.
        let is_time = now >= next || next - now > INTERVAL;
        if is_time && self.next.compare_exchange(next, now + INTERVAL, Relaxed, Relaxed).is_ok() {
            log::Level::Warn
        } else {
            log::Level::Debug
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_and_then_silence() {
        let throttle = LogThrottle::new();
        assert_eq!(throttle.level(), log::Level::Warn);
        assert!((0..100).all(|_| throttle.level() == log::Level::Debug));
        throttle.next.fetch_sub(INTERVAL, Relaxed);
        assert_eq!(throttle.level(), log::Level::Warn, "a minute later");
        throttle.next.store(u64::MAX, Relaxed);
        assert_eq!(throttle.level(), log::Level::Warn, "the clock was set back");
    }
}

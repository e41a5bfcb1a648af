//! Times, as the interfaces have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, as all times of the interfaces are.
#[must_use]
pub fn timestamp(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, microseconds)
}

/// How much that is in a second.
#[must_use]
pub fn per_second(amount: u64, microseconds: u64) -> u64 {
    u64::try_from(u128::from(amount) * 1_000_000 / u128::from(microseconds.max(1))).unwrap_or(u64::MAX)
}

/// A duration in microseconds; more than fits is the most.
#[must_use]
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

//! Times, as the interfaces have them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, as all times of the interfaces are.
#[must_use]
pub fn timestamp(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, microseconds)
}

/// A duration in microseconds; more than fits is the most.
#[must_use]
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

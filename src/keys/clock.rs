//! The time of day and the time that has passed: a clock may be set, a grace period must end all the same.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Tells the time; tests have one that they can set.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds since 1970, as far as the machine knows.
    pub(super) unix: u64,
    /// For what happens while the service runs.
    pub(super) instant: Instant,
}

impl Clock {
    /// The machine's.
    pub(super) fn system() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    pub(super) fn new(unix: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(unix))
    }

    pub(super) fn now(&self) -> Moment {
        Moment { unix: (self.0)(), instant: Instant::now() }
    }
}

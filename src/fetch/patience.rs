//! How long a source may be silent before another one is asked, or before the transfer is given up.

use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a source may be silent when another one can go on.
const STALL: Duration = Duration::from_millis(1000);
/// How long it may be silent when there is no other.
const STALL_ALONE: Duration = Duration::from_secs(5);
/// How long it may keep one transfer waiting when there is no other source, and it sends to other transfers meanwhile: a small machine
/// that many paths are wanted from at once is busy, not gone. As long as a share lets an answer wait for its reader.
const BUSY_ALONE: Duration = Duration::from_secs(30);

/// How long one source may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When it sends nothing to anybody.
    silent: Duration,
    /// When it sends to other transfers.
    busy: Duration,
}

impl Patience {
    /// For a source that another one can take over from, or not.
    pub(super) const fn new(has_other: bool) -> Self {
        if has_other { Self { silent: STALL, busy: STALL } } else { Self { silent: STALL_ALONE, busy: BUSY_ALONE } }
    }

    /// Waits for something from a source, which has `given` so many bytes so far to all transfers.
    ///
    /// # Errors
    /// For how long it was silent.
    pub(super) async fn wait_for<T>(
        self,
        what: impl Future<Output = T>,
        given: impl Fn() -> u64,
    ) -> Result<T, Duration> {
        let mut what = std::pin::pin!(what);
        let begun = Instant::now();
        loop {
            let before = given();
            let rest = self.busy.saturating_sub(begun.elapsed());
            if let Ok(come) = timeout(self.silent.min(rest), &mut what).await {
                return Ok(come);
            }
            if given() == before || begun.elapsed() >= self.busy {
                return Err(begun.elapsed());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::pending;

    /// For how long something that never comes is waited for.
    async fn waited(has_other: bool, given: impl Fn() -> u64) -> Duration {
        Patience::new(has_other).wait_for(pending::<()>(), given).await.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_busy_is_waited_for_longer_if_there_is_nobody_else() {
        let sends = || {
            let given = Cell::new(0);
            move || given.replace(given.get() + 1)
        };
        assert_eq!(waited(true, || 7).await, STALL);
        assert_eq!(waited(true, sends()).await, STALL);
        assert_eq!(waited(false, || 7).await, STALL_ALONE);
        assert_eq!(waited(false, sends()).await, BUSY_ALONE);
        // It has stopped sending.
        let given = sends();
        let begun = Instant::now();
        let stops = || if begun.elapsed() < Duration::from_secs(12) { given() } else { 1000 };
        assert!(waited(false, stops).await < BUSY_ALONE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_is_handed_on() {
        let late = async {
            tokio::time::sleep(STALL_ALONE / 2).await;
            5
        };
        assert_eq!(Patience::new(false).wait_for(late, || 0).await, Ok(5));
    }
}

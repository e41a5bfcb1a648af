//! After a busy time the memory that it took is given back.

use crate::system::memory;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it is looked how much was moved.
const LOOK: Duration = Duration::from_secs(20);
/// What is moved in quiet times, between two looks, in bytes: greetings, questions, figures.
const QUIET: u64 = 1024 * 1024;

/// Whether the time is busy, by how much was moved: decisions alone.
#[derive(Debug)]
struct Business {
    moved: u64,
    is_busy: bool,
}

impl Business {
    /// Takes in how many bytes were moved in all; whether a busy time has ended with that.
    const fn ends(&mut self, moved: u64) -> bool {
        let was_busy = self.is_busy;
        self.is_busy = moved.saturating_sub(self.moved) > QUIET;
        self.moved = moved;
        was_busy && !self.is_busy
    }
}

/// Gives memory back whenever a busy time has ended, by how many bytes were `moved` in all, until `stop`.
pub(super) async fn follow(moved: impl Fn() -> u64, stop: CancellationToken) {
    // What was read to begin with is done.
    let mut business = Business { moved: moved(), is_busy: true };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        if business.ends(moved()) {
            // It fails only when the program is being stopped.
            let _ = spawn_blocking(memory::give_back).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_after_each_busy_time() {
        let mut business = Business { moved: 0, is_busy: false };
        let moved = [0, QUIET, 3 * QUIET, 9 * QUIET, 10 * QUIET, 10 * QUIET, 12 * QUIET, 12 * QUIET];
        let ends: Vec<bool> = moved.into_iter().map(|moved| business.ends(moved)).collect();
        assert_eq!(ends, [false, false, false, false, true, false, false, true]);
    }
}

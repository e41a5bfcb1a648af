//! The memory that transfers may take together, given out in the order in which it is asked for.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The unit of the memory, in bytes.
const UNIT: u64 = 64 * 1024;

/// The memory there is. A cheap handle: clones are the same.
#[derive(Clone)]
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    /// How many units there are in all.
    units: u32,
}

impl Memory {
    /// So many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let units = units(bytes);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Memory for `bytes`, if half of all there is stays free.
    pub(crate) fn spare(&self, bytes: u64) -> Option<Reserved> {
        let units = units(bytes);
        let is_plenty = self.free.available_permits() >= (units + self.units / 2) as usize;
        let permit = is_plenty.then(|| Arc::clone(&self.free).try_acquire_many_owned(units).ok())?;
        permit.map(Reserved)
    }

    /// Waits for memory for `bytes` (or for all there is, if that is less) as long as `patience` lasts. Who asks first gets it first,
    /// however little the next one wants, so that many small ones do not keep a large one waiting for ever.
    pub(crate) async fn reserve(&self, bytes: u64, patience: Duration) -> Option<Reserved> {
        let units = units(bytes).min(self.units);
        let permit = timeout(patience, Arc::clone(&self.free).acquire_many_owned(units)).await;
        // The semaphore is never closed.
        Some(Reserved(permit.ok()?.ok()?))
    }
}

/// A part of the memory; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved(OwnedSemaphorePermit);

impl Reserved {
    /// Gives back what is more than `bytes` need.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let needed = if bytes == 0 { 0 } else { units(bytes) as usize };
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

/// Units for `bytes`, at least one.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn memory_is_waited_for_within_bounds() {
        let memory = Memory::new(10 * UNIT);
        let first = memory.reserve(u64::MAX, MINUTE).await.unwrap();
        let begun = Instant::now();
        assert!(memory.reserve(1, MINUTE).await.is_none());
        assert_eq!(begun.elapsed(), MINUTE);
        let (second, ()) = tokio::join!(memory.reserve(1, MINUTE), async { drop(first) });
        assert!(second.is_some() && begun.elapsed() == MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_gets_it_first() {
        let memory = Memory::new(10 * UNIT);
        let first = memory.reserve(9 * UNIT, MINUTE).await;
        let large = memory.reserve(10 * UNIT, MINUTE);
        let small = async {
            tokio::task::yield_now().await;
            assert!(memory.reserve(UNIT, Duration::ZERO).await.is_none(), "it is behind the large one");
            drop(first);
        };
        assert!(tokio::join!(large, small).0.is_some());
    }

    #[tokio::test]
    async fn what_is_spare_leaves_half_for_others() {
        let memory = Memory::new(10 * UNIT);
        let first = memory.spare(3 * UNIT).unwrap();
        assert!(memory.spare(3 * UNIT).is_none());
        drop(first);
        assert!(memory.spare(5 * UNIT).is_some() && memory.spare(6 * UNIT).is_none());
    }

    #[tokio::test]
    async fn what_was_read_is_given_back_before_the_rest() {
        let memory = Memory::new(10 * UNIT);
        let mut first = memory.reserve(10 * UNIT, Duration::ZERO).await.unwrap();
        for (bytes, free) in [(10 * UNIT, 0), (9 * UNIT, 1), (8 * UNIT + 1, 1), (1, 9), (5 * UNIT, 9), (0, 10)] {
            first.shrink(bytes);
            assert_eq!(memory.free.available_permits(), free, "{bytes}");
        }
    }
}

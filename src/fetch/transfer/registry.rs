//! The transfers that are under way: one a NAR, however many want it, within limits on their number and memory.

use super::assembly::Assembly;
use super::driver::{Search, Shared, Transfer};
use super::fanout::{Fanout, NarBody};
use super::suspects::Suspects;
use crate::fetch::activity::Activity;
use crate::fetch::blame::Blame;
use crate::fetch::error::TransferError;
use crate::fetch::resolve::resolution::Resolution;
use crate::fetch::resolve::resolver::Resolver;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo};
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// NARs up to this size are verified whole before their first byte goes to Nix, in bytes.
const WHOLE: u64 = 16 * 1024 * 1024;
/// How much of a larger NAR waits in memory for its slowest reader, in bytes.
const WINDOW: u64 = 4 * 1024 * 1024;
/// The window of a transfer for which the memory did not suffice, in bytes: more than what is withheld.
const SMALL_WINDOW: u64 = 256 * 1024;
/// How many transfers may be under way. One that decodes has a thread of its own; this is well below the 512 blocking threads of
/// tokio, which files and SQLite need as well: so many readers that stand still must not keep everybody else waiting, and the
/// watchdog's questions with them.
const TRANSFERS_MAX: usize = 192;
/// How long a transfer waits for its slot before Nix is told to look elsewhere.
const SLOT_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for its share of the memory before it makes do with [`SMALL_WINDOW`].
const MEMORY_WAIT: Duration = Duration::from_secs(1);
/// The unit of the memory budget, in bytes.
const BUDGET_UNIT: u64 = 64 * 1024;
/// How long a NAR that turned out wrong is not continued: Nix would put the right end to the wrong beginning.
const TAINTED: Duration = Duration::from_secs(60);
/// How many NARs are remembered for that.
const TAINTED_MAX: u64 = 1024;

/// A transfer under way.
struct Running {
    fanout: Arc<Fanout>,
    resolution: Arc<Resolution>,
    /// By which keys its path is signed that were trusted when it began.
    generation: u64,
}

/// The transfers that are under way. A cheap handle: clones are the same.
#[derive(Clone)]
pub(crate) struct Registry(Arc<Inner>);

struct Inner {
    resolver: Arc<Resolver>,
    shared: Arc<Shared>,
    running: Mutex<HashMap<NarHash, Running>>,
    /// NARs that ended with wrong content lately.
    tainted: Cache<NarHash, ()>,
    slots: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// How many permits `memory` has in all.
    memory_units: u32,
    tasks: TaskTracker,
}

impl Registry {
    /// Nothing is under way. Transfers may take `memory` bytes together; at least one whole NAR's worth is always granted.
    pub(crate) fn new(
        resolver: Arc<Resolver>,
        (metrics, activity, blame): (Arc<Metrics>, Arc<Activity>, Arc<Blame>),
        memory: u64,
        tasks: TaskTracker,
    ) -> Self {
        let memory_units = units(memory.max(WHOLE));
        Self(Arc::new(Inner {
            resolver,
            shared: Arc::new(Shared { metrics, activity, blame, suspects: Suspects::new() }),
            running: Mutex::default(),
            tainted: Cache::builder().max_capacity(TAINTED_MAX).time_to_live(TAINTED).build(),
            slots: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            tasks,
        }))
    }

    /// How many transfers are under way.
    pub(crate) fn running(&self) -> usize {
        self.0.running.lock().len()
    }

    /// The path whose NAR is under way, if it is trusted as it was when that began.
    pub(crate) fn resolution(&self, nar: NarHash, generation: u64) -> Option<Arc<Resolution>> {
        let running = self.0.running.lock();
        let running = running.get(&nar).filter(|running| running.generation == generation)?;
        Some(Arc::clone(&running.resolution))
    }

    /// A reader of the NAR of `resolution` from byte `from` on, of a transfer that is under way or of a new one; `None` if none may
    /// begin.
    pub(crate) async fn reader(&self, resolution: &Arc<Resolution>, from: u64) -> Option<NarBody> {
        let nar = resolution.info.nar_hash;
        if from == 0 {
            self.0.tainted.invalidate(&nar);
        } else if self.0.tainted.contains_key(&nar) {
            return None;
        }
        if let Some(reader) = self.join(nar, from) {
            return Some(reader);
        }
        let slot = slot(&self.0.slots).await?;
        let size = resolution.info.nar_size;
        let (window, memory) = self.reserve(if size <= WHOLE { size } else { WINDOW }).await;
        let fanout = Fanout::new(size, window, memory);
        let reader = fanout.reader(from)?;
        let generation = self.0.resolver.generation();
        let new = Running { fanout: Arc::clone(&fanout), resolution: Arc::clone(resolution), generation };
        if let Some(joined) = self.enter(nar, from, new) {
            return Some(joined);
        }
        self.begin(Arc::clone(resolution), fanout, slot);
        Some(reader)
    }

    fn join(&self, nar: NarHash, from: u64) -> Option<NarBody> {
        let reader = self.0.running.lock().get(&nar)?.fanout.reader(from)?;
        self.0.shared.metrics.transfers_joined.add(1);
        Some(reader)
    }

    /// Puts a transfer into the list; or gives a reader of the one that another request began meanwhile.
    fn enter(&self, nar: NarHash, from: u64, new: Running) -> Option<NarBody> {
        let mut running = self.0.running.lock();
        if let Some(reader) = running.get(&nar).and_then(|other| other.fanout.reader(from)) {
            self.0.shared.metrics.transfers_joined.add(1);
            return Some(reader);
        }
        running.insert(nar, new);
        None
    }

    /// Begins a transfer, and takes it out of the list when it is over.
    fn begin(&self, resolution: Arc<Resolution>, fanout: Arc<Fanout>, slot: OwnedSemaphorePermit) {
        let Inner { resolver, shared, tasks, .. } = &*self.0;
        let PathInfo { path, nar_hash: nar, nar_size, .. } = &resolution.info;
        let nar = *nar;
        shared.metrics.transfers_started.add(1);
        let trace = shared.activity.begin(path, *nar_size);
        let finder = Arc::clone(resolver);
        let find = move |info: &PathInfo| -> Search {
            let (finder, info) = (Arc::clone(&finder), info.clone());
            Box::pin(async move { finder.all(&info).await })
        };
        let assembly = Assembly::new(Arc::clone(&fanout));
        let transfer = Transfer::new(Arc::clone(shared), resolution, find, assembly, Arc::clone(&trace));
        let registry = self.clone();
        tasks.spawn(async move {
            let outcome = transfer.run().await;
            drop(slot);
            registry.0.shared.activity.end(&trace, &outcome);
            if let Err(TransferError::Corrupt(_)) = outcome {
                registry.0.tainted.insert(nar, ());
            }
            let mut running = registry.0.running.lock();
            if running.get(&nar).is_some_and(|running| Arc::ptr_eq(&running.fanout, &fanout)) {
                running.remove(&nar);
            }
        });
    }

    /// A window of `bytes` and the memory for it; or, where others have all of that for too long, a small one without: a
    /// NAR must not wait for other NARs' readers.
    async fn reserve(&self, bytes: u64) -> (u64, Option<OwnedSemaphorePermit>) {
        let units = units(bytes).min(self.0.memory_units);
        match timeout(MEMORY_WAIT, Arc::clone(&self.0.memory).acquire_many_owned(units)).await {
            Ok(Ok(memory)) => (bytes, Some(memory)),
            Ok(Err(_)) | Err(_) => (bytes.min(SMALL_WINDOW), None),
        }
    }
}

/// A slot of [`TRANSFERS_MAX`]; `None` where others have all of them for too long.
async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let slot = timeout(SLOT_WAIT, Arc::clone(slots).acquire_owned()).await;
    if slot.is_err() {
        log::warn!("{TRANSFERS_MAX} transfers are under way and none ends: another one is refused");
    }
    slot.ok()?.ok()
}

/// Permits of the memory budget for `bytes`.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_waited_for_within_bounds() {
        let slots = Arc::new(Semaphore::new(1));
        let first = slot(&slots).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(slot(&slots).await.is_none());
        assert_eq!(begun.elapsed(), SLOT_WAIT);
        let (second, ()) = tokio::join!(slot(&slots), async { drop(first) });
        assert!(second.is_some() && begun.elapsed() < SLOT_WAIT * 2);
    }
}

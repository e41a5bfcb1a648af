//! The transfers that are under way: one a NAR, however many want it, within limits on their number and memory.

use super::assembly::Assembly;
use super::download_limit::DownloadLimit;
use super::driver::{Search, Transfer};
use super::fanout::{Fanout, FanoutBody};
use super::memory::{Memory, Reserved};
use super::shared::{Pieces, Place, Shared};
use super::spool::Spools;
use super::suspects::Suspects;
use crate::fetch::activity::Activity;
use crate::fetch::blame::Blame;
use crate::fetch::error::TransferError;
use crate::fetch::patch::bases::Bases;
use crate::fetch::pieces::tables::Tables;
use crate::fetch::resolve::resolution::Resolution;
use crate::fetch::resolve::resolver::Resolver;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo};
use crate::resilience::Rates;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// NARs up to this size are verified whole before their first byte goes to Nix, in bytes.
pub(crate) const WHOLE: u64 = 16 * 1024 * 1024;
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
/// How long a large NAR waits for its share of the memory before it makes do with [`SMALL_WINDOW`].
const WINDOW_WAIT: Duration = Duration::from_secs(1);
/// How long one waits that is to be kept whole, while those before it come and are read. If they stand still for so long, a reader holds the
/// memory that does not read: then it comes as large ones do, with its tail withheld. Nix waits for five minutes.
const WHOLE_WAIT: Duration = Duration::from_secs(60);
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
    memory: Memory,
    /// Another transfer began.
    begun: Notify,
    tasks: TaskTracker,
}

impl Registry {
    /// Nothing is under way. Transfers may take `memory` bytes together; at least one whole NAR's worth is always granted.
    pub(crate) fn new(
        resolver: Arc<Resolver>,
        (metrics, activity, blame): (Arc<Metrics>, Arc<Activity>, Arc<Blame>),
        place: Place,
        (most, tables, bases): (usize, Tables, Option<Bases>),
        rates: Rates,
        memory: u64,
        tasks: TaskTracker,
    ) -> Self {
        let promises = resolver.promises.clone();
        let memory = Memory::new(memory.max(WHOLE));
        let limit = DownloadLimit::new(rates);
        let pieces = Pieces { most, tables, memory: memory.clone() };
        let suspects = Suspects::new();
        Self(Arc::new(Inner {
            resolver,
            shared: Arc::new(Shared { metrics, activity, blame, suspects, promises, place, pieces, limit, bases }),
            running: Mutex::default(),
            tainted: Cache::builder().max_capacity(TAINTED_MAX).time_to_live(TAINTED).build(),
            slots: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            memory,
            begun: Notify::new(),
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
    /// begin. The resolution was found under trusted keys of this `generation`.
    pub(crate) async fn reader(&self, resolution: &Arc<Resolution>, generation: u64, from: u64) -> Option<FanoutBody> {
        let nar = resolution.info.nar_hash;
        if from == 0 {
            self.0.tainted.invalidate(&nar);
        } else if self.0.tainted.contains_key(&nar) {
            return None;
        }
        self.reader_of(resolution, generation, from).await
    }

    /// One who hears how the transfer ends, and reads nothing.
    pub(crate) async fn watcher(&self, resolution: &Arc<Resolution>, generation: u64) -> Option<FanoutBody> {
        self.0.tainted.invalidate(&resolution.info.nar_hash);
        self.reader_of(resolution, generation, resolution.info.nar_size).await
    }

    /// How fast NARs come from now on.
    pub(crate) fn set_limit(&self, rates: Rates) {
        self.0.shared.limit.set(rates);
    }

    /// What transfers keep.
    pub(crate) fn spools(&self) -> &Spools {
        &self.0.shared.place.spools
    }

    /// The same for one that nobody asked for as yet: not while others may need the room, and not after it turned out wrong.
    pub(crate) async fn reader_ahead(&self, resolution: &Arc<Resolution>, generation: u64) -> Option<FanoutBody> {
        let is_full = self.0.slots.available_permits() < TRANSFERS_MAX / 2;
        if is_full || self.0.tainted.contains_key(&resolution.info.nar_hash) {
            return None;
        }
        self.reader_of(resolution, generation, 0).await
    }

    async fn reader_of(&self, resolution: &Arc<Resolution>, generation: u64, from: u64) -> Option<FanoutBody> {
        let PathInfo { nar_hash: nar, nar_size: size, .. } = resolution.info;
        let prepared = async { Some((slot(&self.0.slots).await?, reserve(&self.0.memory, size).await)) };
        let mut prepared = pin!(prepared);
        let (slot, (window, memory)) = loop {
            // Whoever waits for room joins what another request begins meanwhile.
            let mut begun = pin!(self.0.begun.notified());
            begun.as_mut().enable();
            if let Some(reader) = self.join(nar, from) {
                return Some(reader);
            }
            tokio::select! {
                prepared = &mut prepared => break prepared?,
                () = begun => {}
            }
        };
        let fanout = Fanout::new(size, window, memory);
        let reader = fanout.reader(from)?;
        let new = Running { fanout: Arc::clone(&fanout), resolution: Arc::clone(resolution), generation };
        if let Some(joined) = self.enter(nar, from, new) {
            return Some(joined);
        }
        self.begin(Arc::clone(resolution), fanout, slot);
        Some(reader)
    }

    /// Takes memory from all transfers, in as large parts as one of them may take.
    #[cfg(test)]
    pub(crate) async fn take_memory(&self) -> Vec<Reserved> {
        let mut taken = Vec::new();
        while let Some(part) = self.0.memory.reserve(WHOLE, Duration::ZERO).await {
            taken.push(part);
        }
        taken
    }

    fn join(&self, nar: NarHash, from: u64) -> Option<FanoutBody> {
        let reader = self.0.running.lock().get(&nar)?.fanout.reader(from)?;
        self.0.shared.metrics.transfers_joined.add(1);
        Some(reader)
    }

    /// Puts a transfer into the list; or gives a reader of the one that another request began meanwhile.
    fn enter(&self, nar: NarHash, from: u64, new: Running) -> Option<FanoutBody> {
        let mut running = self.0.running.lock();
        if let Some(reader) = running.get(&nar).and_then(|other| other.fanout.reader(from)) {
            self.0.shared.metrics.transfers_joined.add(1);
            return Some(reader);
        }
        running.insert(nar, new);
        self.0.begun.notify_waiters();
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
        let find = move |resolution: &Arc<Resolution>| -> Search {
            Box::pin(Arc::clone(&finder).search(Arc::clone(resolution)))
        };
        let assembly = Assembly::new(Arc::clone(&fanout));
        let transfer = Transfer::new(Arc::clone(shared), Arc::clone(&resolution), find, assembly, Arc::clone(&trace));
        let registry = self.clone();
        tasks.spawn(async move {
            let outcome = transfer.run().await;
            drop(slot);
            registry.0.shared.activity.end(&trace, &outcome);
            if let Err(TransferError::Corrupt(_)) = outcome {
                registry.0.tainted.insert(nar, ());
            }
            if resolution.is_abandoned() {
                registry.0.resolver.forget(resolution.info.path.hash()).await;
            }
            let mut running = registry.0.running.lock();
            if running.get(&nar).is_some_and(|running| Arc::ptr_eq(&running.fanout, &fanout)) {
                running.remove(&nar);
            }
        });
    }
}

/// How much of a NAR of `size` bytes is kept, and the memory for it.
async fn reserve(memory: &Memory, size: u64) -> (u64, Option<Reserved>) {
    let (window, patience) = if size > WHOLE {
        (WINDOW, WINDOW_WAIT)
    } else if size > SMALL_WINDOW {
        (size, WHOLE_WAIT)
    } else {
        // What every transfer may take that got nothing is enough to keep it whole.
        (size, Duration::ZERO)
    };
    match memory.reserve(window, patience).await {
        Some(memory) => (window, Some(memory)),
        // A NAR must not wait for other NARs' readers for ever.
        None => (window.min(SMALL_WINDOW), None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_to_be_whole_waits_for_memory_and_what_is_tiny_needs_none() {
        let memory = Memory::new(64 << 20);
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(reserve(&memory, WHOLE).await.1.expect("there is some"));
        }
        let begun = tokio::time::Instant::now();
        assert!(matches!(reserve(&memory, SMALL_WINDOW).await, (SMALL_WINDOW, None)));
        assert_eq!(begun.elapsed(), Duration::ZERO, "it is whole all the same");
        assert!(matches!(reserve(&memory, WHOLE + 1).await, (SMALL_WINDOW, None)));
        assert_eq!(begun.elapsed(), WINDOW_WAIT);
        let end = async {
            tokio::time::sleep(WHOLE_WAIT / 2).await; // pace
            taken.pop();
        };
        let (fifth, ()) = tokio::join!(reserve(&memory, WHOLE), end);
        assert!(matches!(fifth, (WHOLE, Some(_))));
        assert_eq!(begun.elapsed(), WINDOW_WAIT + WHOLE_WAIT / 2);
        assert!(matches!(reserve(&memory, WHOLE).await, (SMALL_WINDOW, None)), "nobody reads");
    }

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

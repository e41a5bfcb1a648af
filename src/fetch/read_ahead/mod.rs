//! Small NARs, fetched before Nix asks for them. It asks for the narinfos of a closure first, and then for one NAR after the other: while it
//! unpacks one, the next ones come.
//!
//! They are transfers as all others, verified whole; this holds a reader of each, which becomes Nix's when it asks. What may come in vain is
//! bounded by what was used ([`forecast`]), since what no peer has comes from the Internet.

mod forecast;

use super::resolve::resolution::Resolution;
use super::transfer::fanout::{FanoutBody, Progress};
use super::transfer::registry::Registry;
use crate::metrics::Metrics;
use crate::nix::NarHash;
use forecast::Forecast;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a NAR is kept for which Nix does not ask.
pub(super) const KEEP: Duration = Duration::from_secs(10);
/// The most bytes that are kept,
const KEPT_MAX: u64 = 8 * 1024 * 1024;
/// but never more than this part of the memory for transfers.
const PART: u64 = 8;

/// What fetches a NAR: where it is, and under which generation of trusted keys that was found.
type Found = (Arc<Resolution>, u64);

/// What is fetched ahead. A cheap handle: clones are the same.
#[derive(Clone)]
pub(crate) struct ReadAhead(Arc<Inner>);

struct Inner {
    registry: Registry,
    metrics: Arc<Metrics>,
    is_on: AtomicBool,
    state: Mutex<State>,
}

struct State {
    forecast: Forecast<Found>,
    /// The readers of what comes or is there.
    kept: HashMap<NarHash, Kept>,
}

struct Kept {
    body: FanoutBody,
    generation: u64,
}

impl ReadAhead {
    /// Nothing is fetched ahead before Nix asks; `memory` is what all transfers may take, in bytes.
    pub(crate) fn new(registry: Registry, memory: u64, metrics: Arc<Metrics>) -> Self {
        let state = State { forecast: Forecast::new(KEPT_MAX.min(memory / PART)), kept: HashMap::new() };
        Self(Arc::new(Inner { registry, metrics, is_on: AtomicBool::new(true), state: Mutex::new(state) }))
    }

    /// Whether anything is fetched ahead from now on.
    pub(crate) fn turn(&self, on: bool) {
        self.0.is_on.store(on, Relaxed);
        if !on {
            self.clear();
        }
    }

    /// Nix gets the narinfo of this, which was found under trusted keys of this generation.
    pub(crate) fn promised(&self, resolution: &Arc<Resolution>, generation: u64) {
        if self.0.is_on.load(Relaxed) {
            let found = (Arc::clone(resolution), generation);
            self.0.state.lock().forecast.promised(&resolution.info, Some(found), Instant::now());
        }
    }

    /// Nix asks for this NAR: a reader from its first byte on, if it was fetched ahead under these keys and nothing is wrong with it.
    pub(crate) fn take(&self, nar: NarHash, generation: u64) -> Option<FanoutBody> {
        let mut state = self.0.state.lock();
        let is_ahead = state.forecast.asked(nar, Instant::now());
        let Kept { body, generation: found_under } = state.kept.remove(&nar)?;
        drop(state);
        if is_ahead {
            self.0.metrics.read_ahead_used_bytes.add(body.size());
        }
        let failed = matches!(*body.progress().borrow(), Progress::Failed(_));
        (found_under == generation && !failed).then_some(body)
    }

    /// Fetches what Nix will ask for next, as far as that is allowed.
    pub(crate) fn go_on(&self) {
        if !self.0.is_on.load(Relaxed) {
            return;
        }
        loop {
            let Some((nar, found)) = self.0.state.lock().forecast.next(Instant::now()) else { return };
            let this = self.clone();
            // Not among the tasks that a stop waits for.
            tokio::spawn(async move { this.fetch(nar, found).await });
        }
    }

    async fn fetch(self, nar: NarHash, (resolution, generation): Found) {
        let body = self.0.registry.reader_ahead(&resolution, generation).await;
        let Some(body) = body else {
            self.give_up(nar);
            return;
        };
        let mut progress = body.progress();
        let stays = {
            let mut state = self.0.state.lock();
            let wanted = state.forecast.is_ahead(nar);
            if wanted {
                state.kept.insert(nar, Kept { body, generation });
            }
            wanted
        };
        if !stays {
            // Nix was faster, and has a reader of its own.
            return self.go_on();
        }
        // The sender is in the body; if that is gone, it was taken.
        let came = progress.wait_for(|progress| *progress != Progress::Pending).await;
        let failed = came.is_ok_and(|progress| matches!(*progress, Progress::Failed(_)));
        let waits = !failed && self.0.state.lock().forecast.came(nar);
        self.go_on();
        if waits {
            sleep(KEEP).await; // life of what nobody asks for
        }
        if waits || failed {
            self.give_up(nar);
        }
    }

    /// Keeps a NAR no longer; tells how many bytes were in vain.
    fn give_up(&self, nar: NarHash) -> u64 {
        let mut state = self.0.state.lock();
        let wasted = state.forecast.dropped(nar, Instant::now()).unwrap_or_default();
        let kept = state.kept.remove(&nar);
        drop(state);
        drop(kept);
        self.0.metrics.read_ahead_wasted_bytes.add(wasted);
        wasted
    }

    /// Keeps nothing; tells how many bytes that frees.
    pub(crate) fn clear(&self) -> u64 {
        let kept: Vec<NarHash> = self.0.state.lock().kept.keys().copied().collect();
        kept.into_iter().map(|nar| self.give_up(nar)).sum()
    }
}

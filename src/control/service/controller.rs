//! The service as it is controlled: the rooms, and what is under way in their midst.

use super::state::{Reloader, ServiceInfo, StateCell};
use crate::control::{Event, EventKind, EventLog, Jobs};
use crate::copies::Copies;
use crate::fetch::Fetcher;
use crate::http::{Drain, Share};
use crate::index::Index;
use crate::keys::{SigningKeys, TrustList};
use crate::metrics::{self, HttpMetrics};
use crate::peers::Peers;
use crate::sites::Sites;
use crate::store::{Pins, Store};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many paths are looked for at once on behalf of people: each asks all peers and upstreams.
const SURVEYS: usize = 4;
/// How many peers are pinged at once on behalf of people.
const PINGS: usize = 8;
/// How long jobs may take to end, once the service stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The rooms that are controlled.
pub struct Parts {
    /// What is said of the service as a whole.
    pub info: ServiceInfo,
    /// What the service is doing.
    pub state: StateCell,
    /// The other machines.
    pub peers: Peers,
    /// Who of them has what.
    pub index: Index,
    /// The sites that this machine's is joined with.
    pub sites: Option<Sites>,
    /// The room that gets paths.
    pub fetcher: Fetcher,
    /// This machine's store.
    pub store: Store,
    /// What of it is kept.
    pub pins: Pins,
    /// What other members hold of it, and it of theirs; `None` where there are no members.
    pub copies: Option<Copies>,
    /// What it offers.
    pub share: Arc<Share>,
    /// The keys that sign what is built here.
    pub keys: SigningKeys,
    /// The keys that are trusted.
    pub trust: TrustList,
    /// What is counted.
    pub statistics: Arc<metrics::Statistics>,
    /// The same by days.
    pub history: Arc<metrics::History>,
    /// The counters of the faces, by name.
    pub faces: Vec<(&'static str, Arc<HttpMetrics>)>,
    /// Whether new work is taken.
    pub drain: Arc<Drain>,
    /// Who reads the configuration again.
    pub reloader: Reloader,
}

/// The service, as it is controlled. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Controller(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) events: EventLog,
    pub(super) jobs: Jobs,
    pub(super) surveys: Semaphore,
    pub(super) pings: Semaphore,
    /// Lines are measured one after the other: two at once would measure each other.
    pub(super) measuring: Semaphore,
    /// Ends the time limit of the drain.
    pub(super) drain_limit: Mutex<CancellationToken>,
    /// Jobs, and what follows the rooms.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Controller {
    /// Holds the rooms, and does nothing yet.
    pub(super) fn hold(parts: Parts) -> Self {
        let events = EventLog::default();
        Self(Arc::new(Inner {
            surveys: Semaphore::new(SURVEYS),
            pings: Semaphore::new(PINGS),
            measuring: Semaphore::new(1),
            jobs: Jobs::new(events.clone()),
            events,
            drain_limit: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            parts,
        }))
    }

    /// Lets no job begin any more, and ends those that run.
    pub fn end_jobs(&self) {
        self.0.jobs.close();
    }

    /// Ends what is left, and waits a moment until it has.
    pub async fn shutdown(&self) {
        self.0.jobs.close();
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.0.tasks.wait()).await.is_err() {
            log::warn!("not every job ended within {} s", SHUTDOWN_LIMIT.as_secs());
        }
    }

    /// The events, for those who tell of what happens elsewhere.
    #[must_use]
    pub fn event_log(&self) -> &EventLog {
        &self.0.events
    }

    pub(super) fn tell(&self, event: Event) {
        self.0.events.tell(event);
    }

    pub(super) fn set_draining(&self, draining: bool) -> bool {
        let changed = self.0.parts.drain.set(draining);
        if changed {
            self.0.parts.state.draining(draining);
            let to = if draining { "draining" } else { "running" };
            self.tell(Event { to: Some(to.to_owned()), ..Event::new(EventKind::DrainChanged) });
        }
        changed
    }

    /// Ends the time limit of an earlier drain; gives the token of a new one.
    pub(super) fn new_drain_limit(&self) -> CancellationToken {
        let mut limit = self.0.drain_limit.lock();
        limit.cancel();
        *limit = self.0.stop.child_token();
        limit.clone()
    }
}

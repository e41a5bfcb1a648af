//! [`Control`](super::Control) as the service itself does it: each question and each order goes to the room it concerns.

mod describe;
mod follow;
mod keys;
mod peers;
mod state;
mod statistics;
mod store;

pub use state::{Reloader, ServiceInfo, StateCell};

use super::types::{
    EventFilter, GarbageOptions, Job, JobPath, Key, LogLevel, PathReport, Peer, PeerFilter, Pin, PinRequest, Reload,
    Rotation, Statistics, Status, TrustedKey,
};
use super::{Control, ControlError, ErrorKind, Event, EventKind, EventLog, Events, Jobs, Outcome, Progress};
use crate::fetch::Fetcher;
use crate::http::{Drain, Share};
use crate::keys::{SigningKeys, TrustList};
use crate::metrics::{self, HttpMetrics};
use crate::peers::Peers;
use crate::store::{Pins, Store};
use async_trait::async_trait;
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
    /// The room that gets paths.
    pub fetcher: Fetcher,
    /// This machine's store.
    pub store: Store,
    /// What of it is kept.
    pub pins: Pins,
    /// What it offers.
    pub share: Arc<Share>,
    /// The keys that sign what is built here.
    pub keys: SigningKeys,
    /// The keys that are trusted.
    pub trust: TrustList,
    /// What is counted.
    pub statistics: Arc<metrics::Statistics>,
    /// The counters of the faces, by name.
    pub faces: Vec<(&'static str, Arc<HttpMetrics>)>,
    /// Whether new work is taken.
    pub drain: Arc<Drain>,
    /// Who reads the configuration again.
    pub reloader: Reloader,
}

/// The service, as it is controlled. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Controller(Arc<Inner>);

struct Inner {
    parts: Parts,
    events: EventLog,
    jobs: Jobs,
    surveys: Semaphore,
    pings: Semaphore,
    /// Ends the time limit of the drain.
    drain_limit: Mutex<CancellationToken>,
    /// Jobs, and what follows the rooms.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Controller {
    /// Takes control, and follows what happens in the rooms until [`Self::shutdown`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let events = EventLog::default();
        let controller = Self(Arc::new(Inner {
            surveys: Semaphore::new(SURVEYS),
            pings: Semaphore::new(PINGS),
            jobs: Jobs::new(events.clone()),
            events,
            drain_limit: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            parts,
        }));
        follow::start(&controller);
        controller
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

    fn tell(&self, event: Event) {
        self.0.events.tell(event);
    }

    fn set_draining(&self, draining: bool) -> bool {
        let changed = self.0.parts.drain.set(draining);
        if changed {
            self.0.parts.state.draining(draining);
            let to = if draining { "draining" } else { "running" };
            self.tell(Event { to: Some(to.to_owned()), ..Event::new(EventKind::DrainChanged) });
        }
        changed
    }

    /// Ends the time limit of an earlier drain; gives the token of a new one.
    fn new_drain_limit(&self) -> CancellationToken {
        let mut limit = self.0.drain_limit.lock();
        limit.cancel();
        *limit = self.0.stop.child_token();
        limit.clone()
    }
}

#[async_trait]
impl Control for Controller {
    async fn status(&self) -> Outcome<Status> {
        Ok(describe::status(self).await)
    }

    async fn statistics(&self) -> Outcome<Statistics> {
        Ok(statistics::read(self))
    }

    async fn reset_statistics(&self) -> Outcome<()> {
        statistics::reset(self);
        log::info!("statistics begin anew");
        self.tell(Event::new(EventKind::StatisticsReset));
        Ok(())
    }

    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        let token = self.new_drain_limit();
        let changed = self.set_draining(true);
        if let Some(limit) = limit {
            let controller = self.clone();
            self.0.tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(limit) => {
                        controller.set_draining(false);
                    }
                    () = token.cancelled() => {}
                }
            });
        }
        Ok(changed)
    }

    async fn undrain(&self) -> Outcome<bool> {
        self.new_drain_limit();
        Ok(self.set_draining(false))
    }

    async fn reload(&self) -> Outcome<Reload> {
        let reload = self.0.parts.reloader.reload().await?;
        match &reload.error {
            None => Ok(reload),
            Some(error) => Err(ControlError::new(ErrorKind::ConfigInvalid, error)),
        }
    }

    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(describe::log_level())
    }

    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        describe::set_log_level(level);
        Ok(())
    }

    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        Ok(self.0.events.subscribe(filter))
    }

    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        peers::list(self, &filter)
    }

    async fn peer(&self, peer: &str) -> Outcome<Peer> {
        peers::one(self, peer)
    }

    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        peers::add(self, uri).await
    }

    async fn forget_peer(&self, peer: &str) -> Outcome<bool> {
        peers::forget(self, peer).await
    }

    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool> {
        peers::block(self, peer, reason).await
    }

    async fn unblock_peer(&self, peer: &str) -> Outcome<bool> {
        peers::unblock(self, peer).await
    }

    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        peers::ping(self, peer).await
    }

    async fn refresh_peers(&self) -> Outcome<()> {
        self.0.parts.peers.refresh();
        Ok(())
    }

    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        store::query(self, path).await
    }

    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job> {
        store::prefetch(self, &paths)
    }

    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        store::collect(self, &options)
    }

    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        store::pin(self, request).await
    }

    async fn unpin(&self, path: &str) -> Outcome<bool> {
        store::unpin(self, path).await
    }

    async fn pins(&self) -> Outcome<Vec<Pin>> {
        Ok(store::pins(self))
    }

    async fn jobs(&self) -> Outcome<Vec<Job>> {
        Ok(self.0.jobs.list())
    }

    async fn job(&self, id: u64) -> Outcome<Job> {
        self.0.jobs.get(id)
    }

    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        self.0.jobs.paths(id, offset, limit)
    }

    async fn watch_job(&self, id: u64) -> Outcome<Progress> {
        self.0.jobs.watch(id)
    }

    async fn cancel_job(&self, id: u64) -> Outcome<bool> {
        self.0.jobs.cancel(id)
    }

    async fn keys(&self) -> Outcome<Vec<Key>> {
        Ok(keys::list(self))
    }

    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        keys::rotate(self, grace).await
    }

    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        keys::revoke(self, fingerprint, reason).await
    }

    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        Ok(keys::trusted(self))
    }

    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        keys::trust(self, public_key, comment).await
    }

    async fn distrust(&self, key: &str) -> Outcome<bool> {
        keys::distrust(self, key).await
    }
}

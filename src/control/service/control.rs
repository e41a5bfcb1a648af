//! [`Control`] itself, and what sets the service going.

use super::controller::{Controller, Parts};
use super::{describe, fleet, follow, keys, peers, statistics, store};
use crate::control::types::{
    Day, Enrolment, EventFilter, FleetStatus, GarbageOptions, Invitation, Job, JobPath, Key, LogLevel, Measurement,
    PathReport, Peer, PeerFilter, Pin, PinRequest, Reload, Rotation, Statistics, Status, Transfer, TrustedKey,
};
use crate::control::{Control, ControlError, ErrorKind, Event, EventKind, Events, JobUpdates, Outcome};
use async_trait::async_trait;
use std::time::Duration;

impl Controller {
    /// Takes control, and follows what happens in the rooms until [`Self::shutdown`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let controller = Self::hold(parts);
        follow::start(&controller);
        controller
    }
}

#[async_trait]
impl Control for Controller {
    async fn status(&self) -> Outcome<Status> {
        Ok(describe::status(self).await)
    }

    async fn statistics(&self) -> Outcome<Statistics> {
        Ok(statistics::read(self).await)
    }

    async fn transfers(&self) -> Outcome<Vec<Transfer>> {
        Ok(statistics::transfers(self))
    }

    async fn history(&self) -> Outcome<Vec<Day>> {
        Ok(self.0.parts.history.days())
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

    async fn set_offline(&self, offline: bool) -> Outcome<bool> {
        let changed = self.0.parts.fetcher.set_offline(offline);
        if changed && offline {
            log::info!("offline: nobody is asked for anything until `peernixctl offline off`");
        } else if changed {
            log::info!("not offline any more: peers and upstreams are asked again");
        }
        Ok(changed)
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

    async fn measure_peer(&self, peer: &str) -> Outcome<Measurement> {
        peers::measure(self, peer).await
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

    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates> {
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

    async fn fleet(&self) -> Outcome<FleetStatus> {
        Ok(fleet::status(self))
    }

    async fn init_fleet(&self, site: &str) -> Outcome<FleetStatus> {
        fleet::init(self, site).await
    }

    async fn invite_member(&self) -> Outcome<Invitation> {
        fleet::invite(self)
    }

    async fn join_fleet(&self, code: &str, address: Option<&str>) -> Outcome<FleetStatus> {
        fleet::join(self, code, address).await
    }

    async fn enroll_member(&self, enrolment: Enrolment) -> Outcome<String> {
        fleet::enroll(self, enrolment).await
    }

    async fn revoke_member(&self, member: &str) -> Outcome<bool> {
        fleet::revoke(self, member).await
    }
}

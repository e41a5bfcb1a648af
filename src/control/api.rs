//! The trait that both front ends translate, that the service implements and that their clients implement again.

use super::error::Outcome;
use super::types::{
    Day, Enrolment, EventFilter, EventItem, FleetStatus, GarbageOptions, Invitation, Job, JobPath, Key, LogLevel,
    Measurement, PathReport, Peer, PeerFilter, Pin, PinRequest, Reload, Rotation, Statistics, Status, Transfer,
    TrustedKey,
};
use async_trait::async_trait;
use std::time::Duration;

/// Something that goes on telling, one thing after the other. Dropping it ends it on the other side too.
#[async_trait]
pub trait Feed<T>: Send {
    /// The next thing, `None` when there will be no more.
    async fn next(&mut self) -> Option<Outcome<T>>;
}

/// Events as they happen; see [`Control::events`].
pub type Events = Box<dyn Feed<EventItem>>;

/// A job as it goes on; see [`Control::watch_job`].
pub type JobUpdates = Box<dyn Feed<Job>>;

/// Everything that can be asked of the service and done with it.
///
/// What changes something says whether it did: asking for what is so already is no error. Peers are named by their id, by
/// a beginning of it that only one has, or by a name that only one has; paths by their full store path or base name.
#[async_trait]
pub trait Control: Send + Sync {
    /// How the service is.
    async fn status(&self) -> Outcome<Status>;
    /// What it did since its counters were reset.
    async fn statistics(&self) -> Outcome<Statistics>;
    /// The transfers under way, the oldest first; not more than some hundred.
    async fn transfers(&self) -> Outcome<Vec<Transfer>>;
    /// What it did, day by day, the oldest first; over resets of the counters, and over restarts.
    async fn history(&self) -> Outcome<Vec<Day>>;
    /// Begins to count anew. Prometheus's counters go on.
    async fn reset_statistics(&self) -> Outcome<()>;
    /// Takes no new work, so that Nix and peers turn to others; what is under way goes on. With a `limit` it ends by itself
    /// after that time. True if it was not so already.
    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool>;
    /// Takes new work again. True if it did not.
    async fn undrain(&self) -> Outcome<bool>;
    /// Asks nobody for anything from now on, so that what is not here is missed at once, or asks again; until the service ends. What is under
    /// way goes on, and others are answered as ever. True if it was not so already.
    async fn set_offline(&self, offline: bool) -> Outcome<bool>;
    /// Reads the configuration again. With a bad one everything stays as it is, and the error says what is wrong with it.
    async fn reload(&self) -> Outcome<Reload>;
    /// What is logged.
    async fn log_level(&self) -> Outcome<LogLevel>;
    /// Logs this from now on, until the service ends or reads its configuration again.
    async fn set_log_level(&self, level: LogLevel) -> Outcome<()>;
    /// Events from now on, or from an earlier one on. The first item is [`EventItem::Ready`]: nothing after it is missed.
    async fn events(&self, filter: EventFilter) -> Outcome<Events>;

    /// The peers that match.
    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>>;
    /// One peer.
    async fn peer(&self, peer: &str) -> Outcome<Peer>;
    /// Looks for a peer at `HOST:PORT` or `NODEID@HOST:PORT` from now on, also after a restart.
    async fn add_peer(&self, uri: &str) -> Outcome<bool>;
    /// Drops a peer and what is remembered of it. One that announces itself, or is configured, comes back.
    async fn forget_peer(&self, peer: &str) -> Outcome<bool>;
    /// Has nothing to do with a peer until it is unblocked.
    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool>;
    /// Lifts a block, and a ban that the service pronounced itself.
    async fn unblock_peer(&self, peer: &str) -> Outcome<bool>;
    /// How long a peer takes to answer a greeting.
    async fn ping_peer(&self, peer: &str) -> Outcome<Duration>;
    /// How fast the line to a peer is: has it send as fast as it can for some seconds.
    async fn measure_peer(&self, peer: &str) -> Outcome<Measurement>;
    /// Looks at every peer now, and around for new ones.
    async fn refresh_peers(&self) -> Outcome<()>;

    /// Who has a path, and whether this machine would serve it, to whom, or why not.
    async fn query_path(&self, path: &str) -> Outcome<PathReport>;
    /// Gets paths with all that they refer to into this store, through the Nix daemon.
    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job>;
    /// Deletes what nothing needs from the store, through the Nix daemon, and drops the service's own caches.
    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job>;
    /// Keeps a path from being collected.
    async fn pin(&self, request: PinRequest) -> Outcome<bool>;
    /// Lets a path be collected again.
    async fn unpin(&self, path: &str) -> Outcome<bool>;
    /// What is pinned.
    async fn pins(&self) -> Outcome<Vec<Pin>>;

    /// Jobs that run or ended lately, the oldest first.
    async fn jobs(&self) -> Outcome<Vec<Job>>;
    /// One job.
    async fn job(&self, id: u64) -> Outcome<Job>;
    /// The paths that a job dealt with so far, from the `offset`th on, at most `limit`.
    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>>;
    /// A job as it goes on; the last item is its end.
    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates>;
    /// Ends a job before its time. True if it still ran.
    async fn cancel_job(&self, id: u64) -> Outcome<bool>;

    /// The keys that sign, signed, or must not sign any more what is built here.
    async fn keys(&self) -> Outcome<Vec<Key>>;
    /// Makes a new key that signs from now on; the one before goes on beside it for the time of `grace`.
    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation>;
    /// Never signs with a key again.
    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool>;
    /// The keys whose signatures let a path in, and those that were distrusted.
    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>>;
    /// Lets in what a key (`NAME:BASE64`) signed.
    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool>;
    /// Does not let in any more what a key, named by its text or its name, signed.
    async fn distrust(&self, key: &str) -> Outcome<bool>;

    /// What is known of the fleet of this machine.
    async fn fleet(&self) -> Outcome<FleetStatus>;
    /// Founds a fleet, of which this machine is the first member and has the key.
    async fn init_fleet(&self, site: &str) -> Outcome<FleetStatus>;
    /// Makes a code that lets one machine in, for a minute.
    async fn invite_member(&self) -> Outcome<Invitation>;
    /// Joins a fleet by a code, of the machine at `address` or of whichever known one invites by it; or by a membership.
    async fn join_fleet(&self, code: &str, address: Option<&str>) -> Outcome<FleetStatus>;
    /// Makes a membership for a machine, to be carried there.
    async fn enroll_member(&self, enrolment: Enrolment) -> Outcome<String>;
    /// Ends the membership of a machine.
    async fn revoke_member(&self, member: &str) -> Outcome<bool>;
}

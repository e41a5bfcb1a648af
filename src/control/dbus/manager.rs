//! `org.peernix.Peernix1.Manager`: the service as a whole, and what can be done with it.
//!
//! Longer than other files, for an interface is one block to zbus; each method in it only translates.

use super::access::Callers;
use super::dict::{Dict, to_dict, to_dicts};
use super::errors::Failure;
use super::model::{Model, job_path, key_path, none, peer_path, texts};
use super::objects::Objects;
use super::options::{Options, text};
use super::subscribers::Subscribers;
use crate::control::{
    ErrorKind, EventFilter, EventItem, EventKind, GarbageOptions, LogLevel, PeerFilter, PinRequest, ServiceState,
    microseconds,
};
use std::sync::Arc;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

/// The most paths in one call.
const PATHS_MAX: usize = crate::store::PREFETCH_MAX;

/// The service as a whole.
pub(super) struct Manager {
    pub(super) model: Arc<Model>,
    pub(super) callers: Callers,
    pub(super) objects: Objects,
    pub(super) subscribers: Subscribers,
}

/// What lets a call in: see [`Callers::enter`].
macro_rules! enter {
    ($self:ident, $connection:ident, $header:ident, $method:literal) => {
        $self.callers.enter($connection, &$header, "Manager", $method).await?
    };
}

/// The service as a whole. Times are in microseconds since 1970, durations in microseconds, sizes in bytes. Dictionaries hold what the
/// service's types hold; what is not known is left out. Options that are not known are refused.
#[interface(name = "org.peernix.Peernix1.Manager")]
impl Manager {
    /// How the service is, in one dictionary.
    #[zbus(out_args("status"))]
    async fn get_status(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Dict, Failure> {
        let _call = enter!(self, connection, header, "GetStatus");
        Ok(to_dict(&self.model.control.status().await?)?)
    }

    /// Everything that the service knows of itself, as JSON: for people and bug reports.
    #[zbus(out_args("json"))]
    async fn describe(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, Failure> {
        let _call = enter!(self, connection, header, "Describe");
        let control = &self.model.control;
        let all = serde_json::json!({
            "status": control.status().await?,
            "statistics": control.statistics().await?,
            "peers": control.peers(PeerFilter::default()).await?,
            "keys": control.keys().await?,
            "trustedKeys": control.trusted_keys().await?,
            "pins": control.pins().await?,
            "jobs": control.jobs().await?,
        });
        Ok(all.to_string())
    }

    /// What the service did since its counters were reset.
    #[zbus(out_args("statistics"))]
    async fn get_statistics(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Dict, Failure> {
        let _call = enter!(self, connection, header, "GetStatistics");
        Ok(to_dict(&self.model.control.statistics().await?)?)
    }

    /// Begins to count anew.
    async fn reset_statistics(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "ResetStatistics");
        Ok(self.model.control.reset_statistics().await?)
    }

    /// Takes no new work; what is under way goes on. Option LimitUSec (t): for how long. True if it was not so already.
    #[zbus(out_args("changed"))]
    async fn drain(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        let mut options = Options::new(options);
        let limit = options.duration("LimitUSec")?;
        options.end()?;
        let _call = enter!(self, connection, header, "Drain");
        Ok(self.model.control.drain(limit).await?)
    }

    /// Takes new work again. True if it did not.
    #[zbus(out_args("changed"))]
    async fn undrain(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "Undrain");
        Ok(self.model.control.undrain().await?)
    }

    /// Reads the configuration again. With a bad one everything stays as it is, and the error says what is wrong with it.
    #[zbus(out_args("result"))]
    async fn reload(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Dict, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "Reload");
        let reload = self.model.control.reload().await;
        self.model.hint.notify_one();
        Ok(to_dict(&reload?)?)
    }

    /// Logs this from now on: error, warning, info, debug or trace.
    async fn set_log_level(
        &self,
        level: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Failure> {
        Options::none(options)?;
        let level: LogLevel = level.parse()?;
        let _call = enter!(self, connection, header, "SetLogLevel");
        let set = self.model.control.set_log_level(level).await;
        self.model.hint.notify_one();
        Ok(set?)
    }

    /// Sends Event and EventsDropped to this connection from now on. Options: Kinds (as), only these; After (t), also those
    /// after this cursor that are still kept. The newest cursor by now. A subscriber must answer org.freedesktop.DBus.Peer.Ping:
    /// it gets some hundred events, and more once it has.
    #[zbus(out_args("cursor"))]
    async fn subscribe(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u64, Failure> {
        let mut options = Options::new(options);
        let kinds = options.words("Kinds")?;
        let kinds = kinds.iter().map(|kind| kind.parse()).collect::<Result<Vec<EventKind>, _>>()?;
        let after = options.number("After")?;
        options.end()?;
        let _call = enter!(self, connection, header, "Subscribe");
        let sender = header.sender().ok_or_else(|| Failure::new(ErrorKind::Failed, "nobody knows who calls"))?;
        let mut events = self.model.control.events(EventFilter { kinds, after }).await?;
        let Some(Ok(EventItem::Ready { cursor })) = events.next().await else {
            return Err(Failure::new(ErrorKind::Failed, "there are no events any more"));
        };
        self.subscribers.add(connection, sender, events).await?;
        Ok(cursor)
    }

    /// Sends no more events to this connection.
    async fn unsubscribe(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Failure> {
        let _call = enter!(self, connection, header, "Unsubscribe");
        if let Some(sender) = header.sender() {
            self.subscribers.remove(sender);
        }
        Ok(())
    }

    /// The peers, with their objects. Filter: Id (s), State (s).
    #[zbus(out_args("peers"))]
    async fn list_peers(
        &self,
        filter: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(OwnedObjectPath, Dict)>, Failure> {
        let mut filter = Options::new(filter);
        let wanted = PeerFilter { id: filter.word("Id")?, state: filter.word("State")? };
        filter.end()?;
        let _call = enter!(self, connection, header, "ListPeers");
        let peers = self.model.control.peers(wanted).await?;
        peers.iter().map(|peer| Ok((peer_path(&peer.id), to_dict(peer)?))).collect()
    }

    /// One peer by its id, a beginning of that, or its name.
    #[zbus(out_args("object", "peer"))]
    async fn get_peer(
        &self,
        peer: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, Dict), Failure> {
        let _call = enter!(self, connection, header, "GetPeer");
        let peer = self.model.control.peer(text(peer)?).await?;
        self.objects.show_peer(connection, &peer).await;
        Ok((peer_path(&peer.id), to_dict(&peer)?))
    }

    /// Looks for a peer at HOST:PORT or NODEID@HOST:PORT from now on, also after a restart. True if it did not already.
    #[zbus(out_args("changed"))]
    async fn add_peer(
        &self,
        uri: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "AddPeer");
        Ok(self.model.control.add_peer(text(uri)?).await?)
    }

    /// Drops a peer and what is remembered of it.
    #[zbus(out_args("changed"))]
    async fn forget_peer(
        &self,
        peer: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "ForgetPeer");
        Ok(self.model.control.forget_peer(text(peer)?).await?)
    }

    /// Has nothing to do with a peer until it is unblocked.
    #[zbus(out_args("changed"))]
    async fn block_peer(
        &self,
        peer: &str,
        reason: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "BlockPeer");
        Ok(self.model.control.block_peer(text(peer)?, text(reason)?).await?)
    }

    /// Lifts a block, and a ban that the service pronounced itself.
    #[zbus(out_args("changed"))]
    async fn unblock_peer(
        &self,
        peer: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "UnblockPeer");
        Ok(self.model.control.unblock_peer(text(peer)?).await?)
    }

    /// How long a peer takes to answer a greeting.
    #[zbus(out_args("round_trip_usec"))]
    async fn ping_peer(
        &self,
        peer: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u64, Failure> {
        let _call = enter!(self, connection, header, "PingPeer");
        Ok(microseconds(self.model.control.ping_peer(text(peer)?).await?))
    }

    /// Looks at every peer now, and around for new ones.
    async fn refresh(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "Refresh");
        Ok(self.model.control.refresh_peers().await?)
    }

    /// Who has a path, and whether this machine would serve it, to whom, or why not.
    #[zbus(out_args("report"))]
    async fn query_path(
        &self,
        path: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Dict, Failure> {
        let _call = enter!(self, connection, header, "QueryPath");
        Ok(to_dict(&self.model.control.query_path(text(path)?).await?)?)
    }

    /// Gets paths with all that they refer to into the store. The job that does it.
    #[zbus(out_args("job"))]
    async fn prefetch(
        &self,
        paths: Vec<String>,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Failure> {
        Options::none(options)?;
        if paths.len() > PATHS_MAX {
            let message = format!("{} paths are too many for one call: {PATHS_MAX} are allowed", paths.len());
            return Err(Failure::new(ErrorKind::LimitExceeded, message));
        }
        for path in &paths {
            text(path)?;
        }
        let _call = enter!(self, connection, header, "Prefetch");
        let job = self.model.control.prefetch(paths).await?;
        self.objects.show_job(connection, &job).await;
        Ok(job_path(job.id))
    }

    /// Deletes what nothing needs from the store. Options: DryRun (b), MaxFreed (t), OlderThanUSec (t). The job that does it.
    #[zbus(out_args("job"))]
    async fn collect_garbage(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, Failure> {
        let mut options = Options::new(options);
        let wanted = GarbageOptions {
            dry_run: options.flag("DryRun")?,
            max_freed: options.number("MaxFreed")?,
            older_than_usec: options.number("OlderThanUSec")?,
        };
        options.end()?;
        let _call = enter!(self, connection, header, "CollectGarbage");
        let job = self.model.control.collect_garbage(wanted).await?;
        self.objects.show_job(connection, &job).await;
        Ok(job_path(job.id))
    }

    /// Keeps a path from being collected. Options: Reason (s), UntilTimestamp (t). True if it was not kept like this already.
    #[zbus(out_args("changed"))]
    async fn pin(
        &self,
        path: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        let mut options = Options::new(options);
        let request = PinRequest {
            path: text(path)?.to_owned(),
            reason: options.word("Reason")?,
            until_timestamp: options.number("UntilTimestamp")?,
        };
        options.end()?;
        let _call = enter!(self, connection, header, "Pin");
        Ok(self.model.control.pin(request).await?)
    }

    /// Lets a path be collected again.
    #[zbus(out_args("changed"))]
    async fn unpin(
        &self,
        path: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "Unpin");
        Ok(self.model.control.unpin(text(path)?).await?)
    }

    /// What is pinned.
    #[zbus(out_args("pins"))]
    async fn list_pins(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, Failure> {
        let _call = enter!(self, connection, header, "ListPins");
        Ok(to_dicts(&self.model.control.pins().await?)?)
    }

    /// Jobs that run or ended lately, with their objects, the oldest first.
    #[zbus(out_args("jobs"))]
    async fn list_jobs(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(OwnedObjectPath, Dict)>, Failure> {
        let _call = enter!(self, connection, header, "ListJobs");
        let jobs = self.model.control.jobs().await?;
        jobs.iter().map(|job| Ok((job_path(job.id), to_dict(job)?))).collect()
    }

    /// One job by its number.
    #[zbus(out_args("object", "job"))]
    async fn get_job(
        &self,
        id: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, Dict), Failure> {
        let _call = enter!(self, connection, header, "GetJob");
        let job = self.model.control.job(id).await?;
        self.objects.show_job(connection, &job).await;
        Ok((job_path(job.id), to_dict(&job)?))
    }

    /// The keys that sign, signed, or must not sign any more what is built here, with their objects.
    #[zbus(out_args("keys"))]
    async fn list_keys(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<(OwnedObjectPath, Dict)>, Failure> {
        let _call = enter!(self, connection, header, "ListKeys");
        let keys = self.model.control.keys().await?;
        keys.iter().map(|key| Ok((key_path(&key.fingerprint), to_dict(key)?))).collect()
    }

    /// Makes a new key that signs from now on. Option GraceUSec (t): how long the one before goes on beside it. The new key, and
    /// in `rotation` both: Old (a{sv}), New (a{sv}).
    #[zbus(out_args("key", "rotation"))]
    async fn rotate_key(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, Dict), Failure> {
        let mut options = Options::new(options);
        let grace = options.duration("GraceUSec")?;
        options.end()?;
        let _call = enter!(self, connection, header, "RotateKey");
        let rotation = self.model.control.rotate_key(grace).await?;
        self.objects.show_key(connection, &rotation.new).await;
        Ok((key_path(&rotation.new.fingerprint), to_dict(&rotation)?))
    }

    /// Never signs with a key again.
    #[zbus(out_args("changed"))]
    async fn revoke_key(
        &self,
        fingerprint: &str,
        reason: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "RevokeKey");
        Ok(self.model.control.revoke_key(text(fingerprint)?, text(reason)?).await?)
    }

    /// The keys whose signatures let a path in, and those that were distrusted.
    #[zbus(out_args("keys"))]
    async fn list_trusted(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, Failure> {
        let _call = enter!(self, connection, header, "ListTrusted");
        Ok(to_dicts(&self.model.control.trusted_keys().await?)?)
    }

    /// Lets in what a key (NAME:BASE64) signed. Option Comment (s).
    #[zbus(out_args("changed"))]
    async fn trust(
        &self,
        public_key: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        let mut options = Options::new(options);
        let comment = options.word("Comment")?.unwrap_or_default();
        options.end()?;
        let _call = enter!(self, connection, header, "Trust");
        Ok(self.model.control.trust(text(public_key)?, &comment).await?)
    }

    /// Does not let in any more what a key, by its text or its name, signed.
    #[zbus(out_args("changed"))]
    async fn distrust(
        &self,
        key: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = enter!(self, connection, header, "Distrust");
        Ok(self.model.control.distrust(text(key)?).await?)
    }

    /// The version of the service.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.model.view().status.version.clone()
    }

    /// What this build can do, in words.
    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<String> {
        texts(&self.model.view().status.features)
    }

    /// The identity of this machine.
    #[zbus(property(emits_changed_signal = "const"))]
    fn node_id(&self) -> String {
        self.model.view().status.node_id.clone()
    }

    /// The name of this machine.
    #[zbus(property(emits_changed_signal = "const"))]
    fn host_name(&self) -> String {
        super::dict::text(&self.model.view().status.host_name)
    }

    /// The store directory.
    #[zbus(property(emits_changed_signal = "const"))]
    fn store_dir(&self) -> String {
        super::dict::text(&self.model.view().status.store_dir)
    }

    /// When the service started.
    #[zbus(property(emits_changed_signal = "const"))]
    fn start_timestamp(&self) -> u64 {
        self.model.view().status.start_timestamp
    }

    /// How far the service has locked itself in, in words.
    #[zbus(property(emits_changed_signal = "const"))]
    fn sandbox(&self) -> String {
        super::dict::text(&self.model.view().status.sandbox)
    }

    /// starting, running, degraded, draining, reloading or stopping.
    #[zbus(property)]
    fn state(&self) -> String {
        self.model.view().status.state.to_string()
    }

    /// Whether it takes no new work.
    #[zbus(property)]
    fn draining(&self) -> bool {
        self.model.view().status.state == ServiceState::Draining
    }

    /// What is missing, one sentence each.
    #[zbus(property)]
    fn problems(&self) -> Vec<String> {
        texts(&self.model.view().status.problems)
    }

    /// Where it listens: a face (gateway, share, plain), a space, and an address.
    #[zbus(property)]
    fn listen(&self) -> Vec<String> {
        self.model.view().listen()
    }

    /// The peers that are known.
    #[zbus(property)]
    fn peers_known(&self) -> u32 {
        self.model.view().status.peers_known
    }

    /// The peers that can be asked.
    #[zbus(property)]
    fn peers_online(&self) -> u32 {
        self.model.view().status.peers_online
    }

    /// What is shared: off, signed or signed+own.
    #[zbus(property)]
    fn share_policy(&self) -> String {
        super::dict::text(&self.model.view().status.share_policy)
    }

    /// The key that signs what is built here, / if there is none.
    #[zbus(property)]
    fn active_key(&self) -> OwnedObjectPath {
        self.model.view().active_key()
    }

    /// When the configuration was read again, 0 if never.
    #[zbus(property)]
    fn last_reload_timestamp(&self) -> u64 {
        self.model.view().last_reload().0
    }

    /// What came of that: none, success, or what is wrong with it.
    #[zbus(property)]
    fn last_reload_result(&self) -> String {
        self.model.view().last_reload().1
    }

    /// What is logged: error, warning, info, debug or trace.
    #[zbus(property)]
    fn log_level(&self) -> String {
        self.model.view().status.log_level.to_string()
    }

    /// Jobs that run or ended lately.
    #[zbus(property)]
    fn jobs(&self) -> Vec<OwnedObjectPath> {
        self.model.view().job_paths()
    }

    /// Transfers under way.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn transfers(&self) -> u32 {
        self.model.fresh().await.status.transfers
    }

    /// Requests answered.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn requests_served(&self) -> u64 {
        self.model.fresh().await.statistics.faces.iter().map(|face| face.requests).sum()
    }

    /// Bytes of answers given to the network.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_served(&self) -> u64 {
        self.model.fresh().await.statistics.faces.iter().map(|face| face.bytes_served).sum()
    }

    /// Bytes that came from peers.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_from_peers(&self) -> u64 {
        self.model.fresh().await.statistics.bytes_from_peers
    }

    /// Bytes that came from the Internet.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_from_upstreams(&self) -> u64 {
        self.model.fresh().await.statistics.bytes_from_upstreams
    }

    /// A peer is new.
    #[zbus(signal)]
    pub(super) async fn peer_added(emitter: &SignalEmitter<'_>, id: &str, peer: ObjectPath<'_>) -> zbus::Result<()>;
    /// A peer was dropped.
    #[zbus(signal)]
    pub(super) async fn peer_removed(
        emitter: &SignalEmitter<'_>,
        id: &str,
        peer: ObjectPath<'_>,
        reason: &str,
    ) -> zbus::Result<()>;
    /// A peer went from one state to another.
    #[zbus(signal)]
    pub(super) async fn peer_state_changed(
        emitter: &SignalEmitter<'_>,
        id: &str,
        name: &str,
        from: &str,
        to: &str,
    ) -> zbus::Result<()>;
    /// There is nothing to do with a peer any more.
    #[zbus(signal)]
    pub(super) async fn peer_blocked(
        emitter: &SignalEmitter<'_>,
        id: &str,
        name: &str,
        reason: &str,
    ) -> zbus::Result<()>;
    /// There may be something to do with a peer again.
    #[zbus(signal)]
    pub(super) async fn peer_unblocked(emitter: &SignalEmitter<'_>, id: &str, name: &str) -> zbus::Result<()>;
    /// Somebody sent what was not what was signed.
    #[zbus(signal)]
    pub(super) async fn trust_violation(
        emitter: &SignalEmitter<'_>,
        peer: &str,
        name: &str,
        path: &str,
        reason: &str,
    ) -> zbus::Result<()>;
    /// Another key signs; / if none did before.
    #[zbus(signal)]
    pub(super) async fn key_rotated(
        emitter: &SignalEmitter<'_>,
        old: ObjectPath<'_>,
        new: ObjectPath<'_>,
    ) -> zbus::Result<()>;
    /// A key must not sign any more.
    #[zbus(signal)]
    pub(super) async fn key_revoked(emitter: &SignalEmitter<'_>, name: &str, reason: &str) -> zbus::Result<()>;
    /// The list of trusted keys changed.
    #[zbus(signal)]
    pub(super) async fn trust_changed(emitter: &SignalEmitter<'_>, name: &str) -> zbus::Result<()>;
    /// The configuration was read again; if that went wrong, with the reason.
    #[zbus(signal)]
    pub(super) async fn reloaded(emitter: &SignalEmitter<'_>, success: bool, error: &str) -> zbus::Result<()>;
    /// The service takes no new work, or takes it again.
    #[zbus(signal)]
    pub(super) async fn drain_changed(emitter: &SignalEmitter<'_>, draining: bool) -> zbus::Result<()>;
    /// Garbage was collected: so many bytes, by this job.
    #[zbus(signal)]
    pub(super) async fn garbage_collected(
        emitter: &SignalEmitter<'_>,
        freed: u64,
        job: ObjectPath<'_>,
    ) -> zbus::Result<()>;
    /// A path was pinned or unpinned.
    #[zbus(signal)]
    pub(super) async fn pin_changed(emitter: &SignalEmitter<'_>, path: &str, change: &str) -> zbus::Result<()>;
    /// The counters began anew.
    #[zbus(signal)]
    pub(super) async fn statistics_reset(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
    /// A job began.
    #[zbus(signal)]
    pub(super) async fn job_started(
        emitter: &SignalEmitter<'_>,
        id: u64,
        job: ObjectPath<'_>,
        kind: &str,
    ) -> zbus::Result<()>;
    /// A job ended: done, failed or cancelled. Its object stays for a while.
    #[zbus(signal)]
    pub(super) async fn job_finished(
        emitter: &SignalEmitter<'_>,
        id: u64,
        job: ObjectPath<'_>,
        state: &str,
    ) -> zbus::Result<()>;
    /// Something happened. Only for those who called Subscribe.
    #[zbus(signal)]
    pub(super) async fn event(emitter: &SignalEmitter<'_>, event: Dict) -> zbus::Result<()>;
    /// The subscriber was too slow, and this many events are gone. Only for those who called Subscribe.
    #[zbus(signal)]
    pub(super) async fn events_dropped(emitter: &SignalEmitter<'_>, count: u64) -> zbus::Result<()>;
}

/// The object of a key in an event, `/` if there is none.
pub(super) fn key_or_none(fingerprint: Option<&str>) -> OwnedObjectPath {
    fingerprint.map_or_else(none, key_path)
}

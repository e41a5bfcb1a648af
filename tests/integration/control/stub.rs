//! A service that is made up: it holds some things in memory, and remembers what was done to it.

use async_trait::async_trait;
use parking_lot::Mutex;
use peernix::control::*;
use std::sync::Arc;
use std::time::Duration;

/// The service.
pub(super) struct Stub {
    pub(super) events: EventLog,
    pub(super) jobs: Jobs,
    pub(super) peers: Mutex<Vec<Peer>>,
    pub(super) state: Mutex<ServiceState>,
    /// The job under way, for the test to go on with.
    pub(super) handle: Mutex<Option<JobHandle>>,
    /// What was done to it.
    pub(super) done: Mutex<Vec<String>>,
}

impl Stub {
    pub(super) fn new() -> Arc<Self> {
        let events = EventLog::default();
        Arc::new(Self {
            jobs: Jobs::new(events.clone()),
            events,
            peers: Mutex::new(vec![peer("aa11", "one"), peer("bb22", "two")]),
            state: Mutex::new(ServiceState::Running),
            handle: Mutex::default(),
            done: Mutex::default(),
        })
    }

    pub(super) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock())
    }

    fn did(&self, what: String) -> Outcome<bool> {
        self.done.lock().push(what);
        Ok(true)
    }

    fn begin(&self, kind: JobKind, dry_run: bool) -> Outcome<Job> {
        let handle = self.jobs.begin(kind, dry_run)?;
        let job = handle.view();
        *self.handle.lock() = Some(handle);
        Ok(job)
    }
}

pub(super) fn peer(id: &str, name: &str) -> Peer {
    Peer {
        id: id.into(),
        name: name.into(),
        version: "0.1".into(),
        addresses: vec!["192.0.2.1:7650".into()],
        source: "mdns".into(),
        state: "online".into(),
        audience: "anyone".into(),
        added: false,
        blocked: Some(Blocked { reason: "r".into(), until_timestamp: Some(1) }),
        first_seen_timestamp: Some(1),
        last_seen_timestamp: None,
        latency_usec: Some(250),
        throughput: None,
        bytes_in: 7,
        bytes_out: 8,
        failures: 1,
        score: 0.5,
    }
}

pub(super) fn key(name: &str) -> Key {
    Key {
        fingerprint: format!("f{name}"),
        name: name.into(),
        public_key: format!("{name}:x"),
        algorithm: "ed25519".into(),
        state: KeyState::Active,
        created_timestamp: None,
        expires_timestamp: Some(1),
        managed: Managed::State,
    }
}

#[async_trait]
impl Control for Stub {
    async fn status(&self) -> Outcome<Status> {
        Ok(Status {
            version: "0.1".into(),
            features: vec!["mdns".into()],
            node_id: "n".into(),
            host_name: "h".into(),
            store_dir: "/nix/store".into(),
            state: *self.state.lock(),
            problems: vec![],
            start_timestamp: 1,
            listen: Listen { gateway: Some("127.0.0.1:7649".into()), share: None, plain: None },
            peers_known: 2,
            peers_online: 2,
            transfers: 3,
            jobs_running: 0,
            share_policy: "signed".into(),
            active_key: Some("fk".into()),
            configuration: None,
            last_reload: Some(Reload {
                timestamp: 5,
                success: false,
                error: Some("no".into()),
                restart_needed: vec![],
            }),
            log_level: LogLevel::Info,
            sandbox: "all".into(),
        })
    }
    async fn statistics(&self) -> Outcome<Statistics> {
        Ok(Statistics {
            since_timestamp: 1,
            faces: vec![Face { name: "share".into(), requests: 4, bytes_served: 5, connections: 0 }],
            lookups: Lookups::default(),
            hit_rate: Some(0.25),
            transfers: TransferCounts::default(),
            bytes_from_peers: 6,
            bytes_from_upstreams: 7,
            sources: vec![],
            verification_failures: 0,
            peers_banned: 0,
        })
    }
    async fn reset_statistics(&self) -> Outcome<()> {
        self.did("reset".into()).map(drop)
    }
    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        *self.state.lock() = ServiceState::Draining;
        self.events.tell(Event { to: Some("draining".to_owned()), ..Event::new(EventKind::DrainChanged) });
        self.did(format!("drain {limit:?}"))
    }
    async fn undrain(&self) -> Outcome<bool> {
        self.did("undrain".into())
    }
    async fn reload(&self) -> Outcome<Reload> {
        self.did("reload".into())?;
        Err(ControlError::new(ErrorKind::ConfigInvalid, "line 3 makes no sense"))
    }
    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(LogLevel::Info)
    }
    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        self.did(format!("log {level}")).map(drop)
    }
    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        Ok(self.events.subscribe(filter))
    }
    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        let mut peers = self.peers.lock().clone();
        peers.retain(|peer| filter.state.as_ref().is_none_or(|state| *state == peer.state));
        Ok(peers)
    }
    async fn peer(&self, id: &str) -> Outcome<Peer> {
        let peers = self.peers.lock();
        let found = peers.iter().find(|peer| peer.id == id || peer.name == id).cloned();
        found.ok_or_else(|| ControlError::new(ErrorKind::NoSuchPeer, format!("no peer {id}")))
    }
    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        self.did(format!("add {uri}"))
    }
    async fn forget_peer(&self, peer: &str) -> Outcome<bool> {
        self.did(format!("forget {peer}"))
    }
    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool> {
        self.did(format!("block {peer} {reason}"))
    }
    async fn unblock_peer(&self, peer: &str) -> Outcome<bool> {
        self.did(format!("unblock {peer}"))
    }
    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        self.peer(peer).await.map(|_| Duration::from_micros(1500))
    }
    async fn refresh_peers(&self) -> Outcome<()> {
        self.did("refresh".into()).map(drop)
    }
    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        let sharing = Sharing { audience: "anyone".into(), served: false, reason: Some("unsigned".into()) };
        Ok(PathReport {
            path: path.into(),
            valid: true,
            nar_hash: Some("sha256:x".into()),
            nar_size: Some(9),
            references: vec![],
            signed_by: vec!["k".into()],
            built_here: true,
            pinned: false,
            sharing: vec![sharing],
            sources: vec![],
        })
    }
    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job> {
        self.did(format!("prefetch {paths:?}"))?;
        self.begin(JobKind::Prefetch, false)
    }
    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        self.did(format!("gc {:?} {:?}", options.max_freed, options.older_than_usec))?;
        self.begin(JobKind::GarbageCollection, options.dry_run)
    }
    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        self.did(format!("pin {} {:?} {:?}", request.path, request.reason, request.until_timestamp))
    }
    async fn unpin(&self, path: &str) -> Outcome<bool> {
        self.did(format!("unpin {path}"))
    }
    async fn pins(&self) -> Outcome<Vec<Pin>> {
        Ok(vec![Pin { path: "p".into(), reason: String::new(), since_timestamp: 1, until_timestamp: None }])
    }
    async fn jobs(&self) -> Outcome<Vec<Job>> {
        Ok(self.jobs.list())
    }
    async fn job(&self, id: u64) -> Outcome<Job> {
        self.jobs.get(id)
    }
    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        self.jobs.paths(id, offset, limit)
    }
    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates> {
        self.jobs.watch(id)
    }
    async fn cancel_job(&self, id: u64) -> Outcome<bool> {
        self.did(format!("cancel {id}"))?;
        self.jobs.cancel(id)
    }
    async fn keys(&self) -> Outcome<Vec<Key>> {
        Ok(vec![key("k")])
    }
    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        self.did(format!("rotate {grace:?}"))?;
        Ok(Rotation { old: Some(key("k")), new: key("l") })
    }
    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        self.did(format!("revoke {fingerprint} {reason}"))
    }
    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        Ok(vec![TrustedKey {
            name: "k".into(),
            public_key: "k:x".into(),
            origin: TrustOrigin::Nix,
            comment: String::new(),
            distrusted: false,
            changed_timestamp: None,
        }])
    }
    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        self.did(format!("trust {public_key} {comment}"))
    }
    async fn distrust(&self, key: &str) -> Outcome<bool> {
        self.did(format!("distrust {key}"))
    }
}

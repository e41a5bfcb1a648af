//! A service that is made up: it answers everything, and remembers what it was asked to do.

use crate::control::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;

pub(super) struct Stub {
    pub(super) events: EventLog,
    pub(super) jobs: Jobs,
    /// The job under way, for the test to go on with.
    pub(super) handle: Mutex<Option<JobHandle>>,
    /// What was done.
    pub(super) done: Mutex<Vec<String>>,
    /// Whether everything that may be left out is.
    pub(super) sparse: AtomicBool,
    /// Queries and pins wait for this.
    pub(super) gate: Semaphore,
    /// Queries under way.
    pub(super) queries: AtomicUsize,
    /// Subscriptions that somebody holds.
    pub(super) subscribers: std::sync::Arc<AtomicUsize>,
}

impl Default for Stub {
    fn default() -> Self {
        let events = EventLog::default();
        Self {
            jobs: Jobs::new(events.clone()),
            events,
            handle: Mutex::default(),
            done: Mutex::default(),
            sparse: AtomicBool::new(false),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            queries: AtomicUsize::new(0),
            subscribers: std::sync::Arc::default(),
        }
    }
}

/// Counts as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct Subscription(Events, std::sync::Arc<AtomicUsize>);

#[async_trait]
impl Feed<EventItem> for Subscription {
    async fn next(&mut self) -> Option<Outcome<EventItem>> {
        self.0.next().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

impl Stub {
    fn did(&self, what: impl Into<String>) {
        self.done.lock().push(what.into());
    }

    fn some<T>(&self, value: T) -> Option<T> {
        (!self.sparse.load(SeqCst)).then_some(value)
    }

    fn list<T>(&self, value: Vec<T>) -> Vec<T> {
        self.some(value).unwrap_or_default()
    }

    pub(super) fn reload_result(&self) -> Reload {
        Reload {
            timestamp: 1,
            success: true,
            error: self.some("none".into()),
            restart_needed: self.list(vec!["share".into()]),
        }
    }

    pub(super) fn a_status(&self) -> Status {
        Status {
            version: "1".into(),
            features: self.list(vec!["mdns".into()]),
            node_id: "n".into(),
            host_name: "h".into(),
            store_dir: "/nix/store".into(),
            state: ServiceState::Degraded,
            problems: self.list(vec!["No.".into()]),
            start_timestamp: 1,
            listen: Listen {
                gateway: self.some("g".into()),
                share: self.some("s".into()),
                plain: self.some("p".into()),
            },
            peers_known: 1,
            peers_online: 1,
            transfers: 1,
            jobs_running: 1,
            share_policy: "signed".into(),
            active_key: self.some("k".into()),
            configuration: self.some("/c".into()),
            last_reload: self.some(self.reload_result()),
            log_level: LogLevel::Info,
            sandbox: "all".into(),
        }
    }

    pub(super) fn some_statistics(&self) -> Statistics {
        let source = SourceBytes { kind: SourceKind::Peer, source: "x".into(), name: self.some("y".into()), bytes: 1 };
        Statistics {
            since_timestamp: 1,
            faces: self.list(vec![Face { name: "share".into(), requests: 1, bytes_served: 1, connections: 1 }]),
            lookups: Lookups::default(),
            hit_rate: self.some(0.5),
            transfers: TransferCounts::default(),
            bytes_from_peers: 1,
            bytes_from_upstreams: 1,
            sources: self.list(vec![source]),
            verification_failures: 0,
            peers_banned: 0,
        }
    }

    pub(super) fn a_peer(&self, id: &str) -> Peer {
        Peer {
            id: id.into(),
            name: "name".into(),
            version: "1".into(),
            addresses: self.list(vec!["192.0.2.1:7650".into()]),
            source: "mdns".into(),
            state: "online".into(),
            audience: "anyone".into(),
            added: false,
            blocked: self.some(Blocked { reason: "r".into(), until_timestamp: Some(1) }),
            first_seen_timestamp: self.some(1),
            last_seen_timestamp: self.some(1),
            latency_usec: self.some(1),
            throughput: self.some(1),
            bytes_in: 1,
            bytes_out: 1,
            failures: 0,
            score: 1.0,
        }
    }

    pub(super) fn a_report(&self, path: &str) -> PathReport {
        let source = PathSource {
            kind: SourceKind::Upstream,
            source: "u".into(),
            name: self.some("n".into()),
            latency_usec: self.some(1),
            compression: "xz".into(),
            file_size: self.some(1),
        };
        PathReport {
            path: path.into(),
            valid: true,
            nar_hash: self.some("sha256:x".into()),
            nar_size: self.some(1),
            references: self.list(vec!["r".into()]),
            signed_by: self.list(vec!["k".into()]),
            built_here: false,
            pinned: false,
            sharing: self.list(vec![Sharing { audience: "anyone".into(), served: false, reason: Some("no".into()) }]),
            sources: self.list(vec![source]),
        }
    }

    pub(super) fn a_key(&self, name: &str) -> Key {
        Key {
            fingerprint: format!("f-{name}"),
            name: name.into(),
            public_key: format!("{name}:x"),
            algorithm: "ed25519".into(),
            state: KeyState::Active,
            created_timestamp: self.some(1),
            expires_timestamp: self.some(1),
            managed: Managed::State,
        }
    }

    fn begin(&self, kind: JobKind, dry_run: bool) -> Outcome<Job> {
        let handle = self.jobs.begin(kind, dry_run)?;
        let job = handle.view();
        *self.handle.lock() = Some(handle);
        Ok(job)
    }
}

fn no(kind: ErrorKind) -> ControlError {
    ControlError::new(kind, format!("no: {kind:?}"))
}

#[async_trait]
impl Control for Stub {
    async fn status(&self) -> Outcome<Status> {
        Ok(self.a_status())
    }
    async fn statistics(&self) -> Outcome<Statistics> {
        Ok(self.some_statistics())
    }
    async fn reset_statistics(&self) -> Outcome<()> {
        self.did("reset");
        Ok(())
    }
    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        self.did(format!("drain {limit:?}"));
        Ok(true)
    }
    async fn undrain(&self) -> Outcome<bool> {
        self.did("undrain");
        Ok(false)
    }
    async fn reload(&self) -> Outcome<Reload> {
        self.did("reload");
        if self.sparse.load(SeqCst) { Err(no(ErrorKind::ConfigInvalid)) } else { Ok(self.reload_result()) }
    }
    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(LogLevel::Info)
    }
    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        self.did(format!("level {level}"));
        Ok(())
    }
    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        self.subscribers.fetch_add(1, SeqCst);
        Ok(Box::new(Subscription(self.events.subscribe(filter), self.subscribers.clone())))
    }
    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        if filter.state.as_deref() == Some("strange") {
            return Err(no(ErrorKind::InvalidArgument));
        }
        Ok(self.list(vec![self.a_peer("a"), self.a_peer("b")]))
    }
    async fn peer(&self, peer: &str) -> Outcome<Peer> {
        match peer {
            "nobody" => Err(no(ErrorKind::NoSuchPeer)),
            // What no peer can be: for the way of errors that the interface does not have.
            "key" => Err(no(ErrorKind::KeyInUse)),
            _ => Ok(self.a_peer(peer)),
        }
    }
    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        self.did(format!("add {uri}"));
        if uri == "x" { Err(no(ErrorKind::InvalidUri)) } else { Ok(true) }
    }
    async fn forget_peer(&self, peer: &str) -> Outcome<bool> {
        self.did(format!("forget {peer}"));
        Ok(true)
    }
    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool> {
        self.did(format!("block {peer} {reason}"));
        Ok(true)
    }
    async fn unblock_peer(&self, peer: &str) -> Outcome<bool> {
        self.did(format!("unblock {peer}"));
        Ok(true)
    }
    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        if peer == "nobody" { Err(no(ErrorKind::PeerUnreachable)) } else { Ok(Duration::from_micros(7)) }
    }
    async fn refresh_peers(&self) -> Outcome<()> {
        self.did("refresh");
        Ok(())
    }
    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        let _counted = Counted::new(&self.queries);
        let _open = self.gate.acquire().await.unwrap();
        if path == "x" { Err(no(ErrorKind::InvalidStorePath)) } else { Ok(self.a_report(path)) }
    }
    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job> {
        self.did(format!("prefetch {}", paths.len()));
        self.begin(JobKind::Prefetch, false)
    }
    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        self.did(format!("gc {options:?}"));
        self.begin(JobKind::GarbageCollection, options.dry_run)
    }
    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        let _open = self.gate.acquire().await.unwrap();
        self.did(format!("pin {request:?}"));
        Ok(true)
    }
    async fn unpin(&self, path: &str) -> Outcome<bool> {
        self.did(format!("unpin {path}"));
        Ok(true)
    }
    async fn pins(&self) -> Outcome<Vec<Pin>> {
        let pin =
            Pin { path: "/nix/store/a-b".into(), reason: "r".into(), since_timestamp: 1, until_timestamp: Some(2) };
        Ok(self.list(vec![pin.clone(), Pin { until_timestamp: None, ..pin }]))
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
        self.jobs.cancel(id)
    }
    async fn keys(&self) -> Outcome<Vec<Key>> {
        Ok(self.list(vec![self.a_key("a"), Key { state: KeyState::Revoked, ..self.a_key("b") }]))
    }
    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        self.did(format!("rotate {grace:?}"));
        Ok(Rotation { old: self.some(self.a_key("a")), new: self.a_key("c") })
    }
    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        self.did(format!("revoke {fingerprint} {reason}"));
        if fingerprint == "used" { Err(no(ErrorKind::KeyInUse)) } else { Ok(true) }
    }
    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        let key = TrustedKey {
            name: "t".into(),
            public_key: "t:x".into(),
            origin: TrustOrigin::Added,
            comment: String::new(),
            distrusted: false,
            changed_timestamp: Some(1),
        };
        Ok(self.list(vec![key]))
    }
    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        self.did(format!("trust {public_key} {comment}"));
        Ok(true)
    }
    async fn distrust(&self, key: &str) -> Outcome<bool> {
        self.did(format!("distrust {key}"));
        Ok(true)
    }
}

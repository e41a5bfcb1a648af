//! A service that is made up: it shows what it is given, remembers what was done to it, and says no where a test wants it to.
//!
//! Unit tests and integration tests include this file, so it takes the names of `control` from whoever does.
#![allow(dead_code, reason = "each test needs a part of it")]

use super::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Semaphore;

/// 2026-11-20 14:03:22 UTC.
pub(crate) const NOW: u64 = 1_795_183_402_000_000;
pub(crate) const MINUTE: u64 = 60_000_000;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;
/// Store paths with names.
pub(crate) const HELLO: &str = "/nix/store/00000000000000000000000000000000-hello-2.12";
pub(crate) const BASH: &str = "/nix/store/11111111111111111111111111111111-bash-5.2";

pub(crate) struct Stub {
    pub(crate) status: Mutex<Status>,
    pub(crate) statistics: Statistics,
    pub(crate) reload: Reload,
    pub(crate) peers: Mutex<Vec<Peer>>,
    pub(crate) ping: Duration,
    /// What is said of its path, and of others but that they are not here.
    pub(crate) report: PathReport,
    pub(crate) pins: Vec<Pin>,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) history: Vec<Day>,
    pub(crate) measurement: Measurement,
    pub(crate) keys: Vec<Key>,
    pub(crate) rotation: Rotation,
    pub(crate) trusted: Vec<TrustedKey>,
    pub(crate) fleet: FleetStatus,
    pub(crate) events: EventLog,
    /// Told instead of those events, if there are any.
    pub(crate) told: Vec<EventItem>,
    pub(crate) jobs: Jobs,
    /// Shown instead of those jobs.
    pub(crate) still: Option<StillJobs>,
    /// The job under way, for the test to go on with.
    pub(crate) handle: Mutex<Option<JobHandle>>,
    /// What was done to it.
    pub(crate) done: Mutex<Vec<String>>,
    /// What it says to something that is asked or done, in the words of `done`.
    pub(crate) says: fn(&Self, &str) -> Outcome<bool>,
    /// Whether everything that may be left out is.
    pub(crate) sparse: AtomicBool,
    /// Queries and pins wait for this.
    pub(crate) gate: Semaphore,
    /// Queries under way.
    pub(crate) queries: Arc<AtomicUsize>,
    /// Subscriptions that somebody holds.
    pub(crate) subscribers: Arc<AtomicUsize>,
}

/// Jobs that stand still.
pub(crate) struct StillJobs {
    pub(crate) listed: Vec<Job>,
    /// One of them as it went on.
    pub(crate) watched: Vec<Job>,
    pub(crate) paths: Vec<JobPath>,
}

pub(crate) fn no<T>(kind: ErrorKind) -> Outcome<T> {
    Err(ControlError::new(kind, format!("no: {kind:?}")))
}

pub(crate) fn peer(id: &str, name: &str, state: &str) -> Peer {
    Peer {
        id: id.to_owned(),
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        addresses: vec!["192.0.2.7:7650".to_owned(), "[2001:db8::7]:7650".to_owned()],
        source: "mdns".to_owned(),
        state: state.to_owned(),
        audience: "anyone".to_owned(),
        added: false,
        blocked: None,
        refused: None,
        first_seen_timestamp: Some(NOW - 3 * DAY),
        last_seen_timestamp: Some(NOW - 90 * MINUTE),
        latency_usec: Some(420),
        throughput: Some(112 << 20),
        bytes_in: 3 << 30,
        bytes_out: 12 << 20,
        failures: 0,
        score: 0.93,
        index_entries: Some(20_123),
        index_timestamp: Some(NOW - MINUTE),
        index_wrong_claims: 2,
    }
}

pub(crate) fn key(fingerprint: &str, name: &str, state: KeyState) -> Key {
    Key {
        fingerprint: fingerprint.to_owned(),
        name: name.to_owned(),
        public_key: format!("{name}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="),
        algorithm: "ed25519".to_owned(),
        state,
        created_timestamp: Some(NOW - 40 * DAY),
        expires_timestamp: (state == KeyState::Grace).then_some(NOW + 30 * DAY),
        managed: Managed::State,
    }
}

/// What is read from JSON, as it is shorter to write.
fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

impl Default for Stub {
    fn default() -> Self {
        let events = EventLog::default();
        let blocked =
            Blocked { reason: "sent what was not signed".to_owned(), until_timestamp: Some(NOW + 10 * MINUTE) };
        let long = |id: &str| id.repeat(52);
        let keys = [("tower-3", KeyState::Active), ("tower-2", KeyState::Grace), ("tower-1", KeyState::Revoked)];
        let keys = keys.map(|(name, state)| key(&format!("{name}0fingerprint"), name, state));
        let key_text = "6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        Self {
            status: Mutex::new(read(json!({
                "version": "0.1.0", "features": ["landlock", "mdns"], "nodeId": long("a"), "hostName": "tower",
                "storeDir": "/nix/store", "state": "degraded", "problems": ["the Nix daemon does not answer"],
                "problemCodes": ["nix-daemon-closed"],
                "startTimestamp": NOW - 192_000_000,
                "listen": { "gateway": "http://127.0.0.1:7649", "share": "[::]:7650" },
                "peersKnown": 4, "peersOnline": 1, "transfers": 2, "jobsRunning": 1, "sharePolicy": "signed", "uploadsPaused": "the connection is metered",
                "site": {
                    "name": "berlin", "gateway": true, "problem": "there is no connection",
                    "others": [{
                        "name": "paris", "gateway": long("b"), "gatewayName": "louvre", "state": "online", "machines": 3, "paths": 12_034,
                        "wrongClaims": 1, "ageUSec": 12_000_000, "latencyUSec": 41_000,
                    }],
                },
                "configuration": "/etc/peernix/config.toml",
                "lastReload": { "timestamp": NOW - MINUTE, "success": true, "restartNeeded": ["share"] },
                "logLevel": "info", "sandbox": "landlock ABI 5",
            }))),
            statistics: read(json!({
                "sinceTimestamp": NOW - DAY,
                "faces": [
                    { "name": "gateway", "requests": 1234, "bytesServed": 5_u64 << 30, "connections": 3 },
                    { "name": "share", "requests": 1234, "bytesServed": 5_u64 << 30, "connections": 3 },
                ],
                "lookups": { "peer": 90, "upstream": 10, "absent": 7, "unknown": 1, "remembered": 40 },
                "hitRate": 0.9,
                "transfers": { "started": 100, "completed": 98, "failed": 1, "joined": 5, "failedOver": 2 },
                "index": {
                    "peers": 3, "entries": 60_000, "offered": 20_000, "updatedTimestamp": NOW - 5_000_000, "updates": 12,
                    "savedRequests": 4321, "wrongClaims": 1,
                },
                "claims": {
                    "granted": 40, "takenOver": 1, "followed": 59, "alone": 0,
                    "siteDownloadedBytes": 2_u64 << 30, "siteUniqueBytes": 2_000_000_000,
                },
                "pieces": { "right": 500, "twice": 3, "wrong": 1 },
                "bytesFromPeers": 12_u64 << 30, "narBytesFromPeers": 18_u64 << 30, "bytesFromUpstreams": 1 << 30,
                "sources": [
                    { "kind": "peer", "source": long("a"), "name": "tower", "bytes": 12_u64 << 30 },
                    { "kind": "upstream", "source": "https://cache.nixos.org", "bytes": 1 << 30 },
                ],
                "verificationFailures": 1, "peersBanned": 1,
                "resources": { "memoryBytes": 22_020_096, "diskFreeBytes": 40_000_000_000_u64, "diskBytes": 100_000_000_000_u64 },
            })),
            reload: Reload { timestamp: NOW, success: true, error: None, restart_needed: vec!["gateway".to_owned()] },
            peers: Mutex::new(vec![
                peer(&long("a"), "tower", "online"),
                Peer { latency_usec: None, throughput: None, ..peer(&long("b"), "Küche 箱", "offline") },
                Peer { blocked: Some(blocked), ..peer(&long("c"), "evil\u{1b}[2J\u{202e}name", "blocked") },
                Peer {
                    version: String::new(),
                    last_seen_timestamp: None,
                    addresses: vec![],
                    ..peer(&long("d"), "", "discovered")
                },
            ]),
            ping: Duration::from_micros(1234),
            report: read(json!({
                "path": HELLO, "valid": true, "narHash": "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
                "narSize": 226_552, "references": [HELLO], "signedBy": ["cache.nixos.org-1"], "builtHere": false,
                "pinned": true,
                "sharing": [
                    { "audience": "anyone", "served": false, "reason": "no key of [share] public_keys signed it" },
                    { "audience": "enrolled", "served": true },
                ],
                "sources": [
                    { "kind": "peer", "source": long("a"), "name": "tower", "latencyUSec": 1500, "compression": "none",
                      "fileSize": 50_000 },
                    { "kind": "upstream", "source": "https://cache.nixos.org", "latencyUSec": 1500, "compression": "xz",
                      "fileSize": 50_000 },
                ],
                "copies": 3,
                "holders": [
                    { "id": long("a"), "name": "tower", "state": "held", "seenTimestamp": NOW },
                    { "id": long("d"), "name": "evil\u{1b}[2Jname", "state": "coming", "seenTimestamp": NOW },
                ],
                "heldFor": [long("b")],
                "fetching": {
                    "id": 41, "path": HELLO, "size": 226_560, "bytes": 113_280, "from": [long("a")], "startTimestamp": NOW - 3_000_000,
                    "waiting": false,
                },
                "transfer": {
                    "timestamp": NOW - MINUTE, "durationUSec": 500_000, "bytes": 226_500, "from": [long("a"), "cache.nixos.org"],
                },
            })),
            pins: read(json!([
                { "path": HELLO, "reason": "for the demo", "sinceTimestamp": NOW - DAY, "copies": 3 },
                { "path": BASH, "reason": "for the demo", "sinceTimestamp": NOW - DAY, "untilTimestamp": NOW + DAY },
            ])),
            transfers: read(json!([
                { "id": 41, "path": HELLO, "size": 226_560, "bytes": 113_280, "from": ["tower"], "startTimestamp": NOW - 3_000_000, "waiting": false },
                { "id": 42, "path": BASH, "size": 300_000_000, "bytes": 0, "from": [], "startTimestamp": NOW - 1_000_000, "waiting": true },
            ])),
            history: read(json!([
                {
                    "dayTimestamp": NOW / DAY * DAY - DAY, "upUSec": DAY, "onUSec": DAY, "bytesFromPeers": 5_000_000_000_u64,
                    "narBytesFromPeers": 9_000_000_000_u64, "bytesFromUpstreams": 700_000_000, "bytesShared": 3_000_000_000_u64,
                    "lookupsPeer": 900, "lookupsUpstream": 90, "lookupsAbsent": 40, "lookupsUnknown": 1,
                    "transfersCompleted": 980, "transfersFailed": 2, "verificationFailures": 1, "storeBytes": 60_000_000_000_u64,
                    "diskFreeBytes": 100_000_000_000_u64,
                },
                { "dayTimestamp": NOW / DAY * DAY, "upUSec": DAY / 2, "onUSec": DAY / 2, "bytesFromPeers": 1_000_000_000 },
            ])),
            measurement: read(json!({
                "id": long("a"), "name": "tower", "latencyUSec": 410, "bytes": 234_000_000, "durationUSec": 2_000_000,
            })),
            rotation: Rotation {
                old: Some(key("tower-30fingerprint", "tower-3", KeyState::Grace)),
                new: key("tower-40fingerprint", "tower-4", KeyState::Active),
            },
            keys: keys.into(),
            trusted: read(json!([
                { "name": "cache.nixos.org-1", "publicKey": format!("cache.nixos.org-1:{key_text}"), "origin": "nix",
                  "comment": "", "distrusted": false },
                { "name": "tower-1", "publicKey": format!("tower-1:{key_text}"), "origin": "added", "comment": "lost",
                  "distrusted": true, "changedTimestamp": NOW - DAY },
            ])),
            fleet: read(json!({
                "mode": "fleet", "publicKey": long("f"), "hasKey": true,
                "membership": { "id": long("a"), "name": "tower", "site": "home", "roles": ["gateway", "relay"], "expiresTimestamp": NOW + 365 * DAY },
                "problem": "the membership was revoked on 2026-11-20T14:03:22Z",
                "members": [
                    { "id": long("b"), "name": "birch", "site": "", "expiresTimestamp": NOW + 30 * DAY },
                    { "id": long("d"), "name": "evil\u{1b}[2Jname", "site": "office", "roles": ["no\u{1b}[2Jne"], "expiresTimestamp": NOW + DAY },
                ],
                "revoked": [{ "id": long("c"), "sinceTimestamp": NOW - DAY }],
            })),
            jobs: Jobs::new(events.clone()),
            events,
            told: Vec::new(),
            still: None,
            handle: Mutex::default(),
            done: Mutex::default(),
            says: |_, _| Ok(true),
            sparse: AtomicBool::new(false),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            queries: Arc::default(),
            subscribers: Arc::default(),
        }
    }
}

/// Counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Events, counted as a subscription.
struct Subscription(Events, Counted);

#[async_trait]
impl Feed<EventItem> for Subscription {
    async fn next(&mut self) -> Option<Outcome<EventItem>> {
        self.0.next().await
    }
}

/// A feed of things that are there already.
struct Ready<T>(VecDeque<T>);

#[async_trait]
impl<T: Send> Feed<T> for Ready<T> {
    async fn next(&mut self) -> Option<Outcome<T>> {
        self.0.pop_front().map(Ok)
    }
}

/// Takes away what may be missing from what is at a place in a value.
fn strip(value: &mut Value, at: &str, fits: &dyn Fn(&Value) -> bool) {
    match value.pointer_mut(at).unwrap() {
        Value::Array(list) => list.clear(),
        Value::Object(object) => {
            for name in object.keys().cloned().collect::<Vec<_>>() {
                let mut without = value.clone();
                without.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(&name);
                if fits(&without) {
                    *value = without;
                } else {
                    strip(value, &format!("{at}/{name}"), fits);
                }
            }
        }
        _ => {}
    }
}

impl Stub {
    /// What was done since this was last asked.
    pub(crate) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.done.lock())
    }

    fn did(&self, what: String) -> Outcome<bool> {
        let said = (self.says)(self, &what);
        self.done.lock().push(what);
        said
    }

    /// Something as it is shown at the moment.
    fn shown<T: Clone + Serialize + DeserializeOwned>(&self, value: &T) -> Outcome<T> {
        if !self.sparse.load(SeqCst) {
            return Ok(value.clone());
        }
        let mut value = json!(value);
        strip(&mut value, "", &|value| serde_json::from_value::<T>(value.clone()).is_ok());
        Ok(read(value))
    }

    fn begin(&self, kind: JobKind, dry_run: bool) -> Outcome<Job> {
        if let Some(still) = &self.still {
            let job = still.listed.iter().find(|job| job.kind == kind).unwrap();
            return Ok(Job { dry_run, ..job.clone() });
        }
        let handle = self.jobs.begin(kind, dry_run)?;
        let job = handle.view();
        *self.handle.lock() = Some(handle);
        Ok(job)
    }
}

#[async_trait]
impl Control for Stub {
    async fn status(&self) -> Outcome<Status> {
        self.shown(&*self.status.lock())
    }
    async fn statistics(&self) -> Outcome<Statistics> {
        self.shown(&self.statistics)
    }
    async fn reset_statistics(&self) -> Outcome<()> {
        self.did("reset".to_owned()).map(drop)
    }
    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        self.status.lock().state = ServiceState::Draining;
        self.events.tell(Event { to: Some("draining".to_owned()), ..Event::new(EventKind::DrainChanged) });
        self.did(format!("drain {limit:?}"))
    }
    async fn undrain(&self) -> Outcome<bool> {
        self.did("undrain".to_owned())
    }
    async fn set_offline(&self, offline: bool) -> Outcome<bool> {
        self.did(format!("offline {offline}"))
    }
    async fn reload(&self) -> Outcome<Reload> {
        self.did("reload".to_owned())?;
        self.shown(&self.reload)
    }
    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(LogLevel::Info)
    }
    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        self.did(format!("log {level}")).map(drop)
    }
    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        if self.told.is_empty() {
            return Ok(Box::new(Subscription(self.events.subscribe(filter), Counted::new(&self.subscribers))));
        }
        let fits = |item: &&EventItem| match item {
            EventItem::Event(event) => filter.kinds.is_empty() || filter.kinds.contains(&event.kind),
            EventItem::Ready { .. } | EventItem::Dropped { .. } => true,
        };
        Ok(Box::new(Ready(self.told.iter().filter(fits).cloned().collect())))
    }
    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        (self.says)(self, &format!("peers {:?}", filter.state))?;
        let mut peers = self.peers.lock().clone();
        peers.retain(|peer| filter.state.as_ref().is_none_or(|state| *state == peer.state));
        self.shown(&peers)
    }
    async fn peer(&self, wanted: &str) -> Outcome<Peer> {
        (self.says)(self, &format!("peer {wanted}"))?;
        let peers = self.peers.lock();
        let found = peers.iter().find(|peer| peer.name == wanted || peer.id.starts_with(wanted));
        found.map_or_else(|| no(ErrorKind::NoSuchPeer), |peer| self.shown(peer))
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
        (self.says)(self, &format!("ping {peer}")).map(|_| self.ping)
    }
    async fn measure_peer(&self, peer: &str) -> Outcome<Measurement> {
        (self.says)(self, &format!("measure {peer}")).map(|_| self.measurement.clone())
    }
    async fn refresh_peers(&self) -> Outcome<()> {
        self.did("refresh".to_owned()).map(drop)
    }
    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        let _counted = Counted::new(&self.queries);
        let _open = self.gate.acquire().await.unwrap();
        (self.says)(self, &format!("query {path}"))?;
        let report = self.report.clone();
        self.shown(&PathReport { path: path.to_owned(), valid: path == report.path, ..report })
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
        let _open = self.gate.acquire().await.unwrap();
        let copies = request.copies.map(|copies| format!(" in {copies} copies")).unwrap_or_default();
        self.did(format!("pin {}{copies} {:?} {:?}", request.path, request.reason, request.until_timestamp))
    }
    async fn unpin(&self, path: &str) -> Outcome<bool> {
        self.did(format!("unpin {path}"))
    }
    async fn transfers(&self) -> Outcome<Vec<Transfer>> {
        self.shown(&self.transfers)
    }
    async fn history(&self) -> Outcome<Vec<Day>> {
        self.shown(&self.history)
    }
    async fn pins(&self) -> Outcome<Vec<Pin>> {
        self.shown(&self.pins)
    }
    async fn jobs(&self) -> Outcome<Vec<Job>> {
        Ok(self.still.as_ref().map_or_else(|| self.jobs.list(), |still| still.listed.clone()))
    }
    async fn job(&self, id: u64) -> Outcome<Job> {
        let Some(still) = &self.still else { return self.jobs.get(id) };
        let job = still.watched.last().filter(|job| job.id == id);
        job.map_or_else(|| no(ErrorKind::NoSuchJob), |job| Ok(job.clone()))
    }
    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        let Some(still) = &self.still else { return self.jobs.paths(id, offset, limit) };
        Ok(still.paths.iter().skip(usize::try_from(offset).unwrap()).cloned().collect())
    }
    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates> {
        let Some(still) = &self.still else { return self.jobs.watch(id) };
        Ok(Box::new(Ready(still.watched.clone().into())))
    }
    async fn cancel_job(&self, id: u64) -> Outcome<bool> {
        Ok(self.did(format!("cancel {id}"))? && self.jobs.cancel(id)?)
    }
    async fn keys(&self) -> Outcome<Vec<Key>> {
        self.shown(&self.keys)
    }
    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        self.did(format!("rotate {grace:?}"))?;
        self.shown(&self.rotation)
    }
    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        self.did(format!("revoke {fingerprint} {reason}"))
    }
    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        self.shown(&self.trusted)
    }
    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        self.did(format!("trust {public_key} {comment}"))
    }
    async fn distrust(&self, key: &str) -> Outcome<bool> {
        self.did(format!("distrust {key}"))
    }
    async fn fleet(&self) -> Outcome<FleetStatus> {
        self.shown(&self.fleet)
    }
    async fn init_fleet(&self, site: &str) -> Outcome<FleetStatus> {
        self.did(format!("init {site}"))?;
        self.shown(&self.fleet)
    }
    async fn invite_member(&self) -> Outcome<Invitation> {
        self.did("invite".to_owned())?;
        Ok(Invitation { code: "37-4821-9375".to_owned(), expires_timestamp: NOW + MINUTE })
    }
    async fn join_fleet(&self, code: &str, address: Option<&str>) -> Outcome<FleetStatus> {
        self.did(format!("join {code} {address:?}"))?;
        self.shown(&self.fleet)
    }
    async fn enroll_member(&self, enrolment: Enrolment) -> Outcome<String> {
        let Enrolment { id, name, site, roles, valid_usec } = enrolment;
        self.did(format!("enroll {id} {name:?} {site:?} {roles:?} {valid_usec:?}"))?;
        Ok(format!("{}.{}", "eyJmbGVldCI6".repeat(20), "c2lnbmF0dXJl".repeat(7)))
    }
    async fn revoke_member(&self, member: &str) -> Outcome<bool> {
        self.did(format!("expel {member}"))
    }
}

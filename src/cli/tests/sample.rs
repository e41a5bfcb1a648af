//! A service that is made up: it knows some of everything, and strange names too.

use super::NOW;
use crate::control::*;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::time::Duration;

const MINUTE: u64 = 60_000_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// Store paths with names.
pub(super) const HELLO: &str = "/nix/store/00000000000000000000000000000000-hello-2.12";
pub(super) const BASH: &str = "/nix/store/11111111111111111111111111111111-bash-5.2";

pub(super) struct Sample;

/// A feed of things that are there already.
struct Ready<T>(VecDeque<T>);

#[async_trait]
impl<T: Send> Feed<T> for Ready<T> {
    async fn next(&mut self) -> Option<Outcome<T>> {
        self.0.pop_front().map(Ok)
    }
}

fn no<T>(kind: ErrorKind, message: &str) -> Outcome<T> {
    Err(ControlError::new(kind, message))
}

fn peer(id: char, name: &str, state: &str) -> Peer {
    Peer {
        id: id.to_string().repeat(52),
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        addresses: vec!["192.0.2.7:7650".to_owned(), "[2001:db8::7]:7650".to_owned()],
        source: "mdns".to_owned(),
        state: state.to_owned(),
        audience: "anyone".to_owned(),
        added: false,
        blocked: None,
        first_seen_timestamp: Some(NOW - 3 * DAY),
        last_seen_timestamp: Some(NOW - 90 * MINUTE),
        latency_usec: Some(420),
        throughput: Some(112 << 20),
        bytes_in: 3 << 30,
        bytes_out: 12 << 20,
        failures: 0,
        score: 0.93,
    }
}

fn peers() -> Vec<Peer> {
    let blocked = Blocked { reason: "sent what was not signed".to_owned(), until_timestamp: Some(NOW + 10 * MINUTE) };
    vec![
        peer('a', "tower", "online"),
        Peer { latency_usec: None, throughput: None, ..peer('b', "Küche 箱", "offline") },
        Peer { blocked: Some(blocked), ..peer('c', "evil\u{1b}[2J\u{202e}name", "blocked") },
        Peer { version: String::new(), last_seen_timestamp: None, addresses: vec![], ..peer('d', "", "discovered") },
    ]
}

pub(super) fn job(kind: JobKind, state: JobState, dry_run: bool) -> Job {
    Job {
        id: 7,
        kind,
        state,
        dry_run,
        progress: if state == JobState::Running { 0.25 } else { 1.0 },
        message: if state == JobState::Failed { "2 of 3 paths".to_owned() } else { String::new() },
        paths: 2,
        bytes: 30 << 20,
        start_timestamp: NOW - 5_000_000,
        end_timestamp: (state != JobState::Running).then_some(NOW - 1_000_000),
    }
}

fn key(name: &str, state: KeyState) -> Key {
    Key {
        fingerprint: format!("{name}:fingerprint").replace([':', '.'], "0"),
        name: name.to_owned(),
        public_key: format!("{name}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="),
        algorithm: "ed25519".to_owned(),
        state,
        created_timestamp: Some(NOW - 40 * DAY),
        expires_timestamp: (state == KeyState::Grace).then_some(NOW + 30 * DAY),
        managed: Managed::State,
    }
}

#[async_trait]
impl Control for Sample {
    async fn status(&self) -> Outcome<Status> {
        Ok(Status {
            version: "0.1.0".to_owned(),
            features: vec!["landlock".to_owned(), "mdns".to_owned()],
            node_id: "a".repeat(52),
            host_name: "tower".to_owned(),
            store_dir: "/nix/store".to_owned(),
            state: ServiceState::Degraded,
            problems: vec!["the Nix daemon does not answer".to_owned()],
            start_timestamp: NOW - 192_000_000,
            listen: Listen {
                gateway: Some("http://127.0.0.1:7649".to_owned()),
                share: Some("[::]:7650".to_owned()),
                plain: None,
            },
            peers_known: 4,
            peers_online: 1,
            transfers: 2,
            jobs_running: 1,
            share_policy: "signed".to_owned(),
            active_key: None,
            configuration: Some("/etc/peernix/config.toml".to_owned()),
            last_reload: Some(Reload {
                timestamp: NOW - MINUTE,
                success: true,
                error: None,
                restart_needed: vec!["share".to_owned()],
            }),
            log_level: LogLevel::Info,
            sandbox: "landlock ABI 5".to_owned(),
        })
    }

    async fn statistics(&self) -> Outcome<Statistics> {
        let face = |name: &str| Face { name: name.to_owned(), requests: 1234, bytes_served: 5 << 30, connections: 3 };
        let source = |kind, source: &str, name: Option<&str>, bytes| SourceBytes {
            kind,
            source: source.to_owned(),
            name: name.map(str::to_owned),
            bytes,
        };
        Ok(Statistics {
            since_timestamp: NOW - DAY,
            faces: vec![face("gateway"), face("share")],
            lookups: Lookups { peer: 90, upstream: 10, absent: 7, unknown: 1, remembered: 40 },
            hit_rate: Some(0.9),
            transfers: TransferCounts { started: 100, completed: 98, failed: 1, joined: 5, failed_over: 2 },
            bytes_from_peers: 12 << 30,
            bytes_from_upstreams: 1 << 30,
            sources: vec![
                source(SourceKind::Peer, &"a".repeat(52), Some("tower"), 12 << 30),
                source(SourceKind::Upstream, "https://cache.nixos.org", None, 1 << 30),
            ],
            verification_failures: 1,
            peers_banned: 1,
        })
    }

    async fn reset_statistics(&self) -> Outcome<()> {
        no(ErrorKind::AccessDenied, "this user may not reset the statistics")
    }

    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        Ok(limit.is_some())
    }

    async fn undrain(&self) -> Outcome<bool> {
        Ok(true)
    }

    async fn reload(&self) -> Outcome<Reload> {
        Ok(Reload { timestamp: NOW, success: true, error: None, restart_needed: vec!["gateway".to_owned()] })
    }

    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(LogLevel::Info)
    }

    async fn set_log_level(&self, _: LogLevel) -> Outcome<()> {
        Ok(())
    }

    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        let mut changed = Event::new(EventKind::PeerStateChanged);
        (changed.timestamp, changed.peer, changed.name) =
            (NOW + 5000, Some("a".repeat(52)), Some("to\u{7}wer".to_owned()));
        (changed.from, changed.to) = (Some("online".to_owned()), Some("offline".to_owned()));
        let mut transfer = Event::new(EventKind::TransferFinished);
        (transfer.timestamp, transfer.path, transfer.bytes, transfer.id) =
            (NOW + 7000, Some(HELLO.to_owned()), Some(1 << 20), Some(3));
        let mut failed = Event::new(EventKind::ReloadFailed);
        (failed.timestamp, failed.message) = (NOW + 9000, Some("config.toml:2: no\nsuch key".to_owned()));
        let items = vec![
            EventItem::Ready { cursor: 41 },
            EventItem::Event(changed),
            EventItem::Dropped { count: 3 },
            EventItem::Event(transfer),
            EventItem::Event(failed),
        ];
        let fits = |item: &EventItem| match item {
            EventItem::Event(event) => filter.kinds.is_empty() || filter.kinds.contains(&event.kind),
            EventItem::Ready { .. } | EventItem::Dropped { .. } => true,
        };
        Ok(Box::new(Ready(items.into_iter().filter(fits).collect())))
    }

    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        Ok(peers().into_iter().filter(|peer| filter.state.as_ref().is_none_or(|state| *state == peer.state)).collect())
    }

    async fn peer(&self, wanted: &str) -> Outcome<Peer> {
        let found = peers().into_iter().find(|peer| peer.name == wanted || peer.id.starts_with(wanted));
        found.ok_or_else(|| ControlError::new(ErrorKind::NoSuchPeer, format!("no peer is called '{wanted}'")))
    }

    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        if uri.contains(':') { Ok(true) } else { no(ErrorKind::InvalidUri, "'tower' is not HOST:PORT") }
    }

    async fn forget_peer(&self, _: &str) -> Outcome<bool> {
        Ok(true)
    }

    async fn block_peer(&self, _: &str, _: &str) -> Outcome<bool> {
        Ok(true)
    }

    async fn unblock_peer(&self, _: &str) -> Outcome<bool> {
        Ok(false)
    }

    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        if peer == "tower" {
            Ok(Duration::from_micros(1234))
        } else {
            no(ErrorKind::PeerUnreachable, "no answer in 5 s")
        }
    }

    async fn refresh_peers(&self) -> Outcome<()> {
        Ok(())
    }

    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        let source = |kind, source: &str, name: Option<&str>, compression: &str| PathSource {
            kind,
            source: source.to_owned(),
            name: name.map(str::to_owned),
            latency_usec: Some(1500),
            compression: compression.to_owned(),
            file_size: Some(50_000),
        };
        let sharing = |audience: &str, served, reason: Option<&str>| Sharing {
            audience: audience.to_owned(),
            served,
            reason: reason.map(str::to_owned),
        };
        Ok(PathReport {
            path: path.to_owned(),
            valid: path == HELLO,
            nar_hash: Some("sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned()),
            nar_size: Some(226_552),
            references: vec![HELLO.to_owned()],
            signed_by: vec!["cache.nixos.org-1".to_owned()],
            built_here: false,
            pinned: true,
            sharing: vec![
                sharing("anyone", false, Some("no key of [share] public_keys signed it")),
                sharing("enrolled", true, None),
            ],
            sources: vec![
                source(SourceKind::Peer, &"a".repeat(52), Some("tower"), "none"),
                source(SourceKind::Upstream, "https://cache.nixos.org", None, "xz"),
            ],
        })
    }

    async fn prefetch(&self, _: Vec<String>) -> Outcome<Job> {
        Ok(job(JobKind::Prefetch, JobState::Running, false))
    }

    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        Ok(job(JobKind::GarbageCollection, JobState::Done, options.dry_run))
    }

    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        Ok(request.until_timestamp.is_none_or(|until| until == NOW + 2 * DAY))
    }

    async fn unpin(&self, _: &str) -> Outcome<bool> {
        no(ErrorKind::NoSuchPin, "this path is not pinned")
    }

    async fn pins(&self) -> Outcome<Vec<Pin>> {
        let pin = |path: &str, until_timestamp| Pin {
            path: path.to_owned(),
            reason: "for the demo".to_owned(),
            since_timestamp: NOW - DAY,
            until_timestamp,
        };
        Ok(vec![pin(HELLO, None), pin(BASH, Some(NOW + DAY))])
    }

    async fn jobs(&self) -> Outcome<Vec<Job>> {
        Ok(vec![
            job(JobKind::GarbageCollection, JobState::Done, true),
            job(JobKind::Prefetch, JobState::Running, false),
        ])
    }

    async fn job(&self, id: u64) -> Outcome<Job> {
        if id == 7 { Ok(job(JobKind::Prefetch, JobState::Failed, false)) } else { no(ErrorKind::NoSuchJob, "no job 8") }
    }

    async fn job_paths(&self, _: u64, offset: u64, _: u32) -> Outcome<Vec<JobPath>> {
        let path = |path: &str, size, result: &str, reason: Option<&str>| JobPath {
            path: path.to_owned(),
            size,
            result: result.to_owned(),
            reason: reason.map(str::to_owned),
        };
        let all = [
            path(BASH, 226_552, "fetched", None),
            path(HELLO, 30 << 20, "failed", Some("nobody has it")),
            path("/nix/store/22222222222222222222222222222222-glibc-2.40", 20 << 20, "present", None),
        ];
        Ok(all.into_iter().skip(usize::try_from(offset).unwrap()).collect())
    }

    async fn watch_job(&self, _: u64) -> Outcome<JobUpdates> {
        let states = [JobState::Running, JobState::Failed];
        Ok(Box::new(Ready(states.map(|state| job(JobKind::Prefetch, state, false)).into())))
    }

    async fn cancel_job(&self, _: u64) -> Outcome<bool> {
        Ok(false)
    }

    async fn keys(&self) -> Outcome<Vec<Key>> {
        let states = [("tower-3", KeyState::Active), ("tower-2", KeyState::Grace), ("tower-1", KeyState::Revoked)];
        Ok(states.map(|(name, state)| key(name, state)).into())
    }

    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        match grace {
            Some(_) => {
                Ok(Rotation { old: Some(key("tower-3", KeyState::Grace)), new: key("tower-4", KeyState::Active) })
            }
            None => no(ErrorKind::KeyManagedExternally, "the signing key is a credential"),
        }
    }

    async fn revoke_key(&self, _: &str, _: &str) -> Outcome<bool> {
        Ok(true)
    }

    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        let key = |name: &str, origin, distrusted| TrustedKey {
            name: name.to_owned(),
            public_key: format!("{name}:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="),
            origin,
            comment: if distrusted { "lost".to_owned() } else { String::new() },
            distrusted,
            changed_timestamp: distrusted.then_some(NOW - DAY),
        };
        Ok(vec![key("cache.nixos.org-1", TrustOrigin::Nix, false), key("tower-1", TrustOrigin::Added, true)])
    }

    async fn trust(&self, _: &str, _: &str) -> Outcome<bool> {
        Ok(true)
    }

    async fn distrust(&self, _: &str) -> Outcome<bool> {
        no(ErrorKind::NoSuchKey, "no trusted key is called so")
    }
}

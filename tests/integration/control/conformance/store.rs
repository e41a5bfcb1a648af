//! Paths: asked about, fetched, kept and collected, with jobs to their end.

use super::{Round, peers, until, within};
use peernix::control::{ErrorKind, Event, EventKind, GarbageOptions, JobKind, JobState, PinRequest, SourceKind};
use std::time::{Duration, SystemTime};

/// A job that never was.
const NO_JOB: u64 = 999_999;

/// Somewhat more than the peer sends within the time of the test.
const LARGE: usize = 60_000_000;

fn nothing() -> String {
    format!("/nix/store/{}-nothing", "2".repeat(32))
}

fn pin(path: &str, reason: Option<&str>, until: Option<u64>) -> PinRequest {
    PinRequest { path: path.to_owned(), reason: reason.map(str::to_owned), until_timestamp: until, copies: None }
}

/// Microseconds since 1970.
fn from_now(time: Duration) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
    u64::try_from(since.as_micros()).unwrap()
}

pub(super) async fn checks(round: &mut Round<'_>) {
    query(round).await;
    no_such_jobs(round).await;
    prefetch(round).await;
    cancel(round).await;
    pins(round).await;
    garbage(round).await;
    // For the next pass.
    let (id, _) = peers::at(&round.world.there).await;
    assert!(round.control.forget_peer(&id).await.unwrap());
}

/// A new path of the other machine. That tells that it is there, which takes a moment.
async fn new_there(round: &Round<'_>, name: &str, size: usize) -> String {
    let path = round.world.there.add(&format!("{name}-{}", round.number), size);
    round.world.there.sign(&path);
    let is_known = async || !round.control.query_path(&path).await.unwrap().sources.is_empty();
    until("the new path is known here", is_known).await;
    path
}

async fn query(round: &mut Round<'_>) {
    let control = round.control;
    let world = round.world;
    for nonsense in ["", "nonsense", "/nix/store/x", "/gnu/store/aaa", "../../etc/passwd"] {
        round.refuses(ErrorKind::InvalidStorePath, control.query_path(nonsense).await);
    }
    round.refuses(ErrorKind::NoSuchPath, control.query_path(&"2".repeat(32)).await);
    let report = control.query_path(&nothing()).await.unwrap();
    assert_eq!((report.path.as_str(), report.valid, report.sources.len()), (nothing().as_str(), false, 0));

    let here = world.here.add(&format!("here-{}", round.number), 1000);
    let base = here.rsplit('/').next().unwrap();
    for name in [here.as_str(), base, &base[..32]] {
        let report = control.query_path(name).await.unwrap();
        assert_eq!((report.path.as_str(), report.valid, report.pinned), (here.as_str(), true, false));
        assert!(report.nar_hash.unwrap().starts_with("sha256:") && report.nar_size.unwrap() > 1000);
        let audiences: Vec<&str> = report.sharing.iter().map(|sharing| sharing.audience.as_str()).collect();
        assert_eq!(audiences, ["anyone", "enrolled"]);
        assert!(report.sharing.iter().all(|sharing| sharing.served == sharing.reason.is_none()));
        assert!(!report.sharing[0].served);
    }
    let there = new_there(round, "asked", 1000).await;
    let report = control.query_path(&there).await.unwrap();
    assert_eq!((report.path.as_str(), report.valid), (there.as_str(), false));
    assert_eq!(report.signed_by, ["test-1"]);
    let [source] = &report.sources[..] else { panic!("{:?}", report.sources) };
    let (id, _) = peers::at(&world.there).await;
    assert_eq!((source.kind, &source.source), (SourceKind::Peer, &id));
    assert!(source.latency_usec.is_some_and(|latency| latency > 0));
}

async fn no_such_jobs(round: &mut Round<'_>) {
    let control = round.control;
    round.refuses(ErrorKind::NoSuchJob, control.job(NO_JOB).await);
    round.refuses(ErrorKind::NoSuchJob, control.job_paths(NO_JOB, 0, 10).await);
    round.refuses(ErrorKind::NoSuchJob, control.cancel_job(NO_JOB).await);
    let watching = match control.watch_job(NO_JOB).await {
        Err(error) => Err(error),
        Ok(mut progress) => within("the refusal", progress.next()).await.unwrap(),
    };
    round.refuses(ErrorKind::NoSuchJob, watching);
}

async fn prefetch(round: &mut Round<'_>) {
    let (control, world) = (round.control, round.world);
    round.refuses(ErrorKind::InvalidArgument, control.prefetch(Vec::new()).await);
    round.refuses(ErrorKind::InvalidStorePath, control.prefetch(vec!["nonsense".to_owned()]).await);
    let path = new_there(round, "fetched", 100_000).await;
    let mut listener = round.listen().await;
    let job = control.prefetch(vec![path.clone()]).await.unwrap();
    assert_eq!((job.kind, job.dry_run), (JobKind::Prefetch, false));
    let job = round.end_of(&job).await;
    assert_eq!((job.state, job.paths, job.progress), (JobState::Done, 1, 1.0), "{}", job.message);
    assert!(job.bytes >= 100_000, "{}", job.bytes);
    assert!(world.here.has(&path));
    let paths = control.job_paths(job.id, 0, 10).await.unwrap();
    assert_eq!((paths[0].path.as_str(), paths[0].result.as_str()), (path.as_str(), "fetched"));
    assert_eq!(control.job_paths(job.id, 1, 10).await.unwrap(), []);
    assert_eq!(control.job_paths(job.id, 0, 0).await.unwrap(), []);
    assert!(!control.cancel_job(job.id).await.unwrap());
    assert_eq!(control.jobs().await.unwrap().last(), Some(&job));
    let kinds =
        [EventKind::TransferStarted, EventKind::TransferFinished, EventKind::JobStarted, EventKind::JobFinished];
    let is_meant = |event: &Event| event.path.as_deref() == Some(&path) || event.id == Some(job.id);
    let [_, _, begin, end] = listener.hears_each(kinds, is_meant).await;
    assert_eq!(begin.message.as_deref(), Some("prefetch"));
    assert_eq!((end.to.as_deref(), end.bytes), (Some("done"), Some(job.bytes)));
    let statistics = control.statistics().await.unwrap();
    // It may have come compressed.
    assert!(statistics.nar_bytes_from_peers >= 100_000 && statistics.transfers.completed >= 1);
    assert!(statistics.sources.iter().any(|source| source.kind == SourceKind::Peer && source.bytes > 0));

    let again = control.prefetch(vec![path]).await.unwrap();
    let again = round.end_of(&again).await;
    assert_eq!((again.state, again.bytes), (JobState::Done, 0));
    assert_eq!(control.job_paths(again.id, 0, 10).await.unwrap()[0].result, "present");
    let none = control.prefetch(vec![nothing()]).await.unwrap();
    let none = round.end_of(&none).await;
    assert_eq!(none.state, JobState::Failed);
    let paths = control.job_paths(none.id, 0, 10).await.unwrap();
    assert!(paths[0].result == "failed" && paths[0].reason.is_some(), "{paths:?}");
}

/// While one runs, another may not; it ends when it is told to. One that was done before it could be told is tried again.
async fn cancel(round: &mut Round<'_>) {
    const TRIES: usize = 10;
    for number in 0..TRIES {
        let control = round.control;
        let path = new_there(round, &format!("large-{number}"), LARGE).await;
        let job = control.prefetch(vec![path.clone()]).await.unwrap();
        let second = control.prefetch(vec![path.clone()]).await;
        let running = control.status().await.unwrap().jobs_running;
        let was_running = control.cancel_job(job.id).await.unwrap();
        let job = round.end_of(&job).await;
        let is_here = round.world.here.has(&path);
        round.world.there.nix("nix-store", &["--delete", &path]);
        if !was_running || is_here {
            continue;
        }
        assert_eq!((job.state, running), (JobState::Cancelled, 1));
        let error = round.refuses_this(ErrorKind::Busy, second);
        assert!(error.message.contains(&job.id.to_string()), "{error}");
        return;
    }
    panic!("{TRIES} jobs were done before they could be cancelled");
}

async fn pins(round: &mut Round<'_>) {
    let (control, world) = (round.control, round.world);
    let path = world.here.add(&format!("pinned-{}", round.number), 10);
    for nonsense in ["", "nonsense"] {
        round.refuses(ErrorKind::InvalidStorePath, control.pin(pin(nonsense, None, None)).await);
        round.refuses(ErrorKind::InvalidStorePath, control.unpin(nonsense).await);
    }
    round.refuses(ErrorKind::NoSuchPath, control.pin(pin(&nothing(), None, None)).await);
    round.refuses(ErrorKind::InvalidArgument, control.pin(pin(&path, None, Some(1))).await);
    round.refuses(ErrorKind::InvalidArgument, control.pin(pin(&path, Some("two\nlines"), None)).await);
    round.refuses(ErrorKind::InvalidArgument, control.pin(pin(&path, Some(&"x".repeat(1000)), None)).await);
    assert!(!control.unpin(&path).await.unwrap() && !control.unpin(&nothing()).await.unwrap());

    let mut listener = round.listen().await;
    let request = pin(&path, Some("for later"), None);
    assert!(control.pin(request.clone()).await.unwrap() && !control.pin(request).await.unwrap());
    listener
        .hears(EventKind::PinChanged, |event| {
            event.path.as_deref() == Some(&path) && event.to.as_deref() == Some("pinned")
        })
        .await;
    let pins = control.pins().await.unwrap();
    let [kept] = &pins[..] else { panic!("{pins:?}") };
    assert_eq!((kept.path.as_str(), kept.reason.as_str(), kept.until_timestamp), (path.as_str(), "for later", None));
    assert!(control.query_path(&path).await.unwrap().pinned);
    assert!(control.unpin(&path).await.unwrap() && !control.unpin(&path).await.unwrap());
    let unpinned = |event: &Event| event.to.as_deref() == Some("unpinned");
    listener.hears(EventKind::PinChanged, unpinned).await;

    let end = from_now(Duration::from_millis(300));
    assert!(control.pin(pin(&path, None, Some(end))).await.unwrap());
    assert_eq!(control.pins().await.unwrap()[0].until_timestamp, Some(end));
    let event = listener.hears(EventKind::PinChanged, unpinned).await;
    assert!(event.timestamp >= end);
    assert_eq!(control.pins().await.unwrap(), []);
}

async fn garbage(round: &mut Round<'_>) {
    let (control, world) = (round.control, round.world);
    let [waste, kept, rooted] =
        ["waste", "kept", "rooted"].map(|name| world.here.add(&format!("{name}-{}", round.number), 5000));
    assert!(control.pin(pin(&kept, None, None)).await.unwrap());
    world.here.root(&rooted);
    let dry = GarbageOptions { dry_run: true, ..GarbageOptions::default() };
    let job = control.collect_garbage(dry.clone()).await.unwrap();
    assert_eq!((job.kind, job.dry_run), (JobKind::GarbageCollection, true));
    let job = round.end_of(&job).await;
    assert_eq!(job.state, JobState::Done, "{}", job.message);
    let paths = control.job_paths(job.id, 0, 1000).await.unwrap();
    assert_eq!(job.paths, paths.len() as u64);
    assert_eq!(job.bytes, paths.iter().map(|path| path.size).sum::<u64>());
    let would_go = |path: &str| paths.iter().any(|gone| gone.path == path && gone.result == "dead");
    assert!(would_go(&waste) && !would_go(&kept) && !would_go(&rooted), "{paths:?}");
    assert!(world.here.has(&waste), "it only says so");

    // Nothing here is that old.
    let old = GarbageOptions { older_than_usec: Some(3_600_000_000), ..dry };
    let old = round.end_of(&control.collect_garbage(old).await.unwrap()).await;
    assert_eq!((old.state, old.paths), (JobState::Done, 0), "{}", old.message);

    let mut listener = round.listen().await;
    let job = round.end_of(&control.collect_garbage(GarbageOptions::default()).await.unwrap()).await;
    assert_eq!(job.state, JobState::Done, "{}", job.message);
    let paths = control.job_paths(job.id, 0, 1000).await.unwrap();
    assert!(paths.iter().any(|gone| gone.path == waste && gone.result == "deleted"), "{paths:?}");
    assert!(!world.here.has(&waste) && world.here.has(&kept) && world.here.has(&rooted));
    assert!(job.bytes >= 5000);
    let event = listener.hears(EventKind::GarbageCollected, |event| event.id == Some(job.id)).await;
    assert_eq!(event.bytes, Some(job.bytes));
    assert!(!control.query_path(&waste).await.unwrap().valid);
    assert!(control.unpin(&kept).await.unwrap());
}

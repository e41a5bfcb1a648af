//! Our own client: everything arrives as it was meant, on both sides.

use super::super::{Access, Client};
use super::{LIMIT, Served, until};
use crate::control::*;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

fn path(name: &str) -> JobPath {
    JobPath { path: name.into(), size: 1, result: "deleted".into(), reason: None }
}

/// Everything that can be asked for, once.
async fn everything(served: &Served, client: &dyn Control) {
    let stub = &served.stub;
    for sparse in [true, false] {
        stub.sparse.store(sparse, SeqCst);
        assert_eq!(client.status().await.unwrap(), stub.status().await.unwrap());
        assert_eq!(client.statistics().await.unwrap(), stub.statistics().await.unwrap());
        assert_eq!(client.peers(PeerFilter::default()).await, stub.peers(PeerFilter::default()).await);
        assert_eq!(client.peer("a").await.unwrap(), stub.peer("a").await.unwrap());
        assert_eq!(client.query_path("p").await.unwrap(), stub.query_path("p").await.unwrap());
        assert_eq!(client.pins().await, stub.pins().await);
        assert_eq!(client.transfers().await, stub.transfers().await);
        assert_eq!(client.history().await, stub.history().await);
        assert_eq!(client.keys().await, stub.keys().await);
        assert_eq!(client.trusted_keys().await, stub.trusted_keys().await);
        assert_eq!(client.fleet().await, stub.fleet().await);
        assert_eq!(client.rotate_key(None).await, stub.rotate_key(None).await);
    }
    assert_eq!(client.reload().await.unwrap(), stub.reload().await.unwrap());
    assert_eq!(client.log_level().await.unwrap(), LogLevel::Info);
    assert_eq!(client.ping_peer("a").await.unwrap(), Duration::from_micros(7));

    // What is done arrives as if it were asked for at the service itself.
    stub.done.lock().clear();
    let pin = PinRequest { path: "p".into(), reason: Some("r".into()), until_timestamp: Some(7), copies: Some(2) };
    let garbage = GarbageOptions { dry_run: true, max_freed: Some(5), older_than_usec: Some(6) };
    for control in [client, stub.as_ref() as &dyn Control] {
        control.reset_statistics().await.unwrap();
        assert!(control.drain(Some(Duration::from_secs(3))).await.unwrap());
        assert!(control.drain(None).await.unwrap());
        assert!(!control.undrain().await.unwrap());
        assert!(control.set_offline(true).await.unwrap());
        control.set_log_level(LogLevel::Trace).await.unwrap();
        assert!(control.add_peer("h:1").await.unwrap());
        assert!(control.forget_peer("a").await.unwrap());
        assert!(control.block_peer("a", "b\u{0}\n\"").await.unwrap());
        assert!(control.unblock_peer("a").await.unwrap());
        control.refresh_peers().await.unwrap();
        control.measure_peer("a").await.unwrap();
        assert!(control.pin(pin.clone()).await.unwrap());
        assert!(control.unpin("p").await.unwrap());
        control.rotate_key(Some(Duration::from_secs(1))).await.unwrap();
        assert!(control.revoke_key("f", "r").await.unwrap());
        assert!(control.trust("k", "c").await.unwrap());
        assert!(control.distrust("k").await.unwrap());
        control.init_fleet("s").await.unwrap();
        control.invite_member().await.unwrap();
        control.join_fleet("c", Some("h:1")).await.unwrap();
        let enrolment = Enrolment {
            id: "a".into(),
            name: Some("n".into()),
            site: None,
            roles: vec!["relay".into()],
            valid_usec: Some(7),
        };
        control.enroll_member(enrolment).await.unwrap();
        assert!(control.revoke_member("m").await.unwrap());
        control.prefetch(vec!["a".into(), "b".into()]).await.unwrap();
        stub.handle.lock().take();
        control.collect_garbage(garbage.clone()).await.unwrap();
        stub.handle.lock().take();
    }
    let done = stub.done.lock().clone();
    let (ours, theirs) = done.split_at(done.len() / 2);
    assert_eq!((ours, ours.len()), (theirs, 24));

    let kind = |outcome: ControlError| outcome.kind;
    assert_eq!(client.peer("nobody").await.map_err(kind), Err(ErrorKind::NoSuchPeer));
    assert_eq!(client.ping_peer("nobody").await.map_err(kind), Err(ErrorKind::PeerUnreachable));
    assert_eq!(client.query_path("x").await.map_err(kind), Err(ErrorKind::InvalidStorePath));
    assert_eq!(client.add_peer("x").await.unwrap_err(), ControlError::new(ErrorKind::InvalidUri, "no: InvalidUri"));
    assert_eq!(client.revoke_key("used", "").await.map_err(kind), Err(ErrorKind::KeyInUse));
    assert_eq!(client.watch_job(99).await.map(drop).map_err(kind), Err(ErrorKind::NoSuchJob));
    let strange = PeerFilter { state: Some("strange".into()), id: None };
    let error = client.peers(strange).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::InvalidArgument, "state: no: InvalidArgument"));
}

async fn a_job(served: &Served, client: &dyn Control) {
    let job = client.collect_garbage(GarbageOptions::default()).await.unwrap();
    let busy = client.collect_garbage(GarbageOptions::default()).await.unwrap_err();
    assert_eq!(busy.kind, ErrorKind::Busy);
    assert!(client.cancel_job(job.id).await.unwrap());
    let mut progress = client.watch_job(job.id).await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap().state, JobState::Running);
    let handle = served.stub.handle.lock().take().unwrap();
    handle.add((0..1000).map(|n| path(&n.to_string())).collect(), 1000);
    handle.end(JobOutcome::Cancelled);
    let mut last = None;
    while let Some(item) = timeout(LIMIT, progress.next()).await.unwrap() {
        last = Some(item.unwrap());
    }
    assert_eq!(last.unwrap(), client.job(job.id).await.unwrap());
    assert_eq!(client.jobs().await, served.stub.jobs().await);
    assert_eq!(client.job_paths(job.id, 998, 10).await.unwrap(), [path("998"), path("999")]);
    assert_eq!(client.job_paths(job.id, 0, 700).await.unwrap().len(), 700);
    assert!(client.job_paths(job.id, 1000, 1).await.unwrap().is_empty());
}

async fn some_events(served: &Served, client: &dyn Control) {
    let after = Some(served.stub.events.newest());
    served.stub.events.tell(Event { message: Some("m".into()), ..Event::new(EventKind::Reloaded) });
    served.stub.events.tell(Event::new(EventKind::PeerAdded));
    let filter = EventFilter { kinds: vec![EventKind::Reloaded], after };
    let mut events = client.events(filter.clone()).await.unwrap();
    let mut direct = served.stub.events.subscribe(filter);
    for _ in 0..2 {
        assert_eq!(timeout(LIMIT, events.next()).await.unwrap(), direct.next().await);
    }
    for _ in 0..=EVENTS_KEPT {
        served.stub.events.tell(Event::new(EventKind::Reloaded));
    }
    assert!(matches!(
        timeout(LIMIT, events.next()).await.unwrap(),
        Some(Ok(EventItem::Dropped { .. } | EventItem::Event(_)))
    ));
    drop(events);
    until("the subscription ends", || served.stub.subscribers.load(SeqCst) == 0).await;
}

#[tokio::test]
async fn everything_works_over_the_sockets() {
    let served = Served::start();
    let client = Client::connect(served.path()).await.unwrap();
    everything(&served, &client).await;
    a_job(&served, &client).await;
    some_events(&served, &client).await;
    // Calls at the same time do not wait for each other.
    served.stub.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let (slow, quick) = tokio::join!(client.query_path("p"), async {
        let quick = client.log_level().await;
        served.stub.gate.add_permits(1);
        quick
    });
    assert!(slow.is_ok() && quick.is_ok());
    served.end().await;
}

#[tokio::test]
async fn everything_works_over_one_stream() {
    let served = Served::start();
    let connect = || UnixStream::connect(served.socket(Access::Admin));
    let client = Client::over(connect().await.unwrap());
    everything(&served, &client).await;
    a_job(&served, &client).await;
    let (one, two) = tokio::join!(client.log_level(), client.keys());
    assert!(one.is_ok() && two.is_ok(), "one after the other");
    let events = client.events(EventFilter::default()).await.unwrap();
    assert_eq!(client.log_level().await.unwrap_err().kind, ErrorKind::Busy);
    drop(events);
    assert_eq!(client.log_level().await.unwrap_err().kind, ErrorKind::Busy, "the stream went with the feed");
    until("the subscription ends", || served.stub.subscribers.load(SeqCst) == 0).await;
    some_events(&served, &Client::over(connect().await.unwrap())).await;
    served.end().await;
}

#[tokio::test]
async fn the_socket_for_asking_is_taken_where_there_is_no_other() {
    let served = Served::start();
    std::fs::remove_file(served.socket(Access::Admin)).unwrap();
    let client = Client::connect(served.path()).await.unwrap();
    assert_eq!(client.status().await.unwrap(), served.stub.status().await.unwrap());
    let error = client.undrain().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AccessDenied);
    assert!(error.message.contains("peernix-admin"), "{error}");
    served.end().await;
}

#[tokio::test]
async fn another_user_may_only_ask() {
    // The kernel looks at the user of a process: this test is a process for itself.
    if let Some(directory) = std::env::var_os("PEERNIX_TEST_SOCKETS") {
        let client = Client::connect(directory.as_ref()).await.unwrap();
        client.status().await.unwrap();
        let error = client.undrain().await.unwrap_err();
        assert!(error.kind == ErrorKind::AccessDenied && error.message.contains("group peernix-admin"), "{error}");
        let admin = std::path::Path::new(&directory).join(super::super::ADMIN_SOCKET);
        let error = Client::connect(&admin).await.map(drop).unwrap_err();
        assert!(error.kind == ErrorKind::AccessDenied && error.message.contains("group peernix-admin"), "{error}");
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let served = Served::start();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(served.path(), 0o755);
    mode(&served.socket(Access::ReadOnly), 0o666);
    mode(&served.socket(Access::Admin), 0o660);
    // The other user may not look into the build directory.
    let program = served.path().join("program");
    // By another process: a program that this one has open for writing cannot be started while a child of another test,
    // between its fork and its exec, holds it as well.
    let copied = std::process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let status = tokio::process::Command::new(program)
        .args(["--exact", "control::varlink::tests::clients::another_user_may_only_ask"])
        .env("PEERNIX_TEST_SOCKETS", served.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .stdout(std::process::Stdio::null())
        .status();
    assert!(timeout(LIMIT, status).await.unwrap().unwrap().success());
    assert_eq!(*served.stub.done.lock(), Vec::<String>::new());
    served.end().await;
}

#[tokio::test]
async fn who_does_not_run_is_said_not_to() {
    let directory = tempfile::tempdir().unwrap();
    let error = Client::connect(directory.path()).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotRunning);
    let error = Client::connect(&directory.path().join("x")).await.map(drop).unwrap_err();
    assert!(error.kind == ErrorKind::NotRunning && error.message.contains("/x: nobody answers"), "{error}");
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert_eq!(Client::over(ours).status().await.unwrap_err().kind, ErrorKind::NotRunning);
    // One that goes in the middle.
    let served = Served::start();
    let client = Client::connect(served.path()).await.unwrap();
    let mut events = client.events(EventFilter::default()).await.unwrap();
    served.stop.cancel();
    events.next().await.unwrap().unwrap();
    assert_eq!(timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap_err().kind, ErrorKind::NotRunning);
    assert!(events.next().await.is_none());
    served.end().await;
}

#[tokio::test]
async fn nonsense_from_the_other_side_is_an_error() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let answers: [(&[u8], ErrorKind); 7] = [
        (b"nonsense\0", ErrorKind::NotRunning),
        (b"{}\0", ErrorKind::Failed),
        (b"{\"parameters\":{\"level\":\"loud\"}}\0", ErrorKind::Failed),
        (b"{\"parameters\":[]}\0", ErrorKind::Failed),
        (b"{\"error\":\"x\"}\0", ErrorKind::Failed),
        (
            b"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"m\"}}\0",
            ErrorKind::NotSupported,
        ),
        (b"{\"error\":\"org.peernix.Manager.Draining\",\"parameters\":{}}\0", ErrorKind::Draining),
    ];
    for (answer, kind) in answers {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = Client::over(ours);
        let (outcome, ()) = tokio::join!(client.log_level(), async {
            theirs.read_buf(&mut Vec::new()).await.unwrap();
            theirs.write_all(answer).await.unwrap();
        });
        assert_eq!(outcome.unwrap_err().kind, kind, "{}", String::from_utf8_lossy(answer));
    }
}

//! Clients that mean harm, or just do not care: none of them is felt by the others.

use super::super::{Access, CALL_MAX, CALL_MAX_READ_ONLY, Limits};
use super::{LIMIT, Raw, Served, until};
use crate::control::{EVENTS_KEPT, Event, EventKind};
use serde_json::json;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

const SUBSCRIBE: &str = "org.peernix.Manager.SubscribeEvents";

async fn subscribe(client: &mut Raw) {
    client.say(json!({ "method": SUBSCRIBE, "more": true })).await;
    assert_eq!(client.hear().await.unwrap()["parameters"]["ready"], true);
}

/// Somebody else is answered, and soon.
async fn others_are_well(served: &Served) {
    let begun = Instant::now();
    let answer = served.raw(Access::ReadOnly).await.ask("io.systemd.service.Ping", json!({})).await;
    assert_eq!(answer, json!({ "parameters": {} }));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// The memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_events_towards_a_monitor_that_stalls() {
    let served = Served::start();
    let (mut stalled, mut awake) = (served.raw(Access::ReadOnly).await, served.raw(Access::ReadOnly).await);
    subscribe(&mut stalled).await;
    subscribe(&mut awake).await;
    let reading = tokio::spawn(async move {
        // Told plus dropped is everything.
        let mut seen = 0;
        while seen < 1_000_000 {
            let answer = awake.hear().await.unwrap();
            seen += answer["parameters"]["dropped"].as_u64().unwrap_or(1);
        }
        seen
    });
    let before = memory();
    for id in 0..1_000_000_u64 {
        served.stub.events.tell(Event { id: Some(id), ..Event::new(EventKind::TransferStarted) });
        if id % 4096 == 0 {
            tokio::task::yield_now().await;
        }
        if id % 250_000 == 0 {
            others_are_well(&served).await;
        }
    }
    assert_eq!(reading.await.unwrap(), 1_000_000);
    // The log itself fills up to some MiB.
    let grown = memory().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    let (mut told, mut dropped, mut last) = (0, 0, 0);
    while last != 999_999 {
        let answer = stalled.hear().await.unwrap();
        if let Some(count) = answer["parameters"]["dropped"].as_u64() {
            dropped += count;
        } else {
            told += 1;
            last = answer["parameters"]["id"].as_u64().unwrap();
        }
    }
    assert_eq!(told + dropped, 1_000_000);
    assert!(told >= EVENTS_KEPT as u64 && dropped > 900_000, "{told} told, {dropped} dropped");
    served.end().await;
}

#[tokio::test]
async fn who_does_not_read_is_given_up_and_hurts_nobody() {
    let served = Served::with(Limits { write: Duration::from_millis(200), ..Limits::default() });
    let mut client = served.raw(Access::ReadOnly).await;
    // As many calls as the server takes while nobody reads what it answers.
    let call = b"{\"method\":\"org.varlink.service.GetInfo\"}\0".repeat(100);
    let flooding = tokio::spawn(async move {
        let mut sent = 0;
        while client.stream.write_all(&call).await.is_ok() {
            sent += call.len();
        }
        sent
    });
    others_are_well(&served).await;
    let sent = tokio::time::timeout(LIMIT, flooding).await.expect("given up").unwrap();
    assert!(sent < 4 << 20, "not taken in: {sent} bytes");
    served.end().await;
}

#[tokio::test]
async fn who_vanishes_takes_its_query_and_its_subscription_along() {
    let served = Served::start();
    let mut client = served.raw(Access::ReadOnly).await;
    subscribe(&mut client).await;
    assert_eq!(served.stub.subscribers.load(SeqCst), 1);
    drop(client);
    until("the subscription ends", || served.stub.subscribers.load(SeqCst) == 0).await;

    served.stub.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let mut client = served.raw(Access::ReadOnly).await;
    client.say(json!({ "method": "org.peernix.Store.QueryPath", "parameters": { "path": "p" } })).await;
    until("the query begins", || served.stub.queries.load(SeqCst) == 1).await;
    drop(client);
    until("the query ends", || served.stub.queries.load(SeqCst) == 0).await;

    // One that only has nothing more to say hears its answer.
    let mut client = served.raw(Access::ReadOnly).await;
    client.say(json!({ "method": "org.peernix.Store.QueryPath", "parameters": { "path": "p" } })).await;
    client.stream.shutdown().await.unwrap();
    until("the query begins", || served.stub.queries.load(SeqCst) == 1).await;
    // What changes something is done also when nobody waits for it any more.
    let mut pinning = served.raw(Access::Admin).await;
    pinning.say(json!({ "method": "org.peernix.Store.Pin", "parameters": { "path": "p" } })).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(pinning);
    tokio::time::sleep(Duration::from_millis(50)).await;
    served.stub.gate.add_permits(2);
    assert_eq!(client.hear().await.unwrap()["parameters"]["report"]["path"], "p");
    assert_eq!(client.hear().await, None);
    until("it is pinned", || served.stub.done.lock().len() == 1).await;
    served.end().await;
}

#[tokio::test]
async fn a_subscriber_that_floods_is_given_up() {
    let served = Served::start();
    let mut client = served.raw(Access::ReadOnly).await;
    subscribe(&mut client).await;
    let junk = vec![b' '; CALL_MAX_READ_ONLY];
    let flooding = async { while client.stream.write_all(&junk).await.is_ok() {} };
    tokio::time::timeout(LIMIT, flooding).await.expect("closed");
    until("the subscription ends", || served.stub.subscribers.load(SeqCst) == 0).await;
    others_are_well(&served).await;
    served.end().await;
}

#[tokio::test]
async fn garbage_closes_only_the_connection_that_it_came_over() {
    let served = Served::start();
    let mut good = served.raw(Access::ReadOnly).await;
    for garbage in [&b"\0"[..], b"GET / HTTP/1.1\r\n\r\n\0", b"{}\0", b"[]\0", b"{\"method\":7}\0", b"\xff\xfe\0"] {
        let mut client = served.raw(Access::ReadOnly).await;
        client.send(garbage).await;
        assert_eq!(client.hear().await, None, "{garbage:?}");
    }
    for (access, most) in [(Access::ReadOnly, CALL_MAX_READ_ONLY), (Access::Admin, CALL_MAX)] {
        let mut client = served.raw(access).await;
        let long = vec![b'x'; most + 1];
        client.stream.write_all(&long).await.unwrap();
        assert_eq!(client.hear().await, None);
        // As long as it may be.
        let mut client = served.raw(access).await;
        let mut call = b"{\"method\":\"io.systemd.service.Ping\"".to_vec();
        call.resize(most - 1, b' ');
        call.extend(b"}\0");
        client.send(&call).await;
        assert_eq!(client.hear().await.unwrap(), json!({ "parameters": {} }));
    }
    assert_eq!(good.ask("io.systemd.service.Ping", json!({})).await, json!({ "parameters": {} }));
    served.end().await;
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    let limits = Limits { connections: 6, per_user: 3, ..Limits::default() };
    let served = Served::with(limits);
    let mut held = Vec::new();
    for _ in 0..limits.per_user {
        let mut client = served.raw(Access::ReadOnly).await;
        client.ask("io.systemd.service.Ping", json!({})).await;
        held.push(client);
    }
    assert_eq!(served.raw(Access::ReadOnly).await.hear().await, None, "one too many");
    assert_eq!(held[0].ask("io.systemd.service.Ping", json!({})).await, json!({ "parameters": {} }));
    let mut admin = served.raw(Access::Admin).await;
    assert_eq!(admin.ask("io.systemd.service.Ping", json!({})).await, json!({ "parameters": {} }), "another socket");
    held.clear();
    let begun = Instant::now();
    loop {
        let mut client = served.raw(Access::ReadOnly).await;
        client.stream.write_all(b"{\"method\":\"io.systemd.service.Ping\"}\0").await.ok();
        if client.hear().await.is_some() {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "places are given back");
    }
    served.end().await;
}

#[tokio::test]
async fn who_comes_while_there_are_no_files_left_is_served_later() {
    // The limit is the process's: this test is a process for itself.
    if std::env::var_os("PEERNIX_TEST_NO_FILES").is_none() {
        let status = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "control::varlink::tests::harm::who_comes_while_there_are_no_files_left_is_served_later"])
            .env("PEERNIX_TEST_NO_FILES", "1")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(tokio::time::timeout(LIMIT, status).await.unwrap().unwrap().success());
        return;
    }
    let served = Served::start();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(files.len() > 10);
    files.pop();
    let mut client = served.raw(Access::ReadOnly).await;
    client.say(json!({ "method": "io.systemd.service.Ping" })).await;
    // Long enough for accept(2) to fail again and again.
    assert!(tokio::time::timeout(Duration::from_millis(100), client.stream.readable()).await.is_err());
    drop(files);
    assert_eq!(client.hear().await, Some(json!({ "parameters": {} })));
    served.end().await;
}

#[tokio::test]
async fn idle_connections_end_and_busy_ones_do_not() {
    let served = Served::with(Limits { idle: Duration::from_millis(100), ..Limits::default() });
    let mut subscriber = served.raw(Access::ReadOnly).await;
    subscribe(&mut subscriber).await;
    let mut idle = served.raw(Access::ReadOnly).await;
    idle.send(b"{\"method\":").await;
    assert_eq!(idle.hear().await, None);
    served.stub.events.tell(Event::new(EventKind::Reloaded));
    assert_eq!(subscriber.hear().await.unwrap()["parameters"]["kind"], "reloaded");
    served.end().await;
}

#[tokio::test]
async fn the_server_ends_with_everybody_connected() {
    let served = Served::start();
    let mut subscriber = served.raw(Access::ReadOnly).await;
    subscribe(&mut subscriber).await;
    let mut idle = served.raw(Access::Admin).await;
    idle.ask("io.systemd.service.Ping", json!({})).await;
    served.stub.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let mut asking = served.raw(Access::ReadOnly).await;
    asking.say(json!({ "method": "org.peernix.Store.QueryPath", "parameters": { "path": "p" } })).await;
    until("the query begins", || served.stub.queries.load(SeqCst) == 1).await;
    served.stop.cancel();
    assert_eq!((subscriber.hear().await, idle.hear().await), (None, None));
    served.stub.gate.add_permits(1);
    assert_eq!(asking.hear().await.unwrap()["parameters"]["report"]["path"], "p", "what is under way is answered");
    served.end().await;
}

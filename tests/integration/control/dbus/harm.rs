//! Clients that never read, flood, or vanish harm nobody.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured or skipped is to be seen")]

use super::{SHOWN, World};
use crate::support::{LIMIT, until, until_within};
use peernix::control::dbus::{SUBSCRIBERS_MAX, SUBSCRIBERS_PER_USER};
use peernix::control::{Control as _, ErrorKind, Event, EventFilter, EventItem, EventKind};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use zbus::{MessageStream, Variant};

const EVENTS: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_who_never_reads_costs_nothing() {
    let Some(world) = World::start().await else { return };
    let client = world.client().await;
    let other = client.events(EventFilter::default()).await.unwrap();
    let mut stalled = client.events(EventFilter::default()).await.unwrap();
    assert!(matches!(stalled.next().await, Some(Ok(EventItem::Ready { .. }))));
    let reading = tokio::spawn(async move {
        let (mut other, mut seen, mut dropped) = (other, 0, 0);
        while seen + dropped < EVENTS {
            match other.next().await.unwrap().unwrap() {
                EventItem::Event(_) => seen += 1,
                EventItem::Dropped { count } => dropped += count,
                EventItem::Ready { .. } => {}
            }
        }
        (seen, dropped)
    });
    let before = world.bus.memory();
    let mut slowest = Duration::ZERO;
    for id in 0..EVENTS {
        let message = Some("x".repeat(1000));
        world.stub.events.tell(Event { id: Some(id), message, ..Event::new(EventKind::TransferStarted) });
        if id % 50_000 == 0 {
            let begin = Instant::now();
            client.status().await.unwrap();
            slowest = slowest.max(begin.elapsed());
        }
    }
    let (seen, _) = reading.await.unwrap();
    assert!(seen > 0);
    let grown = world.bus.memory().saturating_sub(before);
    println!("a million events: the bus grew by {grown} KiB, the slowest other call took {slowest:?}");
    assert!(grown < 16 * 1024, "the bus keeps {grown} KiB");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // It wakes up, gets what it was sent, and is told what it missed: nothing is lost without a word.
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < EVENTS {
        match stalled.next().await.unwrap().unwrap() {
            EventItem::Event(_) => seen += 1,
            EventItem::Dropped { count } => missed += count,
            EventItem::Ready { .. } => panic!("ready twice"),
        }
    }
    assert!(missed > EVENTS / 2, "{missed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_calls_is_cut_off_and_others_are_answered() {
    let Some(world) = World::start().await else { return };
    let flood = world.bus.connect().await;
    // Nobody ever reads this: when it is full, the connection reads nothing more.
    let _full = MessageStream::from(flood.clone());
    let flooding = tokio::spawn(async move {
        let message = || {
            zbus::Message::method_call(SHOWN[0].0, "Describe")
                .destination("org.peernix.Peernix1")
                .interface(SHOWN[0].1)
                .build(&())
                .unwrap()
        };
        for _ in 0..20_000 {
            if flood.send(&message()).await.is_err() {
                break;
            }
        }
        flood
    });
    let client = world.client().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let begin = Instant::now();
        client.status().await.unwrap();
        slowest = slowest.max(begin.elapsed());
    }
    println!("under a flood of calls the slowest other call took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let flood = tokio::time::timeout(Duration::from_secs(30), flooding).await.unwrap().unwrap();
    drop(flood);
    client.status().await.unwrap();
}

#[tokio::test]
async fn subscribers_are_counted_and_forgotten_with_their_connection() {
    let Some(world) = World::start().await else { return };
    const { assert!(SUBSCRIBERS_PER_USER < SUBSCRIBERS_MAX) };
    let client = world.client().await;
    let mut all = Vec::new();
    for _ in 0..SUBSCRIBERS_PER_USER {
        all.push(client.events(EventFilter::default()).await.unwrap());
    }
    let error = client.events(EventFilter::default()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::LimitExceeded);
    all.pop();
    until("there is a place again", async || client.events(EventFilter::default()).await.is_ok()).await;
}

#[tokio::test]
async fn one_connection_may_subscribe_again_and_leave() {
    let Some(world) = World::start().await else { return };
    let connection = world.bus.connect().await;
    let proxy = zbus::Proxy::new(&connection, "org.peernix.Peernix1", SHOWN[0].0, SHOWN[0].1).await.unwrap();
    let options = || HashMap::<&str, Variant<'_>>::new();
    for _ in 0..SUBSCRIBERS_MAX + 1 {
        let _: u64 = proxy.call("Subscribe", &(options(),)).await.unwrap();
    }
    let mut signals = proxy.receive_signal("Event").await.unwrap();
    let told = |id| Event { id: Some(id), ..Event::new(EventKind::TransferStarted) };
    world.stub.events.tell(told(1));
    let next =
        std::future::poll_fn(|context| futures_core::Stream::poll_next(std::pin::Pin::new(&mut signals), context));
    assert!(tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().is_some());
    let _: () = proxy.call("Unsubscribe", &()).await.unwrap();
    world.stub.events.tell(told(2));
    // The answer to this comes after whatever was sent before it: one event, though it subscribed often.
    let _: String = proxy.call("Describe", &()).await.unwrap();
    let next = std::future::poll_fn(|context| {
        std::task::Poll::Ready(futures_core::Stream::poll_next(std::pin::Pin::new(&mut signals), context).is_ready())
    });
    assert!(!next.await, "an event came twice, or after the end");
    let wrong = HashMap::from([("Kinds", Variant::from(vec!["nonsense"]))]);
    assert!(proxy.call::<_, _, u64>("Subscribe", &(wrong,)).await.is_err());
}

#[tokio::test]
async fn as_many_peers_as_there_may_be_are_shown_in_a_moment() {
    let Some(world) = World::start().await else { return };
    let many = (0..4096).map(|at| super::peer(&format!("p{at:04}"), "name"));
    *world.stub.peers.lock() = many.collect();
    world.stub.events.tell(Event::new(EventKind::PeerAdded));
    let connection = world.bus.connect().await;
    let manager = zbus::fdo::ObjectManagerProxy::new(&connection, "org.peernix.Peernix1", SHOWN[0].0).await.unwrap();
    let begin = Instant::now();
    // Neither side is optimised here.
    let are_all_shown = async || manager.get_managed_objects().await.unwrap().len() > 4096;
    until_within(LIMIT * 3, "all peers have objects", are_all_shown, String::new).await;
    let shown = begin.elapsed();
    let begin = Instant::now();
    manager.get_managed_objects().await.unwrap();
    println!("4096 peers: shown within {shown:?}, all of them listed in {:?}", begin.elapsed());
    let begin = Instant::now();
    assert_eq!(world.client().await.peers(Default::default()).await.unwrap().len(), 4096);
    println!("4096 peers: by the client in {:?}", begin.elapsed());
}

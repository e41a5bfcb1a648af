//! What an administrator does with peers, with several machines in one process.

use super::*;
use crate::peers::administration::Added;

/// Waits for an event that `which` picks.
async fn heard(events: &mut broadcast::Receiver<PeerEvent>, which: impl Fn(&PeerEvent) -> bool) -> PeerEvent {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if which(&event) {
                return event;
            }
        }
    };
    timeout(WAIT_LIMIT, wait).await.expect("the event should come")
}

#[tokio::test]
async fn an_added_peer_is_like_a_configured_one_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    let mut events = b.peers.subscribe();
    let address = a.address.to_string();
    assert_eq!(b.peers.add(&address).await.unwrap(), Added::New);
    assert_eq!(b.peers.add(&address).await.unwrap(), Added::AlreadyThere);
    b.sees(a.id, State::Online).await;
    let status = b.peers.get(a.id).unwrap().status();
    assert_eq!((status.source, status.added), (Provenance::Fixed, true));
    assert!(status.first_seen.is_some() && status.score > 0.0 && status.admission == "open");
    let added = heard(&mut events, |event| matches!(event, PeerEvent::Added { .. })).await;
    assert_eq!(added, PeerEvent::Added { address });
    let online = |event: &PeerEvent| matches!(event, PeerEvent::Changed { to: State::Online, .. });
    let PeerEvent::Changed { name, .. } = heard(&mut events, online).await else { panic!() };
    assert_eq!(name, "machine-1");
    b.peers.shutdown().await;
    b.kill();
    std::fs::remove_file(dir.path().join(persistence::FILE)).unwrap();

    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    assert!(b.peers.get(a.id).unwrap().status().added);
    // Forgotten, it stays away: nothing else knows it. (The other one would greet us, so it must not.)
    a.kill();
    assert!(b.peers.forget(key(1).id()).await.unwrap());
    assert!(!b.peers.forget(key(1).id()).await.unwrap());
    assert!(b.peers.snapshot().is_empty());
    b.peers.shutdown().await;
    b.kill();
    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    assert!(b.peers.snapshot().is_empty() && b.peers.0.searches().is_empty());
}

/// At which addresses nobody has answered yet.
fn unseen(machine: &Machine) -> Vec<String> {
    machine.peers.unseen().into_iter().map(|unseen| unseen.address).collect()
}

#[tokio::test]
async fn what_never_answered_can_be_seen_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    // A port that nobody listens on, and a name that nobody has.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let pinned = format!("{}@nobody.invalid:1", key(3).id());
    b.peers.add(&closed).await.unwrap();
    b.peers.add(&pinned).await.unwrap();
    let expected = [closed.clone(), pinned];
    assert_eq!(unseen(&b), expected);
    assert!(!b.peers.forget_address(&format!("{}@{closed}", key(4).id())).await.unwrap(), "another node is meant");
    assert!(b.peers.forget_address(&closed).await.unwrap());
    assert!(!b.peers.forget_address(&closed).await.unwrap());
    assert!(matches!(b.peers.forget_address("tower").await, Err(PeersError::FixedPeer(_))));
    assert_eq!(b.peers.resolve(&key(3).id().to_string()).unwrap(), key(3).id());
    assert!(b.peers.forget(key(3).id()).await.unwrap());
    assert!(unseen(&b).is_empty() && b.peers.0.searches().is_empty());
    b.peers.shutdown().await;
    b.kill();
    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    assert!(b.peers.0.searches().is_empty());

    // One that was found is forgotten with its address.
    let a = Machine::start(1, Setup::default()).await;
    let address = a.address.to_string();
    b.peers.add(&address).await.unwrap();
    b.sees(a.id, State::Online).await;
    assert!(unseen(&b).is_empty());
    a.kill();
    assert!(b.peers.forget_address(&address).await.unwrap());
    assert!(b.peers.get(key(1).id()).is_none());
}

#[tokio::test]
async fn an_address_with_a_node_id_replaces_the_one_without() {
    let b = Machine::start(2, Setup { fixed: vec!["127.0.0.1:2".to_owned()], ..Setup::default() }).await;
    let (third, fourth) = (format!("{}@127.0.0.1:1", key(3).id()), format!("{}@127.0.0.1:1", key(4).id()));
    for (text, outcome) in [
        ("127.0.0.1:1", Added::New),
        (&third, Added::New),
        (&third, Added::AlreadyThere),
        ("127.0.0.1:1", Added::AlreadyThere),
        (&fourth, Added::New),
        ("127.0.0.1:2", Added::AlreadyThere),
    ] {
        assert_eq!(b.peers.add(text).await.unwrap(), outcome, "{text}");
    }
    let sought: Vec<String> = b.peers.0.searches().iter().map(|search| search.peer.to_string()).collect();
    assert_eq!(sought, ["127.0.0.1:2", &fourth]);
    assert_eq!(b.peers.0.decisions.content().added.len(), 1);
    let error = b.peers.add(&format!("{}@127.0.0.1:2", key(3).id())).await.unwrap_err();
    assert!(matches!(error, PeersError::Configured(_)), "{error}");
}

#[tokio::test]
async fn what_makes_no_sense_is_not_added() {
    let members = Admission::Static([key(2).id()].into());
    let b = Machine::start(2, Setup { admission: members, ..Setup::default() }).await;
    let message = async |uri: &str| b.peers.add(uri).await.unwrap_err().to_string();
    assert!(message("tower").await.starts_with("'tower' is not a peer's address"));
    assert!(message(&format!("{}@tower:1", key(2).id())).await.contains("itself"));
    assert!(message(&format!("{}@tower:1", key(3).id())).await.contains("not among the nodes"));
    assert!(b.peers.0.searches().is_empty());
}

#[tokio::test]
async fn a_blocked_peer_is_refused_both_ways_until_it_is_unblocked() {
    let dir = tempfile::tempdir().unwrap();
    let a = Machine::start(1, Setup::default()).await;
    let fixed = vec![a.address.to_string()];
    let b = Machine::start(2, Setup { fixed: fixed.clone(), state_dir: Some(dir.path()), ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    a.sees(b.id, State::Online).await;
    let mut events = b.peers.subscribe();
    assert!(b.peers.block(a.id, "too\nloud").await.unwrap());
    assert!(!b.peers.block(a.id, "again").await.unwrap());
    let blocked = heard(&mut events, |event| matches!(event, PeerEvent::Blocked { .. })).await;
    assert_eq!(blocked, PeerEvent::Blocked { id: a.id, name: "machine-1".into(), reason: "tooloud".into() });
    let peer = b.peers.get(a.id).unwrap();
    assert_eq!((peer.state(), peer.status().block.unwrap().reason.as_str()), (State::Blocked, "tooloud"));
    assert!(matches!(peer.get("/x", None).await, Err(LinkError::Blocked(reason)) if reason == "tooloud"));
    assert!(matches!(b.peers.ping(a.id).await, Err(PeersError::Link(LinkError::Blocked(_)))));
    // The other side notices with its next new connection.
    assert!(a.peers.ping(b.id).await.is_err());
    // A ban that ends does not end it.
    peer.ban("also a liar", Duration::ZERO);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(peer.state(), State::Blocked);
    assert!(b.peers.forget(a.id).await.unwrap());
    assert_eq!(b.peers.get(a.id).unwrap().state(), State::Blocked, "what is blocked stays visible");
    b.peers.shutdown().await;
    b.kill();

    let b = Machine::start(2, Setup { fixed, state_dir: Some(dir.path()), ..Setup::default() }).await;
    assert_eq!(b.peers.get(a.id).unwrap().state(), State::Blocked);
    assert_eq!(b.peers.blocked().len(), 1);
    let mut events = b.peers.subscribe();
    assert!(b.peers.unblock(a.id).await.unwrap());
    heard(&mut events, |event| matches!(event, PeerEvent::Unblocked { id, .. } if *id == a.id)).await;
    b.sees(a.id, State::Online).await;
    assert!(!b.peers.unblock(a.id).await.unwrap());
    assert!(a.peers.ping(b.id).await.is_ok());
}

#[tokio::test]
async fn a_ban_is_told_and_can_be_lifted() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    let mut events = b.peers.subscribe();
    b.peers.get(a.id).unwrap().ban("it lied", Duration::from_secs(3600));
    let banned = heard(&mut events, |event| matches!(event, PeerEvent::Banned { .. })).await;
    let name = "machine-1".to_owned();
    assert_eq!(banned, PeerEvent::Banned { id: a.id, name, reason: "it lied".into() });
    assert!(b.peers.unblock(a.id).await.unwrap());
    b.sees(a.id, State::Online).await;
}

#[tokio::test]
async fn a_ping_is_an_answer_or_an_error_in_time() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    assert!(b.peers.ping(a.id).await.unwrap() < Duration::from_secs(1));
    assert!(matches!(b.peers.ping(key(9).id()).await, Err(PeersError::NoSuchPeer(_))));
    a.stuck.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    assert!(matches!(b.peers.ping(a.id).await, Err(PeersError::Link(_))));
    assert!(begun.elapsed() < PING_LIMIT + Duration::from_secs(1));
}

#[tokio::test]
async fn a_refresh_looks_at_everybody() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    a.sees(b.id, State::Online).await;
    sleep(Duration::from_millis(300)).await;
    let before = a.greetings.load(Ordering::Relaxed);
    b.peers.refresh();
    let greeted = async {
        while a.greetings.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(2), greeted).await.unwrap();
}

#[tokio::test]
async fn another_configuration_begins_and_ends_searches() {
    let a = Machine::start(1, Setup::default()).await;
    let c = Machine::start(3, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    b.peers.set_fixed(&[c.address.to_string().parse().unwrap()]);
    b.sees(c.id, State::Online).await;
    assert_eq!(b.peers.0.searches().len(), 1);
    // It is still there, but as one like others.
    let status = b.peers.get(a.id).unwrap().status();
    assert!(status.state == State::Online && status.source < Provenance::Fixed, "{status:?}");
    b.peers.set_fixed(&[c.address.to_string().parse().unwrap()]);
    assert_eq!(b.peers.0.searches().len(), 1);
}

#[tokio::test]
async fn people_name_peers_in_several_ways() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup::default()).await;
    b.peers.add(&a.address.to_string()).await.unwrap();
    b.sees(a.id, State::Online).await;
    let text = a.id.to_string();
    for meant in [text.as_str(), &text[..PREFIX_MIN], &text[..20], "machine-1"] {
        assert_eq!(b.peers.resolve(meant).unwrap(), a.id, "{meant}");
    }
    for nobody in [&text[..PREFIX_MIN - 1], "", "machine", key(9).id().to_string().as_str()] {
        assert!(matches!(b.peers.resolve(nobody), Err(PeersError::NoSuchPeer(_))), "{nobody}");
    }
    // A second one of that name.
    b.peers.0.learn(key(4).id(), &[], Provenance::Remembered).unwrap().record().name = "machine-1".to_owned();
    let error = b.peers.resolve("machine-1").unwrap_err().to_string();
    assert!(error.contains(&text) && error.contains(&key(4).id().to_string()), "{error}");
}

#[tokio::test]
async fn what_is_known_survives_a_restart_without_a_file() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    let peer = b.peers.get(a.id).unwrap();
    peer.succeeded(Sample { bytes: 1 << 20, elapsed: Duration::from_millis(10) });
    peer.gave(1 << 20);
    for _ in 0..3 {
        peer.failed(Failure::Status(500));
    }
    let (before, exported) = (peer.status(), b.peers.export());
    b.kill();
    a.kill();
    let b = Machine::start(2, Setup { handover: Some(exported.clone()), ..Setup::default() }).await;
    let after = b.peers.get(key(1).id()).unwrap().status();
    assert_eq!((&after.name, &after.addresses, after.first_seen), (&before.name, &before.addresses, before.first_seen));
    assert_eq!((after.latency_us, after.throughput), (before.latency_us, before.throughput));
    assert_eq!((after.bytes_in, after.failures, after.breaker_ms.is_some()), (1 << 20, 3, true));
    assert_eq!(persistence::import(&b.peers.0, exported).await.unwrap(), 1);
    for bad in [&b""[..], b"{}", br#"{"version":2,"peers":[]}"#] {
        assert!(persistence::import(&b.peers.0, bad.to_vec()).await.is_err());
    }
}

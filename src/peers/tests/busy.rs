//! A peer that has no room for another connection.

use super::*;

#[tokio::test]
async fn a_full_share_is_no_reason_for_doubt() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![format!("{}@{}", a.id, a.address)], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    let mut events = b.peers.subscribe();
    a.full.send(true).unwrap();
    let mut states = Vec::new();
    while states.last() != Some(&State::Online) {
        if let PeerEvent::Changed { id, to, .. } = timeout(WAIT_LIMIT, events.recv()).await.unwrap().unwrap()
            && id == a.id
        {
            states.push(to);
        }
    }
    assert_eq!(states, [State::Suspect, State::Online], "never away");
    let peer = b.peers.get(a.id).unwrap();
    assert!(matches!(peer.get("/x", None).await, Err(LinkError::Busy(address)) if address == a.address));
    assert_eq!((peer.status().failures, peer.status().breaker_ms), (0, None));
    let before = a.greetings.load(Ordering::Relaxed);
    a.full.send(false).unwrap();
    let begun = Instant::now();
    while a.greetings.load(Ordering::Relaxed) == before {
        assert!(begun.elapsed() < WAIT_LIMIT);
        sleep(Duration::from_millis(20)).await; // poll
    }
    b.sees(a.id, State::Online).await;
}

//! Peers: added, found, named, greeted, blocked and forgotten.

use super::{Round, until};
use peernix::control::{Control, ErrorKind, EventKind, PeerFilter};

/// An identity that nobody has here: that of the example in docs/wire-protocol.md.
const NOBODY: &str = "06ji0zvnh6h2mwjj79nsydrf23is0xjcklzy9gavf2mih80rhnnp";

/// The id of a machine, and where its share is.
pub(super) async fn at(machine: &super::Machine) -> (String, String) {
    let id = machine.id().await;
    let uri = format!("{id}@{}", machine.address("share"));
    (id, uri)
}

fn filter(id: Option<&str>, state: Option<&str>) -> PeerFilter {
    PeerFilter { id: id.map(str::to_owned), state: state.map(str::to_owned) }
}

async fn wait_online(control: &dyn Control, id: &str) {
    until("the peer is online", async || control.peer(id).await.is_ok_and(|peer| peer.state == "online")).await;
}

pub(super) async fn checks(round: &mut Round<'_>) {
    let (control, world) = (round.control, round.world);
    for uri in ["", "nonsense", "host:notaport", "host:1/path", &format!("{NOBODY}@"), "host:0"] {
        round.refuses(ErrorKind::InvalidUri, control.add_peer(uri).await);
    }
    let (_, ourselves) = at(&world.here).await;
    round.refuses(ErrorKind::InvalidUri, control.add_peer(&ourselves).await);

    let stranger = format!("{NOBODY}@127.0.0.1:9");
    round.refuses(ErrorKind::InvalidArgument, control.add_peer(&stranger).await);

    let mut listener = round.listen().await;
    let (id, uri) = at(&world.there).await;
    let (other, other_uri) = at(&world.other).await;
    assert!(control.add_peer(&uri).await.unwrap() && !control.add_peer(&uri).await.unwrap());
    let address = |event: &peernix::control::Event| {
        event.message.as_ref().is_some_and(|text| uri.ends_with(text) || text.ends_with(&uri))
    };
    listener.hears(EventKind::PeerAdded, address).await;
    wait_online(control, &id).await;
    assert!(control.add_peer(&other_uri).await.unwrap());
    wait_online(control, &other).await;
    names(round, &id).await;

    let peer = control.peer(&id).await.unwrap();
    assert_eq!((peer.id.as_str(), peer.version.as_str()), (id.as_str(), env!("CARGO_PKG_VERSION")));
    assert!(peer.added && peer.blocked.is_none() && peer.latency_usec.is_some() && peer.last_seen_timestamp.is_some());
    assert!(peer.addresses.contains(&world.there.address("share")), "{:?}", peer.addresses);
    assert_eq!(peer.audience, "enrolled");
    assert!(!control.ping_peer(&id).await.unwrap().is_zero());
    let measured = control.measure_peer(&id).await.unwrap();
    assert!(measured.id == id && measured.bytes > 1 << 20 && measured.duration_usec > 1_000_000, "{measured:?}");
    assert!(measured.latency_usec > 0 && measured.rate() > 1 << 20);
    control.refresh_peers().await.unwrap();
    blocks(round, &id).await;
    forget(round, &id, &other).await;
}

/// What a peer may be called, and what not.
async fn names(round: &mut Round<'_>, id: &str) {
    let control = round.control;
    let all = control.peers(PeerFilter::default()).await.unwrap();
    assert!(all.len() == 2 && all.iter().all(|peer| peer.state == "online"));
    assert_eq!(control.peers(filter(None, Some("online"))).await.unwrap().len(), 2);
    assert_eq!(control.peers(filter(None, Some("blocked"))).await.unwrap(), []);
    for name in [id, &id[..12]] {
        assert_eq!(control.peer(name).await.unwrap().id, id);
        let found = control.peers(filter(Some(name), Some("online"))).await.unwrap();
        assert!(found.len() == 1 && found[0].id == id);
        assert_eq!(control.peers(filter(Some(name), Some("offline"))).await.unwrap(), []);
    }
    round.refuses(ErrorKind::InvalidArgument, control.peers(filter(None, Some("asleep"))).await);
    // Both machines are this one, and so they have one name.
    let name = control.status().await.unwrap().host_name;
    round.refuses(ErrorKind::AmbiguousPeer, control.peer(&name).await.map(drop));
    round.refuses(ErrorKind::AmbiguousPeer, control.peers(filter(Some(&name), None)).await.map(drop));
    round.refuses(ErrorKind::AmbiguousPeer, control.ping_peer(&name).await);
    for nobody in ["nobody", "", "aaa", NOBODY, "\u{1b}[31m"] {
        round.refuses(ErrorKind::NoSuchPeer, control.peer(nobody).await);
        round.refuses(ErrorKind::NoSuchPeer, control.peers(filter(Some(nobody), None)).await);
        round.refuses(ErrorKind::NoSuchPeer, control.ping_peer(nobody).await);
        round.refuses(ErrorKind::NoSuchPeer, control.measure_peer(nobody).await);
        round.refuses(ErrorKind::NoSuchPeer, control.forget_peer(nobody).await);
        round.refuses(ErrorKind::NoSuchPeer, control.unblock_peer(nobody).await);
    }
    round.refuses(ErrorKind::NoSuchPeer, control.block_peer("nobody", "").await);
}

async fn blocks(round: &mut Round<'_>, id: &str) {
    let control = round.control;
    let mut listener = round.listen().await;
    round.refuses(ErrorKind::InvalidArgument, control.block_peer(id, &"x".repeat(1000)).await);
    assert!(control.block_peer(id, "it is loud").await.unwrap());
    assert!(!control.block_peer(&id[..10], "again").await.unwrap());
    let event = listener.hears(EventKind::PeerBlocked, |event| event.peer.as_deref() == Some(id)).await;
    assert_eq!(event.message.as_deref(), Some("it is loud"));
    let peer = control.peer(id).await.unwrap();
    let blocked = peer.blocked.unwrap();
    assert_eq!(
        (peer.state.as_str(), blocked.reason.as_str(), blocked.until_timestamp),
        ("blocked", "it is loud", None)
    );
    assert_eq!(control.peers(filter(None, Some("blocked"))).await.unwrap().len(), 1);
    round.refuses_this(ErrorKind::PeerUnreachable, control.ping_peer(id).await);
    assert!(control.unblock_peer(id).await.unwrap() && !control.unblock_peer(id).await.unwrap());
    listener.hears(EventKind::PeerUnblocked, |event| event.peer.as_deref() == Some(id)).await;
    wait_online(control, id).await;
    assert!(control.peer(id).await.unwrap().blocked.is_none());

    // One that was never seen.
    assert!(control.block_peer(NOBODY, "").await.unwrap());
    assert_eq!(control.peer(NOBODY).await.unwrap().state, "blocked");
    assert_eq!(control.peers(filter(Some(NOBODY), None)).await.unwrap().len(), 1);
    assert!(control.unblock_peer(NOBODY).await.unwrap());
    round.refuses(ErrorKind::NoSuchPeer, control.peer(NOBODY).await);
}

async fn forget(round: &mut Round<'_>, id: &str, other: &str) {
    let control = round.control;
    let mut listener = round.listen().await;
    assert!(control.forget_peer(other).await.unwrap());
    listener.hears(EventKind::PeerRemoved, |event| event.peer.as_deref() == Some(other)).await;
    // It may come back by greeting us, but not as one that somebody added.
    assert!(control.peer(other).await.map_or(true, |peer| !peer.added));
    assert!(control.peer(id).await.unwrap().added, "the other one stays, for what follows");
}

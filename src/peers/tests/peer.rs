//! One peer, over a transport that does what it is told.

use super::*;
use crate::peers::hello::Hello;
use crate::peers::link::{Call, Connection, Pending, Transport};
use crate::peers::peer::Notices;
use crate::peers::relays::Layout;
use crate::peers::table::Table;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::advance;

const LATENCY: Duration = Duration::from_millis(7);

/// Answers every request with nothing, or fails; counts them.
#[derive(Default)]
struct Scripted {
    requests: AtomicUsize,
    fails: AtomicBool,
}

impl Transport for Arc<Scripted> {
    fn request<'a>(&'a self, _: Call<'a>, _: &'a [SocketAddr]) -> Pending<'a, (Response<Incoming>, Duration)> {
        Box::pin(async {
            self.requests.fetch_add(1, Ordering::Relaxed);
            if self.fails.load(Ordering::Relaxed) {
                return Err(LinkError::Closed);
            }
            let (near, far) = tokio::io::duplex(1024);
            let nothing = service_fn(async |_| Ok::<_, LinkError>(Response::new(Empty::<Bytes>::new())));
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), nothing);
            let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
            tokio::spawn(async move { tokio::join!(served, driver) });
            Ok((sender.send_request(hyper::Request::new(Empty::<Bytes>::new())).await?, LATENCY))
        })
    }

    fn dial<'a>(&'a self, _: &'a [SocketAddr]) -> Pending<'a, Connection> {
        Box::pin(async { Err(LinkError::NoAddress) })
    }

    fn adopt(&self, _: &Connection) {}

    fn purge(&self) {}

    fn clear(&self) {}

    fn network_changed(&self, _: bool) {}
}

/// A peer that is online, in a table of its own.
fn peer() -> (Arc<Peer>, Table, Arc<Scripted>) {
    let (id, transport, table) = (key(1).id(), Arc::<Scripted>::default(), Table::default());
    let notices = Arc::new(Notices {
        compression: false,
        events: broadcast::channel(16).0,
        worth_saving: Notify::new(),
        indexes: broadcast::channel(16).0,
        willing: Notify::new(),
        admission: Admission::Open,
        greeting: Arc::default(),
    });
    let boxed = Box::new(transport.clone());
    let peer = Peer::new(id, Provenance::Mdns, boxed, notices, CancellationToken::new(), None);
    let peer = Arc::new(peer);
    table.get_or_insert(id, (&Layout::Mesh, false), || peer.clone());
    let hello = Hello {
        id,
        name: "tower".into(),
        version: String::new(),
        share_port: 1,
        features: Vec::new(),
        instance: String::new(),
        index: String::new(),
        union: String::new(),
        weight: 100,
        membership: String::new(),
        revocations: 0,
        site: String::new(),
    };
    peer.answered(hello, "192.0.2.1:1".parse().unwrap(), LATENCY);
    (peer, table, transport)
}

/// Asks whoever can be asked, ten times; tells how many requests were sent.
async fn ask(table: &Table, transport: &Scripted) -> usize {
    let before = transport.requests.load(Ordering::Relaxed);
    for _ in 0..10 {
        for peer in table.candidates() {
            match peer.get("/x", None).await {
                Ok(_) => peer.succeeded(Sample { bytes: 1 << 20, elapsed: Duration::from_millis(10) }),
                Err(_) => peer.failed(Failure::Link),
            }
        }
    }
    transport.requests.load(Ordering::Relaxed) - before
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_keeps_failing_gets_no_requests_for_a_while() {
    let (peer, table, transport) = peer();
    transport.fails.store(true, Ordering::Relaxed);
    assert_eq!(ask(&table, &transport).await, 3);
    for pause in [2, 4] {
        advance(Duration::from_secs(pause)).await;
        assert_eq!(ask(&table, &transport).await, 1, "one request is the test");
    }
    transport.fails.store(false, Ordering::Relaxed);
    assert_eq!(ask(&table, &transport).await, 0);
    advance(Duration::from_secs(8)).await;
    assert_eq!((ask(&table, &transport).await, peer.status().failures), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peer_in_doubt_is_asked_only_where_this_machine_has_just_moved() {
    let (peer, table, transport) = peer();
    peer.doubted();
    assert_eq!((ask(&table, &transport).await, table.has_others()), (0, true));
    peer.network_changed(false);
    assert_eq!((ask(&table, &transport).await, table.has_others()), (10, false));
    advance(Duration::from_secs(4)).await;
    assert_eq!((ask(&table, &transport).await, table.has_others()), (0, true));
    peer.network_changed(false);
    peer.lost();
    assert_eq!((ask(&table, &transport).await, table.has_others()), (0, false), "it was away before");
}

#[tokio::test(start_paused = true)]
async fn a_banned_peer_is_not_asked() {
    let (peer, table, transport) = peer();
    peer.ban("it lied", Duration::from_secs(60));
    assert_eq!(ask(&table, &transport).await, 0);
    assert!(matches!(peer.get("/x", None).await, Err(LinkError::Blocked(reason)) if reason == "it lied"));
    assert_eq!(transport.requests.load(Ordering::Relaxed), 0);
    advance(Duration::from_secs(61)).await;
    assert!(peer.blocked_until().is_none());
    peer.get("/x", None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_it_does_is_noted() {
    let (peer, table, transport) = peer();
    assert_eq!((peer.latency(), peer.throughput()), (Some(LATENCY), None));
    assert_eq!(ask(&table, &transport).await, 10);
    assert_eq!((peer.latency(), peer.throughput()), (Some(LATENCY), Some(104_857_600.0)));
}

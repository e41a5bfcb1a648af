//! What is seen of fetching from outside, and what may be changed while it runs; with an upstream and with a real peer.

use crate::support::internet::{Internet, Sample, key};
use crate::support::peers::{no_index, online};
use crate::support::{Endless, LIMIT};
use http_body_util::BodyExt;
use hyper::Response;
use peernix::fetch::{FetchEvent, Fetcher, Options, SourceName, SpoolOptions};
use peernix::http::{Body, Handler, Limits, Listener, Request, Route, reply};
use peernix::metrics::{HttpMetrics, Metrics};
use peernix::nix::{Compression, NarInfo, StoreDir};
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeId, NodeKey, Peers, PeersOptions};
use peernix::resilience::Versioned;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const BUDGET: Duration = Duration::from_millis(300);

/// A share that has one path.
struct OnePath {
    peers: Peers,
    sample: Sample,
    /// Leaves out of its narinfo what proves it.
    lies: AtomicBool,
    /// How often it says that it has too much to do before it gives a NAR.
    busy: AtomicU32,
}

impl Handler for OnePath {
    async fn answer(&self, request: Request) -> Response<Body> {
        match request.route {
            Route::Hello => {
                reply::json(&serde_json::from_slice::<serde_json::Value>(&self.peers.hello_response().0).unwrap())
            }
            Route::NarInfo(hash) if hash == self.sample.hash() => {
                let mut info = self.sample.info.clone();
                if self.lies.load(Relaxed) {
                    info.signatures.clear();
                }
                let url = format!("nar/{hash}-{}.nar", info.nar_hash.to_nix32());
                let compression = Compression::None;
                let narinfo = NarInfo { info, url, compression, file_hash: None, file_size: None, extra: vec![] };
                reply::text(narinfo.render(&StoreDir::default()))
            }
            Route::Listing(_) => reply::text(Body::stream(None, Endless)),
            Route::Nar(_) if self.busy.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)).is_ok() => {
                Response::builder().status(503).body(Body::empty()).unwrap()
            }
            Route::Nar(_) => reply::text(self.sample.nar.clone()),
            _ => reply::not_found(),
        }
    }
}

struct Machine {
    peers: Peers,
    id: NodeId,
    share: Arc<OnePath>,
    address: String,
    /// Of the one that looks for it.
    stop: CancellationToken,
}

impl Machine {
    async fn start(sample: Sample) -> Self {
        let key = NodeKey::from_seed([1; 32]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = PeersOptions { name: "tower".into(), share_port: address.port(), ..PeersOptions::default() };
        let stop = CancellationToken::new();
        let peers = Peers::start(options, &key, &stop).await.unwrap();
        // Known to it, so that what it takes is counted.
        peers.introduced(NodeKey::from_seed([2; 32]).id(), "127.0.0.1:1".parse().unwrap(), 1, None);
        let share =
            Arc::new(OnePath { peers: peers.clone(), sample, lies: AtomicBool::new(false), busy: AtomicU32::new(0) });
        let tls = Some(Acceptor::new(&key, Admission::Open).unwrap().guarded_by(&peers));
        let metrics = Arc::new(HttpMetrics::new("share", &Route::NAMES));
        let serving = Listener { handler: share.clone(), limits: Limits::share(), metrics, tls, local_only: false };
        tokio::spawn(Arc::new(serving).serve(listener, stop.clone()));
        Self { peers, id: key.id(), share, address: address.to_string(), stop }
    }
}

async fn fetcher(peers: &Peers, upstreams: &[&Internet]) -> (Fetcher, Arc<Metrics>) {
    let trusted_keys = Versioned::new([key().public()].into_iter().collect());
    let (store_dir, upstreams) =
        (StoreDir::default(), upstreams.iter().map(|internet| internet.url().into()).collect());
    let options = Options {
        trusted_keys,
        store_dir,
        upstreams,
        budget: BUDGET,
        memory: 64 << 20,
        read_ahead: true,
        max_sources: 4,
        spools: SpoolOptions::default(),
        verify_whole: false,
        bases: None,
        download: Default::default(),
        predecessors: Vec::new(),
        site: None,
    };
    let metrics = Arc::new(Metrics::default());
    (Fetcher::new(options, (peers.clone(), no_index(peers), None), Arc::clone(&metrics), TaskTracker::new()), metrics)
}

async fn peers(fixed: &str) -> Peers {
    let fixed = if fixed.is_empty() { vec![] } else { vec![fixed.parse().unwrap()] };
    let options = PeersOptions { discovery: Discovery { mdns: None, fixed }, ..PeersOptions::default() };
    Peers::start(options, &NodeKey::from_seed([2; 32]), &CancellationToken::new()).await.unwrap()
}

/// Fetches a path as Nix does.
async fn fetch(fetcher: &Fetcher, sample: &Sample) -> bool {
    let Some(resolution) = fetcher.narinfo(sample.hash()).await else { return false };
    let nar = fetcher.open(sample.hash(), resolution.info.nar_hash).await.unwrap();
    let body = nar.read(0).await.unwrap();
    body.collect().await.is_ok()
}

async fn next(events: &mut Receiver<FetchEvent>) -> FetchEvent {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event").unwrap()
}

#[tokio::test]
async fn a_busy_peer_is_waited_for_and_not_blamed() {
    let sample = Sample::new(1, 300_000);
    let machine = Machine::start(Sample::new(1, 300_000)).await;
    let peers = peers(&machine.address).await;
    let peer = online(&peers, machine.id).await;
    machine.share.busy.store(2, Relaxed);
    let (fetcher, _) = fetcher(&peers, &[]).await;
    let mut events = fetcher.subscribe();
    assert!(fetch(&fetcher, &sample).await, "it waits");
    let waiting = FetchEvent::TransferWaiting { id: 1, path: sample.info.path.clone(), bytes: 0 };
    assert!(matches!(next(&mut events).await, FetchEvent::TransferStarted { .. }));
    assert_eq!(next(&mut events).await, waiting);
    assert!(matches!(next(&mut events).await, FetchEvent::TransferFinished { result: Ok(()), .. }));
    assert_eq!(peer.state(), peernix::peers::State::Online);
    // Where another has it, nobody waits.
    machine.share.busy.store(99, Relaxed);
    let internet = Internet::start().await;
    let other = Sample::new(1, 300_000);
    internet.publish(&other, &Compression::Xz);
    let (fetcher, _) = self::fetcher(&peers, &[&internet]).await;
    let begun = std::time::Instant::now();
    assert!(fetch(&fetcher, &other).await);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(peer.state(), peernix::peers::State::Online);
}

#[tokio::test]
async fn a_transfer_from_a_peer_is_seen_and_counted() {
    let sample = Sample::new(1, 300_000);
    let machine = Machine::start(Sample::new(1, 300_000)).await;
    let ours = peers(&machine.address).await;
    let peer = online(&ours, machine.id).await;
    let (fetcher, _) = fetcher(&ours, &[]).await;
    let mut events = fetcher.subscribe();
    assert!(!fetcher.in_use().contains(&sample.hash()));
    assert!(fetch(&fetcher, &sample).await);
    let (path, size) = (sample.info.path.clone(), sample.info.nar_size);
    let started = FetchEvent::TransferStarted { id: 1, path: path.clone(), bytes: size };
    assert_eq!(next(&mut events).await, started);
    let FetchEvent::TransferFinished { id: 1, path: finished, bytes, sources, result: Ok(()) } =
        next(&mut events).await
    else {
        panic!()
    };
    assert_eq!((finished, bytes, sources), (path, size, vec![SourceName::Peer(machine.id)]));
    assert!(fetcher.in_use().contains(&sample.hash()));
    assert_eq!(peer.status().bytes_in, size);
    let theirs = machine.peers.get(NodeKey::from_seed([2; 32]).id()).unwrap().status();
    assert!(theirs.bytes_out > size, "{theirs:?}");

    let report = fetcher.sources(sample.hash()).await;
    let [view] = &report.sources[..] else { panic!("{report:?}") };
    assert_eq!((&view.source, view.name.as_str()), (&SourceName::Peer(machine.id), "tower"));
    assert_eq!(
        (view.nar_size, &view.compression, &view.signed_by[..]),
        (size, &Compression::None, &["test-1".into()][..])
    );
    assert_eq!(fetcher.sources(Sample::new(2, 10).hash()).await.absent, [SourceName::Peer(machine.id)]);

    assert!(fetcher.forget_answers().await > 0);
    assert_eq!(fetcher.forget_answers().await, 0);
    machine.share.lies.store(true, Relaxed);
    assert!(fetcher.narinfo(sample.hash()).await.is_none());
    let FetchEvent::Violation { peer: liar, hash, reason, .. } = next(&mut events).await else { panic!() };
    assert!(liar == machine.id && hash == sample.hash() && reason.contains("without a signature"), "{reason}");
    machine.stop.cancel();
}

#[tokio::test]
async fn a_peer_that_is_blocked_gets_nothing_more_on_connections_that_stand() {
    let machine = Machine::start(Sample::new(1, 300_000)).await;
    let ours = peers(&machine.address).await;
    let peer = online(&ours, machine.id).await;
    let path = format!("/{}.narinfo", machine.share.sample.hash());
    let status = async || {
        let response = peer.get(&path, None).await.map_err(|_| ())?;
        let status = response.status().as_u16();
        response.into_body().collect().await.map_err(|_| ())?;
        Ok::<u16, ()>(status)
    };
    assert_eq!(status().await, Ok(200));
    let mut endless = peer.get(&format!("/{}.ls", machine.share.sample.hash()), None).await.unwrap().into_body();
    assert!(endless.frame().await.unwrap().is_ok());
    // The connection is kept once a task of its own has seen the end of the answer.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let us = NodeKey::from_seed([2; 32]).id();
    assert!(machine.peers.block(us, "enough").await.unwrap());
    // The kept connection is answered and closed, a new one is not accepted.
    assert_eq!(status().await, Ok(404));
    assert_eq!(status().await, Err(()));
    // What was under way is cut off.
    let rest = async { while endless.frame().await.expect("it has no end").is_ok() {} };
    tokio::time::timeout(LIMIT, rest).await.expect("it is cut off");
    assert!(machine.peers.unblock(us).await.unwrap());
    assert_eq!(status().await, Ok(200));
    machine.stop.cancel();
}

#[tokio::test]
async fn upstreams_may_change() {
    let (one, two) = (Internet::start().await, Internet::start().await);
    let sample = Sample::new(1, 100_000);
    two.publish(&sample, &Compression::Zstd);
    let ours = peers("").await;
    let (fetcher, metrics) = fetcher(&ours, &[&one]).await;
    assert!(!fetch(&fetcher, &sample).await);
    let report = fetcher.sources(sample.hash()).await;
    assert_eq!((report.sources.len(), report.absent), (0, vec![SourceName::Upstream(one.address.to_string())]));
    // At once, although it was remembered that nobody has it.
    fetcher.set_upstreams(&[one.url().into(), two.url().into()]);
    let mut events = fetcher.subscribe();
    assert!(fetch(&fetcher, &sample).await);
    next(&mut events).await;
    let FetchEvent::TransferFinished { sources, result: Ok(()), .. } = next(&mut events).await else { panic!() };
    let source = SourceName::Upstream(two.address.to_string());
    assert_eq!(sources.as_slice(), std::slice::from_ref(&source));
    let by_host = metrics.snapshot().get(&format!("fetched_upstream_bytes.{}", two.address));
    assert!(by_host > 0 && by_host == metrics.fetched_upstream_bytes.get());
    let report = fetcher.sources(sample.hash()).await;
    assert_eq!((&report.sources[0].source, &report.sources[0].compression), (&source, &Compression::Zstd));

    one.publish(&sample, &Compression::Xz);
    one.fault("narinfo", crate::support::internet::Fault::Silence);
    let report = fetcher.sources(sample.hash()).await;
    assert_eq!(report.sources.len(), 2, "silence on a connection that was kept is no word of an upstream: {report:?}");
    fetcher.set_upstreams(&[]);
    assert!(fetcher.narinfo(sample.hash()).await.is_none());
}

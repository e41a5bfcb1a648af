//! Several machines in one process, over loopback.

mod administration;
mod busy;
mod peer;

use super::link::Acceptor;
use super::table::PEERS_MAX;
use super::*;
use crate::resilience::Versioned;
use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// One machine: its peers, and a share that answers greetings and nothing else.
struct Machine {
    peers: Peers,
    id: NodeId,
    address: SocketAddr,
    share: JoinSet<()>,
    greetings: Arc<AtomicUsize>,
    /// When set, greetings are not answered any more.
    stuck: Arc<AtomicBool>,
    /// When true, connections are closed without a word, also those that there are.
    full: watch::Sender<bool>,
}

#[derive(Default)]
struct Setup<'a> {
    fixed: Vec<String>,
    state_dir: Option<&'a Path>,
    address: Option<SocketAddr>,
    admission: Admission,
    network: Option<watch::Receiver<u64>>,
    handover: Option<Vec<u8>>,
}

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

impl Machine {
    async fn start(seed: u8, setup: Setup<'_>) -> Self {
        let key = key(seed);
        let listener =
            TcpListener::bind(setup.address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Acceptor::new(&key, setup.admission.clone()).unwrap();
        let options = PeersOptions {
            trusted_keys: Versioned::default(),
            name: format!("machine-{seed}"),
            share_port: address.port(),
            admission: setup.admission,
            state_dir: setup.state_dir.map(Path::to_owned),
            discovery: Discovery { mdns: None, fixed: setup.fixed.iter().map(|peer| peer.parse().unwrap()).collect() },
            network: setup.network,
            moves: None,
            relay: false,
            claims: false,
            pieces: false,
            patches: false,
            copies: false,
            compression: false,
            fleet: None,
            site: String::new(),
            handover: setup.handover,
        };
        let peers = Peers::start(options, &key, &CancellationToken::new()).await.unwrap();
        let acceptor = acceptor.guarded_by(&peers);
        let (greetings, stuck) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut share = JoinSet::new();
        let (full, is_full) = watch::channel(false);
        share.spawn(serve(listener, acceptor, peers.clone(), greetings.clone(), stuck.clone(), is_full));
        Self { peers, id: key.id(), address, share, greetings, stuck, full }
    }

    /// Waits until `id` is in `state` here.
    async fn sees(&self, id: NodeId, state: State) {
        let mut events = self.peers.subscribe();
        let wait = async {
            while self.peers.get(id).map(|peer| peer.state()) != Some(state) {
                let _ = events.recv().await;
            }
        };
        let outcome = timeout(WAIT_LIMIT, wait).await;
        assert!(outcome.is_ok(), "{id} should be {state}: {:?}", self.peers.snapshot());
    }

    /// Dies without a word; the kernel closes its connections.
    fn kill(mut self) -> SocketAddr {
        self.share.abort_all();
        self.peers.0.stop.cancel();
        self.address
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: Acceptor,
    peers: Peers,
    greetings: Arc<AtomicUsize>,
    stuck: Arc<AtomicBool>,
    mut full: watch::Receiver<bool>,
) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, remote)) = listener.accept().await {
        if *full.borrow_and_update() {
            continue;
        }
        let mut full = full.clone();
        let (acceptor, peers) = (acceptor.clone(), peers.clone());
        let (greetings, stuck) = (greetings.clone(), stuck.clone());
        connections.spawn(async move {
            let Ok((stream, id)) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
                let (peers, greetings, stuck) = (&peers, &greetings, &stuck);
                async move {
                    greetings.fetch_add(1, Ordering::Relaxed);
                    if stuck.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    if let Some(port) = hello::share_port(request.headers()) {
                        peers.introduced(id, remote, port, None);
                    }
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(peers.hello_response().0)))
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::select! {
                _ = http.serve_connection(TokioIo::new(stream), service) => {}
                _ = full.changed() => {}
            }
        });
    }
}

#[tokio::test]
async fn one_address_makes_both_know_each_other() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    a.sees(b.id, State::Online).await;
    let status = a.peers.get(b.id).unwrap().status();
    assert_eq!(
        (status.name.as_str(), status.source, &status.addresses[..]),
        ("machine-2", Provenance::Introduced, &[b.address][..])
    );
    assert!(status.latency_us.is_some() && status.last_seen.is_some());
    assert_eq!(b.peers.get(a.id).unwrap().status().source, Provenance::Fixed);
    assert_eq!(b.peers.candidates().iter().map(|peer| peer.id()).collect::<Vec<_>>(), [a.id]);
    // Nothing of it is lost on its way to JSON.
    let json = serde_json::to_value(b.peers.snapshot()).unwrap();
    assert_eq!(
        (json[0]["id"].as_str().unwrap(), json[0]["state"].as_str()),
        (a.id.to_string().as_str(), Some("online"))
    );
}

#[tokio::test]
async fn ten_machines_with_one_list_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    // Ports are not known before, so the first machine is in everybody's list and the others greet their way.
    let first = Machine::start(1, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    let mut machines = vec![first];
    for seed in 2..=10 {
        let fixed = machines.iter().map(|machine| format!("{}@{}", machine.id, machine.address)).collect();
        machines.push(Machine::start(seed, Setup { fixed, ..Setup::default() }).await);
    }
    for one in &machines {
        for other in machines.iter().filter(|other| other.id != one.id) {
            one.sees(other.id, State::Online).await;
        }
    }
    assert!(machines.iter().all(|machine| machine.peers.candidates().len() == 9));
    // Every ranking has all of them, and each comes first now and then.
    let firsts: std::collections::BTreeSet<NodeId> = (0..200).map(|_| machines[0].peers.candidates()[0].id()).collect();
    assert_eq!(firsts.len(), 9);
}

#[tokio::test]
async fn a_killed_machine_is_offline_at_once_and_back_at_once() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    a.sees(b.id, State::Online).await;
    let killed = Instant::now();
    let address = b.kill();
    let id = key(2).id();
    a.sees(id, State::Offline).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert!(a.peers.candidates().is_empty());
    sleep(Duration::from_millis(300)).await;
    let restarted = Instant::now();
    let fixed = vec![a.address.to_string()];
    let _b = Machine::start(2, Setup { fixed, address: Some(address), ..Setup::default() }).await;
    a.sees(id, State::Online).await;
    assert!(restarted.elapsed() < Duration::from_secs(1), "{:?}", restarted.elapsed());
}

#[tokio::test]
async fn a_machine_that_does_not_answer_is_offline_after_two_misses() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    a.sees(b.id, State::Online).await;
    b.stuck.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    a.peers.get(b.id).unwrap().failed(Failure::Stalled);
    a.sees(b.id, State::Suspect).await;
    a.sees(b.id, State::Offline).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    b.stuck.store(false, Ordering::Relaxed);
    a.sees(b.id, State::Online).await;
}

#[tokio::test]
async fn peers_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let a = Machine::start(1, Setup::default()).await;
    let fixed = vec![format!("{}@{}", a.id, a.address)];
    let b = Machine::start(2, Setup { fixed, state_dir: Some(dir.path()), ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    b.peers.shutdown().await;
    b.kill();
    a.sees(key(2).id(), State::Offline).await;
    let again = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    again.sees(a.id, State::Online).await;
    let status = again.peers.get(a.id).unwrap().status();
    assert_eq!((status.source, status.name.as_str()), (Provenance::Remembered, "machine-1"));
    a.sees(key(2).id(), State::Online).await;
}

#[tokio::test]
async fn a_memory_that_cannot_be_read_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(persistence::FILE);
    std::fs::write(&path, b"{\"version\":1,\"peers\":[{\"id\":\"x\"}]}").unwrap();
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(
        2,
        Setup { fixed: vec![a.address.to_string()], state_dir: Some(dir.path()), ..Setup::default() },
    )
    .await;
    b.sees(a.id, State::Online).await;
    b.peers.shutdown().await;
    assert!(std::fs::read_to_string(&path).unwrap().contains(&a.id.to_string()));
}

#[tokio::test]
async fn bans_hold_until_they_end_and_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let a = Machine::start(1, Setup::default()).await;
    let fixed = vec![a.address.to_string()];
    let b = Machine::start(2, Setup { fixed: fixed.clone(), state_dir: Some(dir.path()), ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    let peer = b.peers.get(a.id).unwrap();
    peer.ban("sent\nwrong bytes", Duration::from_secs(3600));
    assert_eq!(peer.state(), State::Blocked);
    assert!(b.peers.candidates().is_empty());
    assert!(matches!(peer.get("/x", None).await, Err(LinkError::Blocked(reason)) if reason == "sentwrong bytes"));
    b.peers.shutdown().await;
    b.kill();

    let again = Machine::start(2, Setup { fixed, state_dir: Some(dir.path()), ..Setup::default() }).await;
    let peer = again.peers.get(a.id).unwrap();
    let ban = peer.status().ban.unwrap();
    assert!(ban.seconds > 3000 && ban.reason == "sentwrong bytes", "{ban:?}");
    // Greetings do not lift it.
    again.peers.introduced(a.id, a.address, a.address.port(), None);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(peer.state(), State::Blocked);
    peer.ban("a shorter one", Duration::from_millis(100));
    again.sees(a.id, State::Online).await;
    assert!(peer.status().ban.is_none());
}

#[tokio::test]
async fn a_ban_that_was_written_by_a_wrong_clock_is_no_longer_than_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let id = key(1).id();
    // Ten minutes, written by a machine that believed to be ten years ahead.
    let ahead = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 10 * 365 * 86_400;
    let content = format!(
        r#"{{"version":1,"peers":[{{"id":"{id}","name":"","addresses":["127.0.0.1:1"],"last_seen":{ahead},
            "ban":{{"until":{},"reason":"it lied","left":600,"written":{ahead}}}}}]}}"#,
        ahead + 600,
    );
    std::fs::write(dir.path().join(persistence::FILE), content).unwrap();
    let b = Machine::start(2, Setup { state_dir: Some(dir.path()), ..Setup::default() }).await;
    let ban = b.peers.get(id).unwrap().status().ban.unwrap();
    assert!((500..=600).contains(&ban.seconds), "{ban:?}");
    b.peers.shutdown().await;
    // And what is written now is what is left.
    let written = std::fs::read_to_string(dir.path().join(persistence::FILE)).unwrap();
    let again: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(again["peers"][0]["ban"]["left"].as_u64().is_some_and(|left| left <= 600), "{written}");
}

#[tokio::test]
async fn strangers_stay_outside_a_static_fleet() {
    let members = || Admission::Static([key(1).id(), key(2).id()].into());
    let a = Machine::start(1, Setup { admission: members(), ..Setup::default() }).await;
    let fixed = vec![a.address.to_string()];
    let stranger = Machine::start(3, Setup { fixed: fixed.clone(), ..Setup::default() }).await;
    let b = Machine::start(2, Setup { fixed, admission: members(), ..Setup::default() }).await;
    a.sees(b.id, State::Online).await;
    assert!(a.peers.get(stranger.id).is_none());
    stranger.sees(a.id, State::Offline).await;
    assert_eq!(a.peers.snapshot().len(), 1);
    // Nor are they dialled.
    a.peers.introduced(stranger.id, stranger.address, stranger.address.port(), None);
    assert!(a.peers.get(stranger.id).is_none());
}

#[tokio::test]
async fn requests_are_kept_away_from_a_peer_that_keeps_failing() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    let peer = b.peers.get(a.id).unwrap();
    for _ in 0..3 {
        assert_eq!(b.peers.candidates().len(), 1);
        peer.failed(Failure::Status(500));
    }
    assert!(b.peers.candidates().is_empty());
    assert!(peer.status().breaker_ms.is_some_and(|rest| (500..1300).contains(&rest)));
    // It is well otherwise.
    assert_eq!(peer.state(), State::Online);
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(b.peers.candidates().len(), 1);
    peer.succeeded(Sample { bytes: 1 << 20, elapsed: Duration::from_millis(10) });
    assert_eq!((peer.status().failures, peer.status().throughput), (0, Some(104_857_600)));
}

#[tokio::test]
async fn the_table_is_bounded_and_strangers_go_first() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(2, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    a.sees(b.id, State::Online).await;
    let nobody = "127.0.0.1:1".parse().unwrap();
    let fake = |n: u32| {
        let mut seed = [0xee; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        NodeKey::from_seed(seed).id()
    };
    for n in 0..5000 {
        a.peers.0.learn(fake(n), &[nobody], Provenance::Remembered);
    }
    assert_eq!(a.peers.snapshot().len(), PEERS_MAX);
    assert_eq!(a.peers.get(b.id).unwrap().state(), State::Online);
    assert!(a.peers.get(fake(0)).is_none() && a.peers.get(fake(4999)).is_some());
    assert_eq!(a.peers.candidates().len(), 1);
    // Those who come by themselves come slowly: so many at once, and so many a second.
    let begun = Instant::now();
    for n in 5000..6000 {
        a.peers.introduced(fake(n), nobody, 1, None);
    }
    let came = (5000..6000).filter(|n| a.peers.get(fake(*n)).is_some()).count();
    let most = 150 + 50 * usize::try_from(begun.elapsed().as_secs() + 1).unwrap();
    assert!((50..most).contains(&came), "{came} of {most}");
}

#[tokio::test]
async fn a_change_of_the_network_is_a_reason_to_look() {
    let (change, network) = watch::channel(0);
    let a = Machine::start(1, Setup::default()).await;
    let fixed = vec![format!("{}@{}", a.id, a.address)];
    let b = Machine::start(2, Setup { fixed, network: Some(network), ..Setup::default() }).await;
    b.sees(a.id, State::Online).await;
    a.sees(b.id, State::Online).await;
    sleep(Duration::from_millis(300)).await;
    let before = a.greetings.load(Ordering::Relaxed);
    change.send(1).unwrap();
    let greeted = async {
        while a.greetings.load(Ordering::Relaxed) == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(2), greeted).await.unwrap();
}

#[tokio::test]
async fn our_own_address_is_not_a_peer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fixed = vec![address.to_string(), format!("{}@{address}", key(1).id())];
    let a = Machine::start(1, Setup { fixed, address: Some(address), ..Setup::default() }).await;
    a.peers.introduced(a.id, address, address.port(), None);
    sleep(Duration::from_millis(300)).await;
    assert!(a.peers.snapshot().is_empty(), "{:?}", a.peers.snapshot());
    assert_eq!(a.peers.troubles().borrow().twin, None, "it is we ourselves");
}

#[tokio::test]
async fn another_machine_with_our_key_is_noticed_by_both() {
    let a = Machine::start(1, Setup::default()).await;
    let b = Machine::start(1, Setup { fixed: vec![a.address.to_string()], ..Setup::default() }).await;
    let twin = async |machine: &Machine| {
        let mut troubles = machine.peers.troubles();
        let found = timeout(WAIT_LIMIT, troubles.wait_for(|troubles| troubles.twin.is_some())).await;
        found.unwrap().unwrap().twin.unwrap()
    };
    assert_eq!(twin(&b).await, a.address);
    // It greets, as everybody does who finds somebody.
    a.peers.introduced(b.id, b.address, b.address.port(), None);
    assert_eq!(twin(&a).await, b.address);
    assert!(a.peers.snapshot().is_empty() && b.peers.snapshot().is_empty());
}

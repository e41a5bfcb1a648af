//! What looks like a lie and is none: another key under a trusted name, a damaged file, a realisation that nobody signed.

use crate::support::nix::NixStore;
use crate::support::peers::{no_index, online};
use crate::support::{LIMIT, Running, serve_with};
use peernix::fetch::{self, Fetcher};
use peernix::http::{Limits, ShareEvent};
use peernix::keys::Signing;
use peernix::metrics::Metrics;
use peernix::nix::realisation::{DrvOutput, Realisation};
use peernix::nix::trace::TraceId;
use peernix::nix::{PublicKey, SecretKey};
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeKey, Peer, Peers, PeersOptions, State};
use peernix::resilience::Versioned;
use peernix::store::SharePolicyMode;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A machine that shares a store, and one that fetches from it.
struct Two {
    serving: Running,
    told: Receiver<ShareEvent>,
    asking: Peers,
    peer: Arc<Peer>,
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Two {
    /// The second one trusts `trusted`.
    async fn over(store: &NixStore, trusted: PublicKey) -> Self {
        let policy = Versioned::new(store.policy(SharePolicyMode::Signed, &[]));
        let share = store.share_following(&policy, &Versioned::new(Signing::default())).await;
        let told = share.subscribe();
        let (theirs, ours) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let stop = CancellationToken::new();
        let peers = Peers::start(PeersOptions::default(), &theirs, &stop).await.unwrap();
        let acceptor = Acceptor::new(&theirs, Admission::Open).unwrap();
        let handler = share.towards_peers(peers.clone(), no_index(&peers), Admission::Open);
        let serving = serve_with(handler, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
        let fixed = vec![serving.address.to_string().parse().unwrap()];
        let trusted_keys = Versioned::new([trusted].into_iter().collect());
        let discovery = Discovery { mdns: None, fixed };
        let options = PeersOptions { discovery, trusted_keys: trusted_keys.clone(), ..PeersOptions::default() };
        let asking = Peers::start(options, &ours, &stop).await.unwrap();
        let peer = online(&asking, theirs.id()).await;
        let options = fetch::Options {
            trusted_keys,
            store_dir: store.dir(),
            upstreams: vec![],
            budget: Duration::from_secs(5),
            memory: 64 << 20,
            read_ahead: true,
        };
        let metrics = Arc::new(Metrics::default());
        let fetcher =
            Fetcher::new(options, asking.clone(), no_index(&asking), Arc::clone(&metrics), TaskTracker::new());
        Self { serving, told, asking, peer, fetcher, metrics, stop }
    }

    async fn has(&self, store: &NixStore, name: &str) -> bool {
        self.fetcher.narinfo(store.paths[name].hash()).await.is_some()
    }

    /// What the other machine answers to a question for a path.
    async fn status(&self, store: &NixStore, name: &str) -> u16 {
        let path = format!("/{}.narinfo", store.paths[name].hash());
        self.peer.get(&path, None).await.unwrap().status().as_u16()
    }

    /// Whether the NAR of a path comes.
    async fn comes(&self, store: &NixStore, name: &str) -> bool {
        let nar = self.fetcher.open(store.paths[name].hash(), store.nar_hash(name)).await;
        match nar {
            Some(nar) => nar.read(0).await.is_some(),
            None => false,
        }
    }

    async fn end(self) {
        self.asking.shutdown().await;
        self.stop.cancel();
        self.serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_a_trusted_name_is_not_for_us_and_bans_nobody() {
    let store = NixStore::shared();
    let same_name = SecretKey::from_seed(store.key.name(), [7; 32]).unwrap().public();
    assert_ne!(same_name, store.key);
    let two = Two::over(&store, same_name).await;
    assert!(!two.has(&store, "dep").await, "it is signed by another key");
    assert_eq!((two.peer.state(), two.metrics.peers_banned.get()), (State::Online, 0));
    two.end().await;
    let two = Two::over(&store, store.key.clone()).await;
    assert!(two.has(&store, "dep").await);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_bars_its_path_and_its_owner_finds_it() {
    let store = NixStore::make();
    let mut two = Two::over(&store, store.key.clone()).await;
    assert!(two.comes(&store, "dep").await);
    let file = store.root().join("store").join(store.paths["app"].to_string()).join("large");
    let right = fs::read(&file).unwrap();
    let mut wrong = right.clone();
    wrong[1_000_000] ^= 1;
    let write = |content: &[u8]| {
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
    };
    write(&wrong);
    assert!(!two.comes(&store, "app").await, "it is not what was signed");
    assert!(two.peer.is_barred(store.paths["app"].hash()) && two.metrics.peers_banned.get() == 0);

    let told = timeout(LIMIT, two.told.recv()).await.expect("it looks at its own copy").unwrap();
    assert_eq!(told, ShareEvent::Damaged(store.paths["app"].clone()));
    assert_eq!((two.status(&store, "app").await, two.status(&store, "dep").await), (404, 200));
    assert!(two.has(&store, "debug").await, "everything else is asked of it as ever");
    write(&right);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn realisations_come_from_a_peer_if_a_trusted_key_signed_them() {
    let store = NixStore::shared();
    let cache = tempfile::tempdir().unwrap();
    let (expression, to) = (store.root().join("default.nix"), format!("file://{}", cache.path().display()));
    for name in ["addressed", "untraced"] {
        store.run("nix", &["copy", "--impure", "-f", expression.to_str().unwrap(), name, "--to", &to]);
    }
    let two = Two::over(&store, store.key.clone()).await;
    let mut believed = Vec::new();
    for entry in fs::read_dir(cache.path().join("realisations")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let id: DrvOutput = name.strip_suffix(".doi").unwrap().parse().unwrap();
        believed.extend(two.fetcher.trace(&format!("/realisations/{name}"), TraceId::Realisation(id)).await);
    }
    let [one] = believed.as_slice() else { panic!("{believed:?}") };
    assert_eq!(Realisation::parse(one).unwrap().out_path, store.paths["addressed"]);
    assert_eq!((two.peer.state(), two.metrics.peers_banned.get()), (State::Online, 0));
    two.end().await;
}

//! What a machine offers is known to its peers: a question for anything else sends nothing.

use crate::support::nix::NixStore;
use crate::support::peers::{no_index, online};
use crate::support::{Running, serve_with, until};
use peernix::fetch::{self, Fetcher};
use peernix::http::Limits;
use peernix::index::{Index, Says, Update};
use peernix::keys::Signing;
use peernix::metrics::Metrics;
use peernix::nix::StoreHash;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeId, NodeKey, Peer, Peers, PeersOptions};
use peernix::resilience::Versioned;
use peernix::store::{Audience, SharePolicyMode};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A machine that shares a store, and one that follows what it offers.
struct Two {
    serving: Running,
    asking: Peers,
    peer: Arc<Peer>,
    index: Index,
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Two {
    /// The first one tells an index if it `offers`.
    async fn over(store: &NixStore, offers: bool) -> Self {
        let policy = Versioned::new(store.policy(SharePolicyMode::Signed, &["*-secret*"]));
        let share = store.share_following(&policy, &Versioned::new(Signing::default())).await;
        let (theirs, ours) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let stop = CancellationToken::new();
        let peers = Peers::start(PeersOptions::default(), &theirs, &stop).await.unwrap();
        let offered = Index::new(peers.clone(), offers, Arc::default());
        tokio::spawn(Arc::clone(&share).offer(offered.clone(), Audience::Anyone, stop.clone()));
        let acceptor = Acceptor::new(&theirs, Admission::Open).unwrap();
        let handler = share.towards_peers(peers, offered, Admission::Open);
        let serving = serve_with(handler, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
        let fixed = vec![serving.address.to_string().parse().unwrap()];
        let trusted_keys = Versioned::new([store.key.clone()].into_iter().collect());
        let discovery = Discovery { mdns: None, fixed };
        let options = PeersOptions { discovery, trusted_keys: trusted_keys.clone(), ..PeersOptions::default() };
        let asking = Peers::start(options, &ours, &stop).await.unwrap();
        let metrics = Arc::new(Metrics::default());
        let index = Index::new(asking.clone(), false, Arc::clone(&metrics));
        tokio::spawn(index.clone().run(stop.clone()));
        let peer = online(&asking, theirs.id()).await;
        let options = fetch::Options {
            trusted_keys,
            store_dir: store.dir(),
            upstreams: vec![],
            budget: Duration::from_secs(5),
            memory: 64 << 20,
            read_ahead: true,
        };
        let fetcher = Fetcher::new(options, asking.clone(), index.clone(), Arc::clone(&metrics), TaskTracker::new());
        Self { serving, asking, peer, index, fetcher, metrics, stop }
    }

    fn says(&self, hash: StoreHash) -> Says {
        self.index.ask(hash, &[self.peer.id()])[0]
    }

    /// Waits until the second one knows this. It has no share and is not called: it is made to look.
    async fn known(&self, store: &NixStore, name: &str, says: Says) {
        let hash = store.paths[name].hash();
        until("the index says so", async || {
            self.asking.refresh();
            self.says(hash) == says
        })
        .await;
    }

    /// How many narinfos the first one was asked for.
    fn asked(&self) -> u64 {
        let narinfos = self.serving.metrics.requests().filter(|(route, ..)| *route == "narinfo");
        narinfos.map(|(_, _, count)| count).sum()
    }

    async fn end(self) {
        self.asking.shutdown().await;
        self.stop.cancel();
        self.serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_costs_no_request_and_what_is_new_is_known() {
    let store = NixStore::make();
    let two = Two::over(&store, true).await;
    two.known(&store, "app", Says::Yes).await;
    for hidden in ["unsigned", "stranger", "denied"] {
        assert_eq!(two.says(store.paths[hidden].hash()), Says::No, "{hidden} is not offered");
    }
    let before = two.asked();
    for number in 0..100 {
        assert!(two.fetcher.narinfo(StoreHash::new([number; 20])).await.is_none());
    }
    assert_eq!((two.asked() - before, two.metrics.index_saved.get()), (0, 100));
    assert!(two.fetcher.narinfo(store.paths["app"].hash()).await.is_some());
    assert_eq!(two.asked() - before, 1);
    // Missed before it was there, and found as soon as it is.
    let unsigned = store.paths["unsigned"].hash();
    assert!(two.fetcher.narinfo(unsigned).await.is_none());
    store.sign("counts", &["unsigned"]);
    two.known(&store, "unsigned", Says::Yes).await;
    assert!(two.fetcher.narinfo(unsigned).await.is_some(), "the miss is forgotten");
    store.run("nix-store", &["--delete", &store.full("stranger"), &store.full("huge")]);
    two.known(&store, "huge", Says::No).await;
    assert_eq!(two.metrics.index_wrong_claims.get(), 0);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_no_index_is_asked() {
    let store = NixStore::shared();
    let two = Two::over(&store, false).await;
    assert_eq!((two.peer.index(), two.says(store.paths["app"].hash())), (None, Says::Unknown));
    assert!(two.fetcher.narinfo(store.paths["app"].hash()).await.is_some());
    assert!(two.fetcher.narinfo(StoreHash::new([1; 20])).await.is_none());
    assert_eq!((two.asked(), two.metrics.index_saved.get()), (2, 0));
    let answer = two.peer.get(peernix::index::TARGET, None).await.unwrap();
    assert_eq!(answer.status(), 404);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_and_not_there_costs_one_request() {
    let store = NixStore::make();
    let two = Two::over(&store, true).await;
    two.known(&store, "app", Says::Yes).await;
    // As if it had been there, and the word that it is gone had not come yet.
    let id: NodeId = two.peer.id();
    let gone = StoreHash::new([9; 20]);
    let state = two.peer.index().unwrap();
    let entry = peernix::index::Salt::OPEN.entry(gone.prefix());
    let claim = Update::Changes { state, added: vec![entry], removed: vec![] };
    two.index.update(id, claim).unwrap();
    let before = two.asked();
    for _ in 0..3 {
        assert!(two.fetcher.narinfo(gone).await.is_none());
        two.fetcher.network_changed(false);
    }
    assert_eq!((two.asked() - before, two.metrics.index_wrong_claims.get()), (1, 1), "it is not believed again");
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_share_tells_nobody() {
    let store = NixStore::shared();
    let share = store.share(SharePolicyMode::Signed, 0).await;
    let peers = Peers::start(PeersOptions::default(), &NodeKey::from_seed([1; 32]), &CancellationToken::new()).await;
    let peers = peers.unwrap();
    assert!(no_index(&peers).answer(None).is_none());
    let server = serve_with(share.plain(), Limits::share(), None, "127.0.0.1:0").await;
    let answer = crate::support::client::Client::connect(server.address).await.get(peernix::index::TARGET).await;
    assert_eq!(answer.status, 404);
    server.end().await;
    peers.shutdown().await;
}

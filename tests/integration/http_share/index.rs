//! What a machine offers is known to its peers: a question for anything else sends nothing.

use super::two::Two;
use crate::support::nix::NixStore;
use crate::support::peers::no_index;
use crate::support::{serve_with, until};
use peernix::http::Limits;
use peernix::index::{Says, Update};
use peernix::nix::StoreHash;
use peernix::peers::{NodeId, NodeKey, Peers, PeersOptions};
use peernix::store::SharePolicyMode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

impl Two {
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

    /// How often the first one was asked for a narinfo.
    fn asked(&self) -> u64 {
        self.requests("narinfo")
    }

    /// How many requests of a kind the first one had.
    fn requests(&self, kind: &str) -> u64 {
        self.serving.metrics.requests().filter(|(route, ..)| *route == kind).map(|(_, _, count)| count).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_at_the_same_time_goes_together() {
    let store = NixStore::make();
    let two = Two::over(&store, store.key.clone(), false).await;
    let mut wanted: Vec<StoreHash> = (0..100).map(|number| StoreHash::new([number; 20])).collect();
    wanted.push(store.paths["app"].hash());
    let mut asked = JoinSet::new();
    for hash in wanted {
        let fetcher = two.fetcher.clone();
        asked.spawn(async move { (hash, fetcher.narinfo(hash).await) });
    }
    let found: Vec<StoreHash> =
        asked.join_all().await.into_iter().filter(|(_, found)| found.is_some()).map(|(hash, _)| hash).collect();
    assert_eq!(found, [store.paths["app"].hash()]);
    let (alone, together) = (two.requests("narinfo"), two.requests("narinfo-batch"));
    assert!(together > 0 && alone + together < 20, "{alone} alone, {together} together");
    // One after another they wait for nobody.
    for number in 100..110 {
        assert!(two.fetcher.narinfo(StoreHash::new([number; 20])).await.is_none());
    }
    assert_eq!((two.requests("narinfo") - alone, two.requests("narinfo-batch")), (10, together));
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_costs_no_request_and_what_is_new_is_known() {
    let store = NixStore::make();
    let two = Two::over(&store, store.key.clone(), true).await;
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
    let two = Two::over(&store, store.key.clone(), false).await;
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
    let two = Two::over(&store, store.key.clone(), true).await;
    two.known(&store, "app", Says::Yes).await;
    // As if it had been there, and the word that it is gone had not come yet.
    let id: NodeId = two.peer.id();
    let gone = StoreHash::new([9; 20]);
    let state = two.peer.index().unwrap();
    let entry = peernix::index::Salt::OPEN.entry(gone.prefix());
    let claim = Update::Changes { state, added: vec![entry], removed: vec![] };
    two.index.update(id, claim, 0).unwrap();
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

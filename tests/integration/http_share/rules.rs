//! What changes while the share serves: policy, signing keys, and the keys that those who ask trust.

use crate::support::client::Client;
use crate::support::nix::NixStore;
use crate::support::peers::{no_index, online};
use crate::support::{serve, serve_with};
use hyper::Response;
use peernix::fetch::{self, Fetcher, SpoolOptions};
use peernix::http::{Body, Handler, Limits, Request, Route, reply};
use peernix::keys::{KeySource, SigningKeys, SigningOptions};
use peernix::nix::{Compression, NarHash, NarInfo, PathInfo, SecretKey, StoreDir, StoreHash, StorePath, TrustedKeys};
use peernix::peers::link::Acceptor;
use peernix::peers::trusted_keys::SignedBy;
use peernix::peers::{Admission, Discovery, NodeKey, Peers, PeersOptions, State};
use peernix::resilience::Versioned;
use peernix::store::{Decision, Reason, SharePolicyMode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

async fn signing_keys(state: &tempfile::TempDir) -> SigningKeys {
    let options = SigningOptions {
        state_dir: state.path().to_owned(),
        source: KeySource::State,
        name: String::new(),
        host: "tower".into(),
        grace: Duration::from_secs(3600),
    };
    SigningKeys::open(options).await.unwrap()
}

/// The names of the keys whose signatures of `info` are valid, in their order.
fn signers(store: &NixStore, keys: &SigningKeys, info: &PathInfo) -> Vec<String> {
    let ours = keys.versioned().now().own.valid_signatures(info, &store.dir());
    let trusted: TrustedKeys = [store.key.clone()].into_iter().collect();
    let theirs = trusted.valid_signatures(info, &store.dir());
    assert_eq!(ours.len() + theirs.len(), info.signatures.len(), "each is valid: {:?}", info.signatures);
    info.signatures.iter().map(|signature| signature.key_name().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos_follow_a_rotation() {
    let store = NixStore::shared();
    let state = tempfile::tempdir().unwrap();
    let keys = signing_keys(&state).await;
    let policy = Versioned::new(store.policy(SharePolicyMode::Signed, &[]));
    let share = store.share_following(&policy, keys.versioned()).await;
    let server = serve(share.plain(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    let path = format!("/{}.narinfo", store.paths["dep"].hash());
    let mut told = Vec::new();
    for step in ["none", "first", "rotated", "rotated again", "revoked", "grace is over"] {
        match step {
            "none" => {}
            "first" => assert!(keys.ensure().await.unwrap()),
            "revoked" => assert!(keys.revoke("tower-1", "stolen").await.unwrap().is_some()),
            "grace is over" => drop(keys.rotate(Some(Duration::ZERO)).await.unwrap()),
            _ => drop(keys.rotate(None).await.unwrap()),
        }
        // At once, although what was put together a moment ago is fresh.
        let narinfo = NarInfo::parse(client.get(&path).await.text(), &store.dir()).unwrap();
        told.push(signers(&store, &keys, &narinfo.info).join(" "));
    }
    let expected = [
        "counts",
        "counts tower-1",
        "counts tower-2 tower-1",
        "counts tower-3 tower-2 tower-1",
        "counts tower-3 tower-2",
        "counts tower-4 tower-2",
    ];
    assert_eq!(told, expected);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_holds_at_once_and_says_why() {
    let store = NixStore::shared();
    let policy = Versioned::new(store.policy(SharePolicyMode::Signed, &[]));
    let share = store.share_following(&policy, &Versioned::default()).await;
    let server = serve(share.plain(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    let hash = store.paths["dep"].hash();
    let urls = [
        format!("/{hash}.narinfo"),
        format!("/nar/{hash}-{}.nar", store.nar_hash("dep").to_nix32()),
        format!("/log/{}", store.deriver("dep")),
    ];
    let refuse = Decision::Refuse;
    for (mode, deny, status, why) in [
        (SharePolicyMode::Signed, vec![], 200, Decision::Serve),
        (SharePolicyMode::Off, vec![], 404, refuse(Reason::Off)),
        (SharePolicyMode::SignedAndOwn, vec![], 200, Decision::Serve),
        (SharePolicyMode::Signed, vec!["de?"], 404, refuse(Reason::Denied("de?".into()))),
    ] {
        policy.set(store.policy(mode, &deny));
        for url in &urls {
            assert_eq!(client.get(url).await.status, status, "{url} with {mode:?} {deny:?}");
        }
        assert_eq!(share.explain(hash).await.unwrap().unwrap().anyone, why);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_audiences_are_explained() {
    let store = NixStore::shared();
    let state = tempfile::tempdir().unwrap();
    let keys = signing_keys(&state).await;
    let policy = Versioned::new(store.policy(SharePolicyMode::SignedAndOwn, &["*-secret*"]));
    let share = store.share_following(&policy, keys.versioned()).await;
    keys.ensure().await.unwrap();
    let explained = share.explain(store.paths["unsigned"].hash()).await.unwrap().unwrap();
    assert_eq!(explained.path.info.path, store.paths["unsigned"]);
    let decisions = (explained.anyone, explained.enrolled);
    assert_eq!(decisions, (Decision::Refuse(Reason::OwnForEnrolledOnly), Decision::Serve));
    assert_eq!(explained.signed_here_by, ["tower-1"]);
    let denied = share.explain(store.paths["denied"].hash()).await.unwrap().unwrap();
    assert!(matches!(denied.enrolled, Decision::Refuse(Reason::Denied(_))), "the rest of the policy stays");
    assert!(share.explain(StoreHash::new([0; 20])).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_told_of_other_trusted_keys() {
    let store = NixStore::shared();
    let share = store.share(SharePolicyMode::Signed, 0).await;
    let (ours, theirs) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
    let stop = CancellationToken::new();
    let serving = Peers::start(PeersOptions::default(), &ours, &stop).await.unwrap();
    let acceptor = Acceptor::new(&ours, Admission::Open).unwrap();
    let face = share.towards_peers(serving.clone(), no_index(&serving), Admission::Open);
    let server = serve_with(face, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
    let fixed = vec![server.address.to_string().parse().unwrap()];
    let discovery = Discovery { mdns: None, fixed };
    let key = |name| SecretKey::from_seed(name, [7; 32]).unwrap().public();
    let (ours_too, other, same_name) = (store.key.clone(), key("other-1"), key("counts"));
    let keys = Versioned::new(TrustedKeys::from_iter([ours_too.clone()]));
    let options = PeersOptions { discovery, trusted_keys: keys.clone(), ..PeersOptions::default() };
    let asking = Peers::start(options, &theirs, &stop).await.unwrap();
    let peer = online(&asking, ours.id()).await;
    let path = format!("/{}.narinfo", store.paths["dep"].hash());
    for (trusted, status, is_told) in [
        (vec![ours_too.clone()], 200, true),
        (vec![other.clone()], 404, false),
        (vec![same_name], 404, false),
        (vec![other, ours_too.clone()], 200, true),
        (vec![], 200, false),
    ] {
        keys.set(trusted.iter().cloned().collect());
        let answer = peer.get(&path, None).await.unwrap();
        let signed_by = SignedBy::of(answer.headers()).names(&ours_too);
        assert_eq!((answer.status().as_u16(), signed_by), (status, is_told), "{trusted:?}");
    }
    asking.shutdown().await;
    stop.cancel();
    server.end().await;
}

/// A peer that takes its time with a narinfo.
struct Late {
    peers: Peers,
    narinfo: String,
    arrived: Notify,
    told: Semaphore,
}

impl Handler for Late {
    async fn answer(&self, request: Request) -> Response<Body> {
        match request.route {
            Route::Hello => reply::text(self.peers.hello_response().0),
            Route::NarInfo(_) => {
                self.arrived.notify_one();
                drop(self.told.acquire().await.unwrap());
                reply::text(self.narinfo.clone())
            }
            _ => reply::not_found(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_banned_for_an_answer_to_another_question() {
    let key = |name| SecretKey::from_seed(name, [7; 32]).unwrap();
    let trusted = |name| [key(name).public()].into_iter().collect::<TrustedKeys>();
    let dir = StoreDir::default();
    let path = StorePath::new(StoreHash::new([1; 20]), "sample").unwrap();
    let (nar_hash, hash) = (NarHash::new([2; 32]), path.hash());
    let mut info =
        PathInfo { path, nar_hash, nar_size: 96, references: vec![], deriver: None, signatures: vec![], ca: None };
    info.signatures = vec![key("b-1").sign(&info, &dir)];
    let url = format!("nar/{hash}-{}.nar", nar_hash.to_nix32());
    let compression = Compression::None;
    let narinfo = NarInfo { info, url, compression, file_hash: None, file_size: None, extra: vec![] }.render(&dir);

    let (ours, theirs) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
    let stop = CancellationToken::new();
    let peers = Peers::start(PeersOptions::default(), &theirs, &stop).await.unwrap();
    let acceptor = Acceptor::new(&theirs, Admission::Open).unwrap();
    let late = Arc::new(Late { peers, narinfo, arrived: Notify::new(), told: Semaphore::new(0) });
    let server = serve_with(Shared(Arc::clone(&late)), Limits::share(), Some(acceptor), "127.0.0.1:0").await;
    let fixed = vec![server.address.to_string().parse().unwrap()];
    let options = PeersOptions { discovery: Discovery { mdns: None, fixed }, ..PeersOptions::default() };
    let asking = Peers::start(options, &ours, &stop).await.unwrap();
    let peer = online(&asking, theirs.id()).await;
    let keys = Versioned::new(trusted("a-1"));
    let options = fetch::Options {
        trusted_keys: keys.clone(),
        store_dir: dir,
        upstreams: vec![],
        budget: Duration::from_secs(5),
        memory: 0,
        read_ahead: true,
        max_sources: 4,
        spools: SpoolOptions::default(),
        verify_whole: false,
        bases: None,
        download: Default::default(),
        predecessors: Vec::new(),
        site: None,
    };
    let fetcher = Fetcher::new(options, (asking.clone(), no_index(&asking), None), Arc::default(), TaskTracker::new());

    let lookup = tokio::spawn({
        let fetcher = fetcher.clone();
        async move { fetcher.narinfo(hash).await.is_some() }
    });
    late.arrived.notified().await;
    keys.set(trusted("b-1"));
    late.told.add_permits(1);
    assert!(!lookup.await.unwrap(), "what held when it began does not trust it");
    assert_eq!(peer.state(), State::Online, "nobody lied");
    assert!(fetcher.narinfo(hash).await.is_some());
    keys.set(trusted("c-1"));
    assert!(fetcher.narinfo(hash).await.is_none());
    assert_eq!(peer.state(), State::Blocked, "now it was asked for signatures by c-1");
    asking.shutdown().await;
    stop.cancel();
    server.end().await;
}

/// A face that the test keeps a hand on.
struct Shared(Arc<Late>);

impl Handler for Shared {
    async fn answer(&self, request: Request) -> Response<Body> {
        self.0.answer(request).await
    }
}

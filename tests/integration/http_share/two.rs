//! A machine that shares a store, and one that fetches from it and follows what it offers.

use crate::support::nix::NixStore;
use crate::support::peers::online;
use crate::support::{Running, serve_with};
use peernix::fetch::{self, Fetcher, SpoolOptions};
use peernix::http::{Limits, ShareEvent};
use peernix::index::Index;
use peernix::keys::Signing;
use peernix::metrics::Metrics;
use peernix::nix::PublicKey;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeKey, Peer, Peers, PeersOptions};
use peernix::resilience::Versioned;
use peernix::store::{Audience, SharePolicyMode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) struct Two {
    pub(super) serving: Running,
    /// What the first one's share tells.
    pub(super) told: Receiver<ShareEvent>,
    pub(super) asking: Peers,
    /// The first one, as the second sees it.
    pub(super) peer: Arc<Peer>,
    pub(super) index: Index,
    pub(super) fetcher: Fetcher,
    pub(super) metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Two {
    /// The second one trusts `trusted`; the first one tells an index if it `offers`.
    pub(super) async fn over(store: &NixStore, trusted: PublicKey, offers: bool) -> Self {
        let policy = Versioned::new(store.policy(SharePolicyMode::Signed, &["*-secret*"]));
        let share = store.share_following(&policy, &Versioned::new(Signing::default())).await;
        let told = share.subscribe();
        let (theirs, ours) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
        let stop = CancellationToken::new();
        let peers = Peers::start(PeersOptions::default(), &theirs, &stop).await.unwrap();
        let offered = Index::new(peers.clone(), offers, Arc::default());
        tokio::spawn(Arc::clone(&share).offer(offered.clone(), Audience::Anyone, stop.clone()));
        let acceptor = Acceptor::new(&theirs, Admission::Open).unwrap();
        let handler = share.towards_peers(peers, offered, Admission::Open);
        let serving = serve_with(handler, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
        let fixed = vec![serving.address.to_string().parse().unwrap()];
        let trusted_keys = Versioned::new([trusted].into_iter().collect());
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
            max_sources: 4,
            spools: SpoolOptions::default(),
            verify_whole: false,
            bases: None,
            download: Default::default(),
            predecessors: Vec::new(),
            site: None,
        };
        let fetcher =
            Fetcher::new(options, (asking.clone(), index.clone(), None), Arc::clone(&metrics), TaskTracker::new());
        Self { serving, told, asking, peer, index, fetcher, metrics, stop }
    }

    pub(super) async fn end(self) {
        self.asking.shutdown().await;
        self.stop.cancel();
        self.serving.end().await;
    }
}

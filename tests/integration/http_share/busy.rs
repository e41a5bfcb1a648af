//! A store that cannot be read at the moment is no answer: not the same as a path that is not there.

use crate::support::client::Client;
use crate::support::nix::NixStore;
use crate::support::peers::no_index;
use crate::support::serve;
use peernix::http::Limits;
use peernix::peers::{Admission, NodeKey, Peers, PeersOptions};
use peernix::store::SharePolicyMode;
use rusqlite::Connection;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The lock of somebody who lets nobody else read, for as long as this lives.
fn lock(store: &NixStore) -> Connection {
    let writer = Connection::open(store.root().join("var/nix/db/db.sqlite")).unwrap();
    writer.execute_batch("pragma locking_mode = exclusive; begin exclusive").unwrap();
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_is_busy_and_not_empty() {
    let store = NixStore::make();
    let share = store.share(SharePolicyMode::Signed, 0).await;
    let key = NodeKey::from_seed([1; 32]);
    let peers = Peers::start(PeersOptions::default(), &key, &CancellationToken::new()).await.unwrap();
    let plain = serve(share.plain(), Limits::share()).await;
    let towards_peers =
        serve(share.towards_peers(peers.clone(), no_index(&peers), Admission::Open), Limits::share()).await;
    let mut nix = Client::connect(plain.address).await;
    let mut peer = Client::connect(towards_peers.address).await;
    let narinfo = format!("/{}.narinfo", store.paths["app"].hash());
    let missing = "/00000000000000000000000000000000.narinfo";

    let writer = lock(&store);
    for url in [narinfo.as_str(), missing] {
        let begun = Instant::now();
        let answer = peer.get(url).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{url} of a peer");
        assert!(begun.elapsed() < Duration::from_secs(1), "a peer is told before it takes us for stalled");
        assert_eq!(nix.get(url).await.status, 503, "{url} of a Nix, which asks again");
    }
    let unlock = async {
        tokio::time::sleep(Duration::from_secs(2)).await; // pace
        drop(writer);
    };
    let (answer, ()) = tokio::join!(nix.get(&narinfo), unlock);
    assert_eq!(answer.status, 200, "it was waited for");
    assert_eq!(peer.get(&narinfo).await.status, 200);
    for client in [&mut nix, &mut peer] {
        assert_eq!(client.get(missing).await.status, 404, "what is not there is not there");
    }
}

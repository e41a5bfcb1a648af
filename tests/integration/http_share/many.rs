//! Many machines at one share, at its limits as delivered.

use super::share::{nar_url, peers};
use crate::support::nix::NixStore;
use crate::support::peers::{no_index, online};
use crate::support::{Running, allow_many_files, serve_with};
use http_body_util::BodyExt;
use peernix::http::Limits;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, NodeId, NodeKey, Peer, Peers};
use peernix::store::SharePolicyMode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// How many machines there are.
const MACHINES: u8 = 60;
/// How many paths each looks up at a time, as Nix does.
const LOOKUPS: usize = 25;

/// A share that others can use.
async fn shared(store: &NixStore, limits: Limits) -> (Running, Peers, NodeId) {
    let share = store.share_with(SharePolicyMode::Signed, 0, limits.clone()).await;
    let (key, open) = (NodeKey::from_seed([1; 32]), Admission::Open);
    let ours = peers(1, 1, "", &open).await;
    let acceptor = Acceptor::new(&key, open.clone()).unwrap().multiplexed();
    let face = share.towards_peers(ours.clone(), no_index(&ours), open);
    (serve_with(face, limits, Some(acceptor), "127.0.0.1:0").await, ours, key.id())
}

/// The status and the length of an answer.
async fn get(peer: &Peer, target: &str) -> (u16, usize) {
    let answer = peer.get(target, None).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes().len())
}

/// The same, asked again while the share says that it cannot answer in time: on a processor that runs other tests it may be so.
async fn get_at_last(peer: &Peer, target: &str) -> (u16, usize) {
    loop {
        match get(peer, target).await {
            (503, _) => {}
            answer => return answer,
        }
    }
}

/// All from one address, which has an eighth of the places.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_machines_look_up_twenty_five_paths_each_and_none_is_refused() {
    allow_many_files();
    let store = NixStore::shared();
    let (server, ours, id) = shared(&store, Limits::share()).await;
    let narinfo = format!("/{}.narinfo", store.paths["app"].hash());
    let (nar, size) = (nar_url(&store, "dep"), store.dump("dep").len());
    let together = Arc::new(Barrier::new(usize::from(MACHINES)));
    let mut machines = JoinSet::new();
    for machine in 0..MACHINES {
        let (narinfo, nar, together) = (narinfo.clone(), nar.clone(), together.clone());
        let fixed = format!("{id}@{}", server.address);
        machines.spawn(async move {
            let theirs = peers(100 + machine, 0, &fixed, &Admission::Open).await;
            let peer = online(&theirs, id).await;
            together.wait().await;
            for _ in 0..2 {
                let mut lookups = JoinSet::new();
                for _ in 0..LOOKUPS {
                    let (peer, narinfo) = (peer.clone(), narinfo.clone());
                    lookups.spawn(async move { get_at_last(&peer, &narinfo).await.0 });
                }
                assert!(lookups.join_all().await.into_iter().all(|status| status == 200));
                // What a machine found it fetches, while the others look up.
                assert_eq!(get_at_last(&peer, &nar).await, (200, size));
            }
            together.wait().await;
            let status = peer.status();
            theirs.shutdown().await;
            status.failures
        });
    }
    assert!(machines.join_all().await.into_iter().all(|failures| failures == 0));
    ours.shutdown().await;
    let metrics = server.end().await;
    // A handshake may be given up by who began it: it began another because a kept connection was silent, which then answered.
    assert_eq!((metrics.refused.get(), metrics.panics.get()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saturated_share_says_so_within_a_second() {
    let store = NixStore::shared();
    let (server, ours, id) = shared(&store, Limits { transfers: 1, ..Limits::share() }).await;
    let fixed = format!("{id}@{}", server.address);
    let mut machines = Vec::new();
    for seed in [2, 3] {
        let theirs = peers(seed, 0, &fixed, &Admission::Open).await;
        let peer = online(&theirs, id).await;
        machines.push((theirs, peer));
    }
    let slow = machines[0].1.get(&nar_url(&store, "huge"), None).await.unwrap();
    assert_eq!(slow.status(), 200);
    let begun = Instant::now();
    let answer = machines[1].1.get(&nar_url(&store, "app"), None).await.unwrap();
    // A second, and what a busy machine adds.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let narinfo = format!("/{}.narinfo", store.paths["app"].hash());
    assert_eq!(get(&machines[1].1, &narinfo).await.0, 200, "what costs no slot is there as ever");
    drop(slow);
    assert_eq!(get(&machines[1].1, &nar_url(&store, "app")).await, (200, store.dump("app").len()));
    for (theirs, _) in machines {
        theirs.shutdown().await;
    }
    ours.shutdown().await;
    server.end().await;
}

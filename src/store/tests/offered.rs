//! What may be offered is known in memory, and never less than the database has.

use super::*;
use crate::nix::StoreHash;
use crate::store::{Audience, Offered, PolicyOptions, SharePolicy, SharePolicyMode};
use rusqlite::Connection;
use std::time::Duration;

fn offered(store: &Store, mode: SharePolicyMode) -> Arc<Offered> {
    let key = include_str!("../../../tests/golden/keys/test-1.public").trim().parse().unwrap();
    let options = PolicyOptions { mode, public_keys: [key].into_iter().collect(), ..PolicyOptions::default() };
    Offered::new(store, Arc::new(SharePolicy::new(options, StoreDir::default()).unwrap()))
}

/// Waits until it knows that a path is not offered: until then everybody asks the database.
async fn is_lacking(offered: &Arc<Offered>, hash: StoreHash, audience: Audience) {
    let wait = async {
        while !offered.lacks(hash, audience) {
            tokio::time::sleep(Duration::from_millis(5)).await; // poll
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it is not offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_is_known_and_what_is_here_but_not_shared_looks_the_same() {
    let host = Host::with_store();
    let [public, private] = ["public", "private"].map(|name| host.add_text(name, "x"));
    host.sign(&public);
    let store = host.open().await;
    let (signed, own) = (offered(&store, SharePolicyMode::Signed), offered(&store, SharePolicyMode::SignedAndOwn));
    let nowhere = StoreHash::new([7; 20]);
    assert!(!signed.lacks(nowhere, Audience::Anyone), "nothing is known at first");
    for audience in [Audience::Anyone, Audience::Enrolled] {
        is_lacking(&signed, nowhere, audience).await;
        is_lacking(&own, nowhere, audience).await;
        assert!(signed.lacks(private.hash(), audience));
        assert!(!signed.lacks(public.hash(), audience) && !own.lacks(public.hash(), audience));
    }
    // What was put into the store here was not built here.
    let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    writer.execute_batch("update ValidPaths set ultimate = 1 where sigs is null or sigs = ''").unwrap();
    assert!(!own.lacks(nowhere, Audience::Anyone), "the database is another one");
    is_lacking(&own, nowhere, Audience::Anyone).await;
    assert!(own.lacks(private.hash(), Audience::Anyone) && !own.lacks(private.hash(), Audience::Enrolled));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_or_newly_signed_is_there_at_once_whatever_the_journal() {
    for journal in ["wal", "truncate"] {
        let host = Host::with_store();
        let store = host.open().await;
        let offered = offered(&store, SharePolicyMode::Signed);
        let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
        let mode: String = writer.query_row(&format!("pragma journal_mode = {journal}"), [], |row| row.get(0)).unwrap();
        assert_eq!(mode, journal);
        for number in 0..8 {
            let hash = StoreHash::new([number; 20]);
            is_lacking(&offered, hash, Audience::Anyone).await;
            let insert =
                "insert into ValidPaths (path, hash, registrationTime, narSize, sigs) values (?1, 'h', 7, 112, ?2)";
            let signature = "test-1:AAAA";
            let sigs = if number % 2 == 0 { signature } else { "" };
            writer.execute(insert, [format!("/nix/store/{hash}-n{number}").as_str(), sigs]).unwrap();
            assert!(!offered.lacks(hash, Audience::Anyone), "{journal}, path {number}: added");
            if number % 2 == 1 {
                is_lacking(&offered, hash, Audience::Anyone).await;
                writer.execute("update ValidPaths set sigs = ?1", [signature]).unwrap();
                assert!(!offered.lacks(hash, Audience::Anyone), "{journal}, path {number}: signed");
            }
            if number == 3 && journal == "wal" {
                writer.execute_batch("pragma wal_checkpoint(truncate)").unwrap();
            }
            let nowhere = StoreHash::new([100; 20]);
            is_lacking(&offered, nowhere, Audience::Anyone).await;
            assert!(!offered.lacks(hash, Audience::Anyone));
        }
        writer.execute_batch("delete from ValidPaths").unwrap();
        is_lacking(&offered, StoreHash::new([0; 20]), Audience::Anyone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_and_none_are_noticed() {
    let host = Host::with_store();
    let store = host.open().await;
    let offered = offered(&store, SharePolicyMode::Signed);
    let nowhere = StoreHash::new([7; 20]);
    is_lacking(&offered, nowhere, Audience::Anyone).await;
    std::fs::remove_dir_all(host.root().join("nix")).unwrap();
    assert!(!offered.lacks(nowhere, Audience::Anyone), "what cannot be read is not absent");
    let path = host.add_text("second", "x");
    host.sign(&path);
    assert!(!offered.lacks(path.hash(), Audience::Anyone));
    is_lacking(&offered, nowhere, Audience::Anyone).await;
    assert!(!offered.lacks(path.hash(), Audience::Anyone));
}

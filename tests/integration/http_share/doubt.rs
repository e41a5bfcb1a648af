//! What looks like a lie and is none: another key under a trusted name, a damaged file, a realisation that nobody signed.

use super::two::Two;
use crate::support::LIMIT;
use crate::support::nix::NixStore;
use peernix::http::ShareEvent;
use peernix::nix::SecretKey;
use peernix::nix::realisation::{DrvOutput, Realisation};
use peernix::nix::trace::TraceId;
use peernix::peers::State;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tokio::time::timeout;

impl Two {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_a_trusted_name_is_not_for_us_and_bans_nobody() {
    let store = NixStore::shared();
    let same_name = SecretKey::from_seed(store.key.name(), [7; 32]).unwrap().public();
    assert_ne!(same_name, store.key);
    let two = Two::over(&store, same_name, false).await;
    assert!(!two.has(&store, "dep").await, "it is signed by another key");
    assert_eq!((two.peer.state(), two.metrics.peers_banned.get()), (State::Online, 0));
    two.end().await;
    let two = Two::over(&store, store.key.clone(), false).await;
    assert!(two.has(&store, "dep").await);
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_bars_its_path_and_its_owner_finds_it() {
    let store = NixStore::make();
    let mut two = Two::over(&store, store.key.clone(), false).await;
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
    let two = Two::over(&store, store.key.clone(), false).await;
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

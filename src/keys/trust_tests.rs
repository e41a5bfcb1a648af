//! The trust list: what a file says, what was decided since, and both over restarts.

use super::clock::Clock;
use super::*;
use crate::nix::{PublicKey, SecretKey};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn key(name: &str, seed: u8) -> PublicKey {
    SecretKey::from_seed(name, [seed; 32]).unwrap().public()
}

async fn open(state: &TempDir, base: &[PublicKey]) -> TrustList {
    let clock = Clock::new(|| 1_790_000_000);
    TrustList::open_with(state.path(), base.to_vec(), Origin::Configuration, clock).await.unwrap()
}

fn names(list: &TrustList) -> Vec<String> {
    let mut names: Vec<String> = list.trusted().now().names().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_added_stays_until_it_is_removed() {
    let state = tempfile::tempdir().unwrap();
    let (base, tower) = (key("cache-1", 1), key("tower-1", 2));
    let list = open(&state, std::slice::from_ref(&base)).await;
    let mut changes = list.trusted().subscribe();
    assert!(list.add(&format!(" {tower}\n"), "in the cellar", Some("tower")).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();
    assert!(!list.add(&tower.to_string(), "", None).await.unwrap(), "it counts already");
    assert!(!list.add(&base.to_string(), "", None).await.unwrap());
    for list in [list, open(&state, std::slice::from_ref(&base)).await] {
        assert_eq!(names(&list), ["cache-1", "tower-1"]);
        let view = list.list().pop().unwrap();
        let expected = TrustedView {
            public_key: tower.to_string(),
            fingerprint: fingerprint(&tower),
            name: "tower-1".into(),
            origin: Origin::Added,
            comment: "in the cellar".into(),
            peer: Some("tower".into()),
            added: Some(1_790_000_000),
            distrusted: false,
        };
        assert_eq!(view, expected);
    }
    let list = open(&state, &[base]).await;
    let mut changes = list.trusted().subscribe();
    assert!(list.remove("tower-1").await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.borrow_and_update();
    for gone in ["tower-1", &tower.to_string(), "cache", ""] {
        let error = list.remove(gone).await.unwrap_err();
        assert!(matches!(&error, KeysError::NoSuchTrusted(name) if name == gone), "{error}");
    }
    assert!(!changes.has_changed().unwrap());
    assert_eq!((names(&list), list.list().len()), (vec!["cache-1".into()], 1));
    let mode = state.path().join("trust.json").metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn what_a_file_names_can_be_distrusted() {
    let state = tempfile::tempdir().unwrap();
    let base = [key("cache-1", 1), key("other-1", 2)];
    let list = open(&state, &base).await;
    assert!(list.remove(&base[0].to_string()).await.unwrap());
    assert!(!list.remove("cache-1").await.unwrap());
    for list in [&list, &open(&state, &base).await] {
        assert_eq!(names(list), ["other-1"]);
        let distrusted: Vec<bool> = list.list().iter().map(|view| view.distrusted).collect();
        assert_eq!(distrusted, [true, false], "it is still shown");
    }
    // It stays so while the configuration changes, and even if the key goes and comes back.
    list.set_base(vec![], Origin::NixConf).await;
    assert_eq!(list.list().len(), 0);
    list.set_base(base.to_vec(), Origin::NixConf).await;
    assert_eq!((names(&list), list.list()[0].origin), (vec!["other-1".into()], Origin::NixConf));
    assert!(list.add(&base[0].to_string(), "", None).await.unwrap());
    assert_eq!(names(&open(&state, &base).await), ["cache-1", "other-1"]);
    assert_eq!(list.list().len(), 2, "it is the file's again");
}

#[tokio::test]
async fn one_name_means_one_key() {
    let state = tempfile::tempdir().unwrap();
    let (base, impostor) = (key("cache-1", 1), key("cache-1", 9));
    let list = open(&state, std::slice::from_ref(&base)).await;
    assert!(
        matches!(list.add(&impostor.to_string(), "", None).await, Err(KeysError::NameTaken(name)) if name == "cache-1")
    );
    assert!(list.remove("cache-1").await.unwrap());
    assert!(list.add(&impostor.to_string(), "", None).await.unwrap(), "the other one does not count any more");
    assert!(matches!(list.add(&base.to_string(), "", None).await, Err(KeysError::NameTaken(_))));
    // A name removes whatever has it.
    assert!(list.remove("cache-1").await.unwrap());
    assert!(list.trusted().now().is_empty());

    let tower = key("tower-1", 3);
    list.add(&tower.to_string(), "", None).await.unwrap();
    list.set_base(vec![key("tower-1", 4)], Origin::Configuration).await;
    let mut info = crate::nix::PathInfo::example();
    let secret = SecretKey::from_seed("tower-1", [4; 32]).unwrap();
    info.signatures = vec![secret.sign(&info, &Default::default())];
    assert!(list.trusted().now().voucher(&info, &Default::default()).is_some(), "what the administrator wrote wins");
}

#[tokio::test]
async fn of_two_keys_of_one_name_the_first_counts_as_in_nix() {
    let state = tempfile::tempdir().unwrap();
    let signed_by = |seed| {
        let mut info = crate::nix::PathInfo::example();
        info.signatures = vec![SecretKey::from_seed("cache-1", [seed; 32]).unwrap().sign(&info, &Default::default())];
        info
    };
    let counts = |list: &TrustList| {
        [1, 2].map(|seed| list.trusted().now().voucher(&signed_by(seed), &Default::default()).is_some())
    };
    let two = [key("cache-1", 1), key("cache-1", 2)];
    let list = open(&state, &two).await;
    assert_eq!((counts(&list), list.list().len()), ([true, false], 1));
    list.set_base(two.iter().rev().cloned().collect(), Origin::NixConf).await;
    assert_eq!(counts(&list), [false, true]);
    // Nix goes by it all the same, so that the other one would let in what Nix refuses.
    assert!(list.remove("cache-1").await.unwrap());
    assert_eq!(counts(&list), [false, false]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let list = open(&state, &[]).await;
    for text in ["", "tower-1", "tower-1:AAAA", "../x:y"] {
        assert!(matches!(list.add(text, "", None).await, Err(KeysError::InvalidPublicKey(_))), "{text}");
    }
    assert!(matches!(list.remove("tower-1:AAAA").await, Err(KeysError::InvalidPublicKey(_))));
    let good = key("tower-1", 1).to_string();
    for (comment, peer) in [("a\u{1b}[31m", None), ("", Some("a\nb")), (&"x".repeat(COMMENT_MAX + 1), None)] {
        assert!(matches!(list.add(&good, comment, peer).await, Err(KeysError::Comment)));
    }
    assert!(!state.path().join("trust.json").exists());
}

#[tokio::test]
async fn distrust_needs_no_disk_and_trust_does() {
    let state = tempfile::tempdir().unwrap();
    let inside = state.path().join("state");
    let base = vec![key("cache-1", 1)];
    let list = TrustList::open(&inside, base.clone(), Origin::Configuration).await.unwrap();
    fs::write(&inside, "").unwrap();
    assert!(matches!(list.add(&key("tower-1", 2).to_string(), "", None).await, Err(KeysError::File { .. })));
    assert_eq!(names(&list), ["cache-1"]);
    assert!(matches!(list.remove("cache-1").await, Err(KeysError::NotSaved(_))));
    assert!(list.trusted().now().is_empty(), "in force all the same");
    fs::remove_file(&inside).unwrap();
    assert!(!list.remove("cache-1").await.unwrap(), "it does not count already");
    assert!(
        TrustList::open(&inside, base, Origin::Configuration).await.unwrap().trusted().now().is_empty(),
        "written down now"
    );
}

#[tokio::test]
async fn damaged_files_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let list = open(&state, &[key("cache-1", 1)]).await;
    list.add(&key("tower-1", 2).to_string(), "", None).await.unwrap();
    list.remove("cache-1").await.unwrap();
    let file = state.path().join("trust.json");
    let good = fs::read_to_string(&file).unwrap();
    let mut damaged =
        vec![good.replace("\"version\":1", "\"version\":7"), good.replace("tower-1:", "tower-1"), format!("{good}]")];
    damaged.extend((0..good.len()).step_by(11).map(|length| good[..length].to_owned()));
    for text in damaged {
        fs::write(&file, &text).unwrap();
        let Err(error) = TrustList::open(state.path(), vec![], Origin::NixConf).await else { panic!("{text}") };
        assert!(matches!(&error, KeysError::Damaged { .. }) && error.to_string().contains("trust.json"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(TrustList::open(state.path(), vec![], Origin::NixConf).await.is_err(), "others may decide what enters");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(names(&TrustList::open(state.path(), vec![], Origin::NixConf).await.unwrap()), ["tower-1"]);
}

//! Pins, as the real Nix sees them.

use super::*;
use crate::store::{GarbageOptions, PIN_REASON_MAX, Pins};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

async fn collect_garbage(store: &Store) -> Vec<StorePath> {
    let garbage = store.garbage(&GarbageOptions::default(), |_| (), &CancellationToken::new()).await.unwrap();
    garbage.paths.into_iter().map(|path| path.path).collect()
}

/// Collects until these are gone: a daemon's process holds its temp roots for a moment after its client has left.
async fn are_collected(store: &Store, mut paths: Vec<StorePath>) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !paths.is_empty() {
        let collected = collect_garbage(store).await;
        assert!(collected.iter().all(|path| paths.contains(path)), "{collected:?}");
        paths.retain(|path| !collected.contains(path));
        assert!(std::time::Instant::now() < deadline, "{paths:?} are kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The roots that Nix was told of and that it still knows.
fn indirect_roots(host: &Host) -> usize {
    std::fs::read_dir(host.state().join("gcroots/auto")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_stays_until_it_is_not() {
    let host = Host::with_store();
    let needed = host.add_text("needed", "x");
    let path = host.add_referrer("application", &[&needed]);
    let other = host.add_text("other", "x");
    let _daemon = host.daemon();
    let store = host.open().await;
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    assert_eq!(host.path("state/pins").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(pins.pin(&path, "for the demo", None).await.unwrap());
    assert!(!pins.pin(&path, "for the demo", None).await.unwrap(), "nothing changed");
    let since = pins.list()[0].since;
    assert!(pins.pin(&path, "for the next demo", None).await.unwrap());
    assert_eq!((pins.list().len(), pins.list()[0].since), (1, since));
    assert!(pins.is_pinned(&path) && !pins.is_pinned(&needed));
    let roots = host.nix("nix-store", &["--query", "--roots", &StoreDir::default().join(&path)]);
    assert!(roots.contains(host.path("state/pins").join(path.to_string()).to_str().unwrap()), "{roots}");

    assert_eq!(collect_garbage(&store).await, [other]);
    assert!(host.real(&path).exists() && host.real(&needed).exists());

    // They are still there after a restart, whatever became of what Nix knew.
    let before = pins.list();
    drop(pins);
    for root in std::fs::read_dir(host.state().join("gcroots/auto")).unwrap() {
        std::fs::remove_file(root.unwrap().path()).unwrap();
    }
    std::fs::remove_file(host.path("state/pins").join(path.to_string())).unwrap();
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    pins.restore().await.unwrap();
    let micros = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let [pin] = &pins.list()[..] else { panic!("{:?}", pins.list()) };
    assert_eq!(
        (&pin.path, pin.reason.as_str(), micros(pin.since)),
        (&path, "for the next demo", micros(before[0].since))
    );
    assert_eq!(collect_garbage(&store).await, []);

    assert!(pins.unpin(&path).await.unwrap());
    assert!(!pins.unpin(&path).await.unwrap() && pins.list().is_empty());
    are_collected(&store, vec![path, needed]).await;
    assert_eq!(indirect_roots(&host), 0, "Nix clears away the root that leads nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pin_that_fails_keeps_no_other_from_being_restored() {
    let host = Host::with_store();
    let mut paths = [host.add_text("one", "x"), host.add_text("two", "y")];
    paths.sort();
    let _daemon = host.daemon();
    let pins = Pins::open(host.open().await, &host.path("state")).await.unwrap();
    for path in &paths {
        pins.pin(path, "", None).await.unwrap();
    }
    for root in std::fs::read_dir(host.state().join("gcroots/auto")).unwrap() {
        std::fs::remove_file(root.unwrap().path()).unwrap();
    }
    // A folder where the link of the first should be.
    let link = host.path("state/pins").join(paths[0].to_string());
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    let error = pins.restore().await.unwrap_err().to_string();
    assert!(error.contains(&paths[0].to_string()), "{error}");
    assert_eq!(indirect_roots(&host), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_end() {
    let host = Host::with_store();
    let (short, long) = (host.add_text("short", "x"), host.add_text("long", "y"));
    let _daemon = host.daemon();
    let store = host.open().await;
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    // One who waits already hears of a pin that is made later.
    let waiting = tokio::spawn({
        let pins = pins.clone();
        async move { pins.expired().await }
    });
    let now = SystemTime::now();
    pins.pin(&long, "", Some(now + Duration::from_secs(3600))).await.unwrap();
    pins.pin(&short, "", Some(now + Duration::from_secs(1))).await.unwrap();
    assert_eq!(pins.expire().await.unwrap(), []);
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert_eq!(ended, std::slice::from_ref(&short));
    assert!(now.elapsed().unwrap() >= Duration::from_secs(1));
    are_collected(&store, vec![short]).await;
    assert!(host.real(&long).exists());
    let error = pins.pin(&long, "", Some(now)).await.unwrap_err();
    assert!(matches!(error, StoreError::Argument(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pinned_is_said() {
    let host = Host::with_store();
    let path = host.add_text("path", "x");
    let store = host.open().await;
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    let error = pins.pin(&path, "", None).await.unwrap_err();
    assert!(matches!(error, StoreError::NeedsDaemon { .. }), "{error}");
    let links = || std::fs::read_dir(host.path("state/pins")).unwrap().count();
    assert_eq!((pins.list().len(), links()), (0, 0), "nothing is half done");

    let _daemon = host.daemon();
    let absent: StorePath = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-absent".parse().unwrap();
    let error = pins.pin(&absent, "", None).await.unwrap_err();
    assert!(matches!(&error, StoreError::NotValid(path) if *path == absent), "{error}");
    for reason in ["a\nb".to_owned(), "\u{1b}[31mred".to_owned(), "x".repeat(PIN_REASON_MAX + 1)] {
        let error = pins.pin(&path, &reason, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Argument(_)), "{error}");
    }
    assert!(pins.pin(&path, &"ä".repeat(PIN_REASON_MAX), None).await.unwrap());
    assert_eq!(pins.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_unpins_nothing() {
    let host = Host::with_store();
    let path = host.add_text("path", "x");
    let _daemon = host.daemon();
    let store = host.open().await;
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    pins.pin(&path, "why", None).await.unwrap();
    // A link that no entry knows is that of a pin that was removed, or never confirmed.
    let stray = host.path("state/pins/7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-stray");
    std::os::unix::fs::symlink("/nix/store/7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-stray", &stray).unwrap();
    let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
    assert_eq!(pins.list()[0].reason, "why");
    assert!(std::fs::symlink_metadata(&stray).is_err());

    let version_2 = r#"{"version":2,"pins":[]}"#;
    for damage in ["", "{", "[]", version_2, r#"{"version":1,"pins":[{"path":"../../etc/passwd","since":0}]}"#] {
        std::fs::write(host.path("state/pins/pins.json"), damage).unwrap();
        let pins = Pins::open(store.clone(), &host.path("state")).await.unwrap();
        let [pin] = &pins.list()[..] else { panic!("{damage}: {:?}", pins.list()) };
        assert_eq!((&pin.path, pin.reason.as_str(), pin.until), (&path, "", None), "{damage}");
        assert!(Pins::open(store.clone(), &host.path("state")).await.unwrap().is_pinned(&path), "it was written down");
    }
    assert_eq!(collect_garbage(&store).await, []);
}

//! Garbage collection: by the real Nix, with a real daemon that holds our temp roots.

use super::trees::noise;
use super::*;
use crate::nix::NarHash;

fn collect_garbage(host: &Host) -> String {
    host.nix("nix-store", &["--gc", "--print-dead"]);
    host.nix("nix-store", &["--gc"])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_sent_is_not_collected() {
    let host = Host::with_store();
    std::fs::create_dir(host.path("tree")).unwrap();
    for number in 0..50 {
        std::fs::write(host.path("tree").join(number.to_string()), noise(100_000 + number)).unwrap();
    }
    let (path, other) = (host.add(&host.path("tree")), host.add_text("other", "x"));
    let expected = host.dump(&host.real(&path));
    let daemon = host.daemon();
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    let mut stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty() && (first.len() as u64) < layout.nar_size());

    collect_garbage(&host);
    assert!(!host.real(&other).exists(), "there was a collection");
    assert_eq!(store.path_info(other.hash()).await.unwrap(), None);
    let rest = collect(stream).await.unwrap();
    assert!([&first[..], &rest].concat() == expected);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_survive_a_restart_of_the_daemon() {
    let host = Host::with_store();
    let path = host.add_text("kept", &"x".repeat(1000));
    let daemon = host.daemon();
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    let stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
    assert_eq!(held_by_living(&host, &path), 1);

    daemon.kill_connections();
    drop(daemon);
    let daemon = host.daemon();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while held_by_living(&host, &path) == 0 {
        assert!(std::time::Instant::now() < deadline, "the root is not restored");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    collect_garbage(&host);
    assert!(host.real(&path).exists());
    assert!(!collect(stream).await.unwrap().is_empty());
    drop(daemon);
}

/// How many processes that are alive hold `path` as a temp root.
fn held_by_living(host: &Host, path: &StorePath) -> usize {
    let files = std::fs::read_dir(host.state().join("temproots")).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| {
            let status = Path::new("/proc").join(file.file_name().unwrap()).join("status");
            // One that was killed stays as a zombie for as long as nobody asks how it ended.
            std::fs::read_to_string(status).is_ok_and(|status| !status.contains("State:\tZ"))
                && std::fs::read(file).is_ok_and(|roots| String::from_utf8_lossy(&roots).contains(&path.to_string()))
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_gone_are_not_sent() {
    let host = Host::with_store();
    let path = host.add_text("gone", "x");
    let store = host.open().await;
    let info = valid(&store, &path).await;
    let layout = store.layout(&info).await.unwrap();
    collect_garbage(&host);
    assert!(!host.real(&path).exists());
    // The layout is still in the cache.
    let layout_again = store.layout(&info).await.unwrap();
    assert!(Arc::ptr_eq(&layout, &layout_again));
    let error = store.nar(&layout, 0..layout.nar_size()).await.unwrap_err();
    assert!(matches!(error, StoreError::Gone(_)), "{error}");

    // And one that was never walked over.
    let path = host.add_text("gone-too", "x");
    let info = valid(&store, &path).await;
    collect_garbage(&host);
    let error = store.layout(&info).await.unwrap_err();
    assert!(matches!(error, StoreError::Gone(_)), "{error}");

    // And one that came back as something else.
    let path = host.add_text("back", "x");
    let mut info = ValidPath::clone(&*valid(&store, &path).await);
    info.info.nar_hash = NarHash::new([0; 32]);
    let layout = store.layout(&info).await.unwrap();
    let error = store.nar(&layout, 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::Gone(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collection_and_sending_at_once_never_give_wrong_bytes() {
    let host = Host::with_store();
    let daemon = host.daemon();
    let store = host.open().await;
    std::fs::create_dir(host.path("tree")).unwrap();
    for number in 0..40 {
        std::fs::write(host.path("tree").join(number.to_string()), noise(10_000 + number)).unwrap();
    }
    let (mut sent, mut gone) = (0, 0);
    for round in 0..12 {
        std::fs::write(host.path("tree/round"), round.to_string()).unwrap();
        let path = host.add(&host.path("tree"));
        let expected = host.dump(&host.real(&path));
        let info = valid(&store, &path).await;
        let collection = host.command("nix-store").arg("--gc").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut collection = collection.unwrap();
        // Sometimes at once, sometimes in the middle, sometimes too late.
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(round * 6);
        while std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        match store.layout(&info).await {
            Ok(layout) => match store.nar(&layout, 0..layout.nar_size()).await {
                Ok(stream) => {
                    let running = collection.try_wait().unwrap().is_none();
                    assert!(collect(stream).await.unwrap() == expected, "running: {running}");
                    sent += 1;
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Gone(_)), "{error}");
                    gone += 1;
                }
            },
            Err(error) => {
                assert!(matches!(error.inner(), StoreError::Gone(_)), "{error}");
                gone += 1;
            }
        }
        assert!(collection.wait().unwrap().success());
    }
    assert_eq!(sent + gone, 12);
    drop(daemon);
}

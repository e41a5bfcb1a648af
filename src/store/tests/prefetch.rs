//! Fetching through the real daemon, from a binary cache in a directory.

use super::*;
use crate::store::{GarbageOptions, PrefetchProgress, PrefetchResult, Prefetched};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a daemon that was hung up on may be busy, and a test wait.
const LIMIT: Duration = Duration::from_secs(20);

/// An application with a library of 3 MB, in a cache and not in the store.
fn host_with_cache() -> (Host, StorePath, StorePath) {
    let host = Host::with_store();
    let conf = host.path("conf/nix.conf");
    let cache = format!("file://{}", host.path("cache").display());
    let text = std::fs::read_to_string(&conf).unwrap().replace("substituters =\n", "");
    std::fs::write(&conf, format!("{text}substituters = {cache}\n")).unwrap();
    let [library]: [_; 1] = host.add_files([("library".into(), 3_000_000)]).try_into().unwrap();
    let application = host.add_referrer("application", &[&library]);
    host.nix("nix", &["copy", "--to", &format!("{cache}?compression=none"), &StoreDir::default().join(&application)]);
    host.nix("nix-store", &["--gc"]);
    assert!(!host.real(&application).exists() && !host.real(&library).exists());
    (host, application, library)
}

async fn fetch(store: &Store, paths: &[StorePath]) -> (Prefetched, Vec<PrefetchProgress>) {
    let mut told = vec![];
    let fetched = store.prefetch(paths, |news| told.push(news), &CancellationToken::new()).await.unwrap();
    (fetched, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_come_with_their_closures() {
    let (host, application, library) = host_with_cache();
    let here = host.add_text("here", "x");
    let _daemon = host.daemon();
    let store = host.open().await;
    let absent: StorePath = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-absent".parse().unwrap();
    let (fetched, told) = fetch(&store, &[absent.clone(), here.clone(), application.clone()]).await;
    let results: Vec<_> = fetched.paths.iter().map(|path| (&path.path, &path.result)).collect();
    let [(first, PrefetchResult::Unavailable(reason)), second, third] = &results[..] else { panic!("{results:?}") };
    assert!(**first == absent && !reason.is_empty() && !reason.contains('\u{1b}'), "{reason}");
    assert_eq!(*second, (&here, &PrefetchResult::Present));
    assert_eq!(*third, (&application, &PrefetchResult::Fetched));
    assert!(host.real(&application).exists() && host.real(&library).exists());
    let size = valid(&store, &application).await.info.nar_size + valid(&store, &library).await.info.nar_size;
    assert_eq!(fetched.paths[2].size, Some(valid(&store, &application).await.info.nar_size));
    assert_eq!((fetched.bytes, fetched.cancelled), (size, false));
    let PrefetchProgress::Planned { paths: 2, nar_size, .. } = told[0] else { panic!("{told:?}") };
    assert_eq!(nar_size, size);
    let bytes: Vec<u64> =
        told.iter().filter_map(|news| if let PrefetchProgress::Bytes(b) = news { Some(*b) } else { None }).collect();
    assert!(bytes.is_sorted() && bytes.last() == Some(&size), "{bytes:?}");
    assert_eq!(told.iter().filter(|news| matches!(news, PrefetchProgress::Done(_))).count(), 3);

    let (again, _) = fetch(&store, &[application.clone(), library]).await;
    assert!(again.paths.iter().all(|path| path.result == PrefetchResult::Present) && again.bytes == 0);
    // Nobody refers to it: whoever wants to keep it pins it.
    let dry_run = GarbageOptions { dry_run: true, ..GarbageOptions::default() };
    let garbage = store.garbage(&dry_run, |_| (), &CancellationToken::new()).await.unwrap();
    assert!(garbage.paths.iter().any(|path| path.path == application));
}

/// Makes the fetching of the library hang.
fn block(host: &Host) {
    let nars = std::fs::read_dir(host.path("cache/nar")).unwrap().map(|file| file.unwrap().path());
    let large = nars.max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(&large).unwrap();
    ::nix::unistd::mkfifo(&large, ::nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_ends_when_told_to() {
    let (host, application, library) = host_with_cache();
    block(&host);
    let here = host.add_text("here", "x");
    let daemon = host.daemon();
    let store = host.open().await;
    let cancel = CancellationToken::new();
    let stop = |news| {
        if matches!(news, PrefetchProgress::Done(_)) {
            cancel.cancel();
        }
    };
    let paths = [application.clone(), here.clone()];
    let fetched = tokio::time::timeout(LIMIT, store.prefetch(&paths, stop, &cancel)).await.unwrap().unwrap();
    assert!(fetched.cancelled);
    let done: Vec<_> = fetched.paths.iter().map(|path| &path.path).collect();
    assert_eq!(done, [&here], "the other one was not done with");
    assert!(!host.real(&application).exists() && !host.real(&library).exists());
    daemon.kill_connections();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_in_the_middle_fails_the_path() {
    let (host, application, _) = host_with_cache();
    block(&host);
    let daemon = host.daemon();
    let store = host.open().await;
    let planned = tokio::sync::Notify::new();
    let tell = |news| {
        if matches!(news, PrefetchProgress::Planned { .. }) {
            planned.notify_one();
        }
    };
    let cancel = CancellationToken::new();
    let paths = [application.clone()];
    let work = store.prefetch(&paths, tell, &cancel);
    let kill = async {
        planned.notified().await;
        loop {
            daemon.kill_connections();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let fetched = tokio::select! {
        fetched = work => fetched.unwrap(),
        () = kill => unreachable!(),
        () = tokio::time::sleep(LIMIT) => panic!("it does not end"),
    };
    let [path] = &fetched.paths[..] else { panic!("{fetched:?}") };
    // In the middle of an answer, or of a greeting, as a daemon does that shuts us out.
    let is_told = |reason: &str| ["daemon socket", "hangs up"].iter().any(|how| reason.contains(how));
    assert!(matches!(&path.result, PrefetchResult::Unavailable(reason) if is_told(reason)), "{path:?}");

    drop(daemon);
    let error = store.prefetch(&paths, |_| (), &cancel).await.unwrap_err();
    assert!(matches!(error, StoreError::NeedsDaemon { .. }), "{error}");
}

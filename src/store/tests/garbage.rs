//! Collecting garbage through the real daemon: what goes, what stays, and in which order.

use super::*;
use crate::store::{Garbage, GarbageOptions, GarbageProgress};
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

async fn run(store: &Store, options: &GarbageOptions) -> Garbage {
    store.garbage(options, |_| (), &CancellationToken::new()).await.unwrap()
}

fn dry_run() -> GarbageOptions {
    GarbageOptions { dry_run: true, ..GarbageOptions::default() }
}

fn names(garbage: &Garbage) -> Vec<StorePath> {
    garbage.paths.iter().map(|dead| dead.path.clone()).collect()
}

fn sorted(paths: impl IntoIterator<Item = StorePath>) -> Vec<StorePath> {
    paths.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Sets since when a path is in the store.
fn registered_ago(host: &Host, path: &StorePath, age: Duration) {
    let database = rusqlite::Connection::open(host.state().join("db/db.sqlite")).unwrap();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age;
    let sql = "update ValidPaths set registrationTime = ?1 where path = ?2";
    let changed = database.execute(sql, (since.as_secs().cast_signed(), StoreDir::default().join(path))).unwrap();
    assert_eq!(changed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_what_a_run_frees() {
    let host = Host::with_store();
    let kept = host.add_text("kept", "rooted");
    let keeper = host.add_referrer("keeper", &[&kept]);
    host.root_path(&keeper);
    let [sent, promised, dead]: [_; 3] =
        host.add_files([("sent".into(), 3_000_000), ("promised".into(), 10), ("dead".into(), 10)]).try_into().unwrap();
    let application = host.add_referrer("application", &[&dead]);
    let others = host.add_files((0..50).map(|number| (format!("other-{number}"), 100_000)));
    let expected = host.dump(&host.real(&sent));
    let _daemon = host.daemon();
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &sent).await).await.unwrap();
    let mut stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();

    let protected = vec![promised.clone()];
    let named = run(&store, &GarbageOptions { protected: protected.clone(), ..dry_run() }).await;
    let order = names(&named);
    assert_eq!(sorted(order.clone()), sorted(others.iter().chain([&application, &dead]).cloned()));
    let place = |path| order.iter().position(|named| named == path).unwrap();
    assert!(place(&application) < place(&dead), "those that refer to others come first");
    assert!(order.iter().all(|path| host.real(path).exists()), "it was a dry run");
    let sizes: u64 = named.paths.iter().map(|dead| dead.size.unwrap()).sum();
    assert!(named.bytes == sizes && sizes > 5_000_000, "{}", named.bytes);

    // Somebody reads what stays all the while.
    let stop = CancellationToken::new();
    let reader = tokio::spawn({
        let (store, stop, kept) = (store.clone(), stop.clone(), kept.clone());
        async move {
            let mut times = 0;
            while !stop.is_cancelled() {
                assert!(!nar(&store, &kept).await.unwrap().is_empty());
                times += 1;
            }
            times
        }
    });
    let mut told = vec![];
    let options = GarbageOptions { protected, ..GarbageOptions::default() };
    let garbage = store.garbage(&options, |news| told.push(news), &CancellationToken::new()).await.unwrap();
    stop.cancel();
    assert!(reader.await.unwrap() > 0);
    assert_eq!(sorted(names(&garbage)), sorted(order.clone()));
    // Nix counts the files' sizes, or their blocks, which NARs have some bytes around.
    assert!(garbage.bytes > 5_000_000, "{} of {sizes}", garbage.bytes);
    assert!(!garbage.cancelled);
    assert_eq!(told.remove(0), GarbageProgress::Planned { paths: 52, bytes: sizes });
    let deleted = told.into_iter().map(|news| match news {
        GarbageProgress::Deleted(path) => path,
        other @ GarbageProgress::Planned { .. } => panic!("{other:?}"),
    });
    assert_eq!(deleted.collect::<Vec<_>>(), garbage.paths, "each is told once, when it goes");
    for path in &order {
        assert!(!host.real(path).exists() && store.path_info(path.hash()).await.unwrap().is_none());
    }
    for path in [&kept, &keeper, &sent, &promised] {
        assert!(host.real(path).exists() && store.path_info(path.hash()).await.unwrap().is_some(), "{path}");
    }
    let rest = collect(stream).await.unwrap();
    assert!([&first[..], &rest].concat() == expected);
    // What was protected for this collection only is garbage again.
    assert!(names(&run(&store, &dry_run()).await).contains(&promised));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_enough_is_free() {
    let host = Host::with_store();
    let files = host.add_files((0..5).map(|number| (format!("file-{number}"), 1_000_000)));
    for (age, path) in files.iter().enumerate() {
        registered_ago(&host, path, HOUR * u32::try_from(age).unwrap());
    }
    let _daemon = host.daemon();
    let store = host.open().await;
    let options = GarbageOptions { max_freed: Some(1_500_000), ..GarbageOptions::default() };
    let named = run(&store, &GarbageOptions { dry_run: true, ..options.clone() }).await;
    assert_eq!(names(&named), [files[4].clone(), files[3].clone()], "the oldest first");
    let garbage = run(&store, &options).await;
    assert_eq!(sorted(names(&garbage)), sorted(names(&named)));
    assert!((1_500_000..2_500_000).contains(&garbage.bytes), "{}", garbage.bytes);
    assert_eq!(run(&store, &GarbageOptions { max_freed: Some(0), ..options }).await, Garbage::default());
    assert_eq!(files.iter().filter(|path| host.real(path).exists()).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_nars_promised_too_much() {
    let host = Host::with_store();
    // The same file three times: on the disk it is there once.
    let conf = host.path("conf/nix.conf");
    let text = std::fs::read_to_string(&conf).unwrap() + "auto-optimise-store = true\n";
    std::fs::write(&conf, text).unwrap();
    let same: Vec<StorePath> = (0..3)
        .map(|number| {
            let name = format!("same-{number}");
            std::fs::write(host.path(&name), trees::noise(1_000_000)).unwrap();
            host.add(&host.path(&name))
        })
        .collect();
    host.add_files([("last".into(), 1_000_000)]);
    for path in &same {
        registered_ago(&host, path, HOUR);
    }
    let _daemon = host.daemon();
    let store = host.open().await;
    let options = GarbageOptions { max_freed: Some(1_500_000), ..GarbageOptions::default() };
    let named = run(&store, &GarbageOptions { dry_run: true, ..options.clone() }).await;
    assert_eq!(named.paths.len(), 2);
    let garbage = run(&store, &options).await;
    assert!(named.paths.iter().all(|path| garbage.paths.contains(path)));
    assert!(garbage.paths.len() > 2, "two of the same free nothing: {garbage:?}");
    assert!(same.iter().all(|path| !host.real(path).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_old_goes_and_nothing_that_the_young_needs() {
    let host = Host::with_store();
    let [old, needed]: [_; 2] = host.add_files([("old".into(), 10), ("needed".into(), 10)]).try_into().unwrap();
    let young = host.add_referrer("young", &[&needed]);
    for path in [&old, &needed] {
        registered_ago(&host, path, 48 * HOUR);
    }
    let _daemon = host.daemon();
    let store = host.open().await;
    let options = GarbageOptions { older_than: Some(24 * HOUR), ..GarbageOptions::default() };
    let named = run(&store, &GarbageOptions { dry_run: true, ..options.clone() }).await;
    assert_eq!(names(&named), std::slice::from_ref(&old));
    assert_eq!(names(&run(&store, &options).await), std::slice::from_ref(&old));
    assert!(!host.real(&old).exists() && host.real(&needed).exists() && host.real(&young).exists());
    let options = GarbageOptions { older_than: Some(Duration::ZERO), ..GarbageOptions::default() };
    assert_eq!(names(&run(&store, &options).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_alive_in_time_stays() {
    let host = Host::with_store();
    let files = host.add_files((0..20).map(|number| (format!("file-{number}"), 10)));
    let needed = host.add_text("needed", "by somebody");
    let saved = host.add_referrer("saved", &[&needed]);
    let _daemon = host.daemon();
    let store = host.open().await;
    for options in
        [GarbageOptions { older_than: Some(Duration::ZERO), ..GarbageOptions::default() }, GarbageOptions::default()]
    {
        let save = |news| {
            if matches!(news, GarbageProgress::Planned { .. }) && options.older_than.is_some() {
                host.root_path(&saved);
            }
        };
        let garbage = store.garbage(&options, save, &CancellationToken::new()).await.unwrap();
        assert!(host.real(&saved).exists() && host.real(&needed).exists(), "{options:?}");
        assert!(garbage.paths.iter().all(|path| path.path != saved && path.path != needed));
        assert!(files.iter().all(|path| !host.real(path).exists()), "the others went");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_told_to() {
    let host = Host::with_store();
    let files = host.add_files((0..1500).map(|number| (format!("file-{number}"), 10)));
    let _daemon = host.daemon();
    let store = host.open().await;
    for options in
        [GarbageOptions::default(), GarbageOptions { older_than: Some(Duration::ZERO), ..GarbageOptions::default() }]
    {
        let before = run(&store, &dry_run()).await.paths.len();
        let (cancel, mut told) = (CancellationToken::new(), HashSet::new());
        let stop = |news| {
            if let GarbageProgress::Deleted(path) = news {
                told.insert(path.path);
                cancel.cancel();
            }
        };
        let garbage = store.garbage(&options, stop, &cancel).await.unwrap();
        assert!(garbage.cancelled && !told.is_empty());
        assert_eq!(sorted(names(&garbage)), sorted(told));
        // The next one waits until the daemon has noticed, because only one collects at a time.
        let left = run(&store, &dry_run()).await.paths.len();
        assert!(0 < left && left <= before, "{left} of {before}");
        // The last one may be left behind half deleted, as remains for the next collection.
        let there = garbage.paths.iter().filter(|path| host.real(&path.path).exists()).count();
        assert!(there <= 1, "{there} of {} are there", garbage.paths.len());
        for path in &garbage.paths {
            assert_eq!(store.path_info(path.path.hash()).await.unwrap(), None, "{path:?} is not valid any more");
        }
    }
    assert!(files.iter().any(|path| host.real(path).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_in_the_middle_is_told() {
    let host = Host::with_store();
    host.add_files((0..1500).map(|number| (format!("file-{number}"), 10)));
    let daemon = host.daemon();
    let store = host.open().await;
    let mut told = vec![];
    let kill = |news| {
        if let GarbageProgress::Deleted(path) = news {
            if told.is_empty() {
                daemon.kill_connections();
            }
            told.push(path.path);
        }
    };
    let error = store.garbage(&GarbageOptions::default(), kill, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::DaemonIo { .. }), "{error}");
    assert!(!told.is_empty());
    // Its store is as good as before, and the work can be ended.
    let garbage = run(&store, &GarbageOptions::default()).await;
    assert!(!garbage.paths.is_empty() && told.len() + garbage.paths.len() <= 1501);
    assert_eq!(run(&store, &dry_run()).await, Garbage::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_without_a_daemon() {
    let host = Host::with_store();
    let path = host.add_text("dead", "x");
    let store = host.open().await;
    let error = store.garbage(&dry_run(), |_| (), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::NeedsDaemon { .. }), "{error}");
    assert!(error.to_string().contains("start nix-daemon"), "{error}");
    assert!(host.real(&path).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_given_up_and_made_again() {
    let host = Host::with_store();
    let path = host.add_text("read", &"x".repeat(1_000_000));
    let store = host.open().await;
    let before = nar(&store, &path).await.unwrap();
    assert!(store.drop_caches().await > 1000, "a layout, at least one connection, and blocks");
    assert_eq!(store.drop_caches().await, 0, "there is nothing left");
    assert!(nar(&store, &path).await.unwrap() == before);
}

/// How long it takes to look, which every request does, and how long to delete.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn what_requests_cost() {
    let host = Host::with_store();
    let _daemon = host.daemon();
    let store = host.open().await;
    let time = async |options: GarbageOptions| {
        let start = std::time::Instant::now();
        let garbage = run(&store, &options).await;
        println!("{:>6} paths, {:?}: {:?}", garbage.paths.len(), options.older_than, start.elapsed());
    };
    time(dry_run()).await;
    for options in
        [GarbageOptions::default(), GarbageOptions { older_than: Some(Duration::ZERO), ..GarbageOptions::default() }]
    {
        for part in 0..4 {
            host.add_files((0..2500).map(|number| (format!("file-{part}-{number}"), 10)));
        }
        time(dry_run()).await;
        time(options).await;
    }
}

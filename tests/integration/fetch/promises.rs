//! A narinfo is a promise: whoever breaks it is replaced by any other who has the path, and is not taken at their word again.

use super::{Client, whole};
use crate::support::internet::Sample;
use crate::support::odd_cache::{End, Entry, OddCache, Reply};
use peernix::nix::Compression;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How a cache that has the narinfo can fail to give the file.
const FAULTS: [&str; 10] = [
    "403",
    "404",
    "410",
    "500",
    "stall before the head",
    "stall in the body",
    "reset before the head",
    "reset in the body",
    "end in the body",
    "another file",
];

fn broken(fault: &str, file: &[u8]) -> Reply {
    let part = file.len() / 3;
    match fault {
        "stall before the head" => Reply::raw("", End::Stall),
        "stall in the body" => Reply::cut("", file, part, End::Stall),
        "reset before the head" => Reply::raw("", End::Reset),
        "reset in the body" => Reply::cut("", file, part, End::Reset),
        "end in the body" => Reply::cut("", file, part, End::Close),
        "another file" => Reply::ok("", b"<html>Not found</html>"),
        status => Reply::status(status.parse().unwrap(), ""),
    }
}

const LATE: [Duration; 2] = [Duration::ZERO, Duration::from_millis(1200)];
/// How many cases are tried at once: the budget of a lookup must not be used up by what the others have to do.
const AT_ONCE: usize = 8;

/// One case: the first cache breaks its promise, the second keeps it. Gives what was wrong.
async fn case(
    sample: &Sample,
    fault: &'static str,
    late: Duration,
    [first, second]: [Entry; 2],
) -> Result<(), &'static str> {
    let first = OddCache::with(first, Duration::ZERO, move |_, file| broken(fault, file)).await;
    let second = OddCache::with(second, late, |_, file| Reply::ok("", file)).await;
    let client = Client::of(vec![first.url(), second.url()]).await;
    client.fetcher.narinfo(sample.hash()).await.ok_or("no narinfo")?;
    let body = client.nar(sample, 0).await.ok_or("no NAR")?;
    if whole(Some(body)).await != sample.nar {
        return Err("another NAR");
    }
    // Again: the first is not asked for the file any more, as long as the second gives it.
    let asked = first.asked("/nar/").len();
    client.fetcher.narinfo(sample.hash()).await.ok_or("no narinfo the second time")?;
    client.nar(sample, 0).await.ok_or("no NAR the second time")?;
    if first.asked("/nar/").len() == asked { Ok(()) } else { Err("the broken one is asked again") }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_a_promise_is_replaced_by_whoever_keeps_it() {
    let sample = Arc::new(Sample::new(1, 200_000));
    let theirs = [Compression::Xz, Compression::Zstd, Compression::None];
    let entries = theirs.map(|compression| (compression.clone(), Entry::new(&sample, &compression)));
    let (mut cases, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for fault in FAULTS {
        for late in LATE {
            for (theirs, entry) in &entries {
                let what = format!("{fault}, {theirs} {late:?} later");
                let (sample, entries) = (Arc::clone(&sample), [entries[0].1.clone(), entry.clone()]);
                let places = Arc::clone(&places);
                cases.spawn(async move {
                    let _place = places.acquire().await;
                    case(&sample, fault, late, entries).await.map_err(|wrong| format!("{what}: {wrong}"))
                });
            }
        }
    }
    let mut wrong: Vec<String> = cases.join_all().await.into_iter().filter_map(Result::err).collect();
    wrong.sort();
    assert!(wrong.is_empty(), "{} of 60:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_promise_that_nobody_keeps_is_not_made_again() {
    let sample = Sample::new(1, 1000);
    for fault in ["403", "404", "410", "another file"] {
        let entry = Entry::new(&sample, &Compression::Xz);
        let cache = OddCache::with(entry, Duration::ZERO, move |_, file| broken(fault, file)).await;
        let client = Client::of(vec![cache.url()]).await;
        assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "{fault}: nobody can know yet");
        assert!(client.nar(&sample, 0).await.is_none(), "{fault}");
        assert!(client.fetcher.narinfo(sample.hash()).await.is_none(), "{fault}: it is known by now");
    }
    // What may be better in a moment is no reason to say that the path does not exist.
    let entry = Entry::new(&sample, &Compression::Xz);
    let cache = OddCache::with(entry, Duration::ZERO, |_, _| Reply::status(503, "")).await;
    let client = Client::of(vec![cache.url()]).await;
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
    assert!(client.nar(&sample, 0).await.is_none());
    assert!(cache.asked("/nar/").len() > 1, "it is tried again");
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
}

#[tokio::test]
async fn a_failure_that_passes_is_waited_out() {
    let sample = Sample::new(1, 1000);
    for (number, status) in (0..).zip([429, 500, 502, 503, 504]) {
        let failed = std::sync::atomic::AtomicBool::new(false);
        let compression = if number % 2 == 0 { Compression::None } else { Compression::Xz };
        let cache = OddCache::with(Entry::new(&sample, &compression), Duration::ZERO, move |_, file| {
            if failed.swap(true, std::sync::atomic::Ordering::Relaxed) {
                Reply::ok("", file)
            } else {
                Reply::status(status, "")
            }
        });
        let client = Client::of(vec![cache.await.url()]).await;
        assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{status}");
    }
}

//! Whole before the first byte, also when more comes at once than there is memory for.

use super::{Client, MIB, whole};
use crate::support::internet::Sample;
use crate::support::odd_cache::{Entry, OddCache, Reply};
use peernix::nix::Compression;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_small_nar_is_verified_before_its_first_byte_when_the_memory_is_taken() {
    // 64 MiB are there: four of these, which nobody reads yet.
    let samples: Vec<Sample> = (0..5).map(|number| Sample::new(number, 15 * MIB)).collect();
    let entries: Vec<Entry> = samples.iter().map(|sample| Entry::new(sample, &Compression::None)).collect();
    let lie = entries[4].path.clone();
    let files = Arc::new(entries);
    let serve = |lies: bool| {
        let (files, lie) = (Arc::clone(&files), lie.clone());
        OddCache::start(move |asked| {
            for entry in files.iter() {
                if asked.path == entry.path && lies && asked.path == lie {
                    return Reply::ok("", &[&[entry.file[0] ^ 1], &entry.file[1..]].concat());
                } else if asked.path == entry.path {
                    return Reply::ok("", &entry.file);
                } else if asked.path.ends_with(".narinfo") && entry.narinfo.contains(&asked.path[1..33]) {
                    let late = if lies { Duration::ZERO } else { Duration::from_millis(50) };
                    return Reply::ok("", entry.narinfo.as_bytes()).after(late);
                }
            }
            Reply::status(404, "")
        })
    };
    let (liar, honest) = (serve(true).await, serve(false).await);
    let client = Arc::new(Client::of(vec![liar.url(), honest.url()]).await);
    let mut unread = Vec::new();
    for sample in &samples[..4] {
        unread.push(client.nar(sample, 0).await.expect("there is room"));
    }
    let (waiting, samples) = (Arc::clone(&client), Arc::new(samples));
    let fifth = tokio::spawn({
        let samples = Arc::clone(&samples);
        async move { whole(waiting.nar(&samples[4], 0).await).await == samples[4].nar }
    });
    tokio::time::sleep(Duration::from_millis(1500)).await; // pace: longer than a large NAR waits
    assert!(!fifth.is_finished(), "it waits for its turn");
    let first = unread.remove(0);
    assert!(whole(Some(first)).await == samples[0].nar);
    assert!(fifth.await.unwrap(), "and is right, although a liar was asked first");
    drop(unread);
}

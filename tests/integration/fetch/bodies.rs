//! The forms in which caches send a NAR: with or without a length, encoded once more, compressed by whatever Nix reads.

use super::{Client, MIB, drain, whole};
use crate::support::internet::Sample;
use crate::support::odd_cache::{Asked, End, Entry, OddCache, Reply};
use peernix::nix::Compression;
use std::io::Write;
use std::time::Duration;

type Answer = fn(&Asked, &[u8]) -> Reply;

async fn client(sample: &Sample, compression: &Compression, answer: Answer) -> (Client, OddCache) {
    let cache = OddCache::with(Entry::new(sample, compression), Duration::ZERO, answer).await;
    (Client::of(vec![cache.url()]).await, cache)
}

/// With ranges, as far as `whole` leaves them.
fn ranged(asked: &Asked, file: &[u8], headers: &str) -> Reply {
    match asked.from {
        Some(from) => Reply::part(headers, file, from),
        None => Reply::ok(headers, file),
    }
}

#[tokio::test]
async fn a_nar_needs_no_length() {
    let forms: [(&str, Answer); 2] =
        [("in chunks", |_, file| Reply::chunked("", file)), ("until the end", |_, file| Reply::until_close("", file))];
    for size in [1000, 17 * MIB] {
        let sample = Sample::new(1, size);
        for (form, answer) in forms {
            for compression in [Compression::None, Compression::Zstd] {
                let (client, _cache) = client(&sample, &compression, answer).await;
                assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{compression} {form}, {size} bytes");
                let rest = whole(client.nar(&sample, 500).await).await;
                assert!(rest == sample.nar.slice(500..), "{compression} {form}, {size} bytes, from 500");
            }
        }
    }
}

#[tokio::test]
async fn a_nar_without_a_length_that_ends_early_is_no_nar() {
    let sample = Sample::new(1, 100_000);
    let forms: [(&str, Answer); 3] = [
        ("in chunks", |_, file| Reply::chunked("", &file[..file.len() / 2])),
        ("until the end", |_, file| Reply::until_close("", &file[..file.len() / 2])),
        ("in chunks that break off", |_, file| {
            Reply::raw(
                [&b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"[..], &file[..file.len() / 2]]
                    .concat(),
                End::Close,
            )
        }),
    ];
    for (form, answer) in forms {
        for compression in [Compression::None, Compression::Xz] {
            let (client, _cache) = client(&sample, &compression, answer).await;
            assert!(client.nar(&sample, 0).await.is_none(), "{compression} {form}");
        }
    }
    let large = Sample::new(2, 17 * MIB);
    let (client, _cache) = client(&large, &Compression::None, |_, file| Reply::until_close("", &file[..9 * MIB])).await;
    let (read, outcome) = drain(client.nar(&large, 0).await.unwrap()).await;
    assert!(outcome.is_err() && large.nar.starts_with(&read));
}

#[tokio::test]
async fn a_download_without_a_length_goes_on_where_it_broke_off_if_it_is_the_same_file() {
    let sample = Sample::new(1, 2 * MIB);
    let (client, cache) = client(&sample, &Compression::Zstd, |asked, file| match asked.from {
        None => Reply::raw(
            [&b"HTTP/1.1 200 X\r\nETag: \"one\"\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n"[..], &file[..500_000]]
                .concat(),
            End::Close,
        ),
        Some(from) => Reply::part("ETag: \"one\"\r\n", file, from),
    })
    .await;
    assert!(whole(client.nar(&sample, 0).await).await == sample.nar);
    let from: Vec<_> = cache.asked("/nar/").into_iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(500_000)]);
}

#[tokio::test]
async fn nobody_signs_the_size_of_a_file() {
    let sample = Sample::new(1, 50_000);
    for compression in [Compression::None, Compression::Xz, Compression::Zstd] {
        for told in [None, Some(0), Some(1), Some(1 << 40)] {
            let entry = Entry::changed(&sample, &compression, |narinfo| narinfo.file_size = told);
            let cache = OddCache::with(entry, Duration::ZERO, |asked, file| ranged(asked, file, "")).await;
            let client = Client::of(vec![cache.url()]).await;
            assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "{compression} {told:?}");
            assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{compression} {told:?}");
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

#[tokio::test]
async fn an_encoding_that_nobody_asked_for_is_undone() {
    let sample = Sample::new(1, 300_000);
    let forms: [(&str, Answer); 4] = [
        ("gzip", |_, file| Reply::ok("Content-Encoding: gzip\r\n", &gzip(file))),
        ("gzip, with ranges", |asked, file| ranged(asked, &gzip(file), "Content-Encoding: gzip\r\n")),
        ("zstd, gzip", |_, file| {
            Reply::chunked("Content-Encoding: zstd, gzip\r\n", &gzip(&zstd::encode_all(file, 1).unwrap()))
        }),
        ("zstd and gzip", |_, file| {
            let file = gzip(&zstd::encode_all(file, 1).unwrap());
            Reply::ok("Content-Encoding: zstd\r\nContent-Encoding: GZIP\r\n", &file)
        }),
    ];
    for (form, answer) in forms {
        for compression in [Compression::None, Compression::Xz] {
            let (client, _cache) = client(&sample, &compression, answer).await;
            for from in [0, 1000] {
                let read = whole(client.nar(&sample, from as u64).await).await;
                assert!(read == sample.nar.slice(from..), "{form} of {compression} from {from}");
            }
        }
    }
}

#[tokio::test]
async fn an_encoding_that_nobody_knows_is_left_for_another_source() {
    let sample = Sample::new(1, 300_000);
    for compression in [Compression::None, Compression::Xz] {
        for encoding in ["compress", "gzip, gzip, gzip, gzip, gzip"] {
            let headers = format!("Content-Encoding: {encoding}\r\n");
            let odd = OddCache::with(Entry::new(&sample, &compression), Duration::ZERO, move |_, file| {
                Reply::ok(&headers, file)
            });
            let other = OddCache::with(Entry::new(&sample, &compression), Duration::from_millis(100), |_, file| {
                Reply::ok("", file)
            });
            let (odd, other) = (odd.await, other.await);
            let client = Client::of(vec![odd.url(), other.url()]).await;
            assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{encoding} of {compression}");
        }
    }
}

#[tokio::test]
async fn identity_is_no_encoding() {
    // As harmonia sends ranges: a large NAR that breaks off goes on.
    let sample = Sample::new(1, 20 * MIB);
    for encoding in ["identity", "Identity", ""] {
        let headers = format!("Content-Encoding: {encoding}\r\n");
        for compression in [Compression::None, Compression::Zstd] {
            let headers = headers.clone();
            let cache =
                OddCache::with(Entry::new(&sample, &compression), Duration::ZERO, move |asked, file| {
                    match asked.from {
                        None => Reply::cut("", file, file.len() * 2 / 5, End::Close),
                        Some(from) => Reply::part(&headers, file, from),
                    }
                })
                .await;
            let client = Client::of(vec![cache.url()]).await;
            assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "'{encoding}' on {compression}");
        }
    }
}

#[tokio::test]
async fn what_nix_decodes_is_decoded_and_what_nobody_can_is_not_promised() {
    let sample = Sample::new(1, 100_000);
    let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
    writer.write_all(&sample.nar).unwrap();
    let lz4 = writer.finish().unwrap();
    let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut writer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    writer.write_all(&sample.nar).unwrap();
    let lzma = writer.finish().unwrap();
    for (name, file) in [("lz4", Some(lz4)), ("lzma", Some(lzma)), ("lzop", None), ("grzip", None)] {
        let mut entry = Entry::changed(&sample, &Compression::None, |narinfo| {
            narinfo.compression = Compression::Other(name.into());
        });
        let is_known = file.is_some();
        entry.file = file.unwrap_or_default();
        let cache = OddCache::with(entry, Duration::ZERO, |_, file| Reply::ok("", file)).await;
        let client = Client::of(vec![cache.url()]).await;
        assert_eq!(client.fetcher.narinfo(sample.hash()).await.is_some(), is_known, "{name}");
        if is_known {
            assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{name}");
        }
    }
}

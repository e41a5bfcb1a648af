//! Micro-benchmarks of what runs once a request or once a byte, beside other implementations where there are any.
//!
//! `make bench` prints the table and writes `target/bench/report.json`: a list of `{suite, case, subject, unit, median,
//! min, max}`. Read the ratios between subjects of one case; absolute figures are the machine's.
#![allow(clippy::expect_used, clippy::print_stdout)] // a benchmark that cannot run should say so and end

use peernix::nix::nar::{self, Writer};
use peernix::nix::{NarInfo, PathInfo, SecretKey, StoreDir, TrustedKeys, base32};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How many samples a case has.
const SAMPLES: usize = 21;
/// How long one sample takes at least, so that the clock does not matter.
const SAMPLE: Duration = Duration::from_millis(20);

#[derive(Serialize)]
struct Row {
    suite: &'static str,
    case: &'static str,
    subject: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
}

/// Measures `work` in nanoseconds a call; with `bytes`, in megabytes a second.
fn measure(case: &'static str, subject: &'static str, bytes: Option<usize>, mut work: impl FnMut()) -> Row {
    let begun = Instant::now();
    let mut calls = 0u32;
    while begun.elapsed() < SAMPLE {
        work();
        calls += 1;
    }
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..calls {
                work();
            }
            let nanoseconds = begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls);
            #[allow(clippy::cast_precision_loss)] // benchmarks are not that precise
            bytes.map_or(nanoseconds, |bytes| bytes as f64 * 1000.0 / nanoseconds)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    let unit = if bytes.is_some() { "MB/s" } else { "ns" };
    Row {
        suite: "micro",
        case,
        subject,
        unit,
        median: samples[SAMPLES / 2],
        min: samples[0],
        max: samples[SAMPLES - 1],
    }
}

/// A NAR of a directory with `files` files of `size` bytes.
fn tree(files: usize, size: usize) -> Vec<u8> {
    let mut writer = Writer::new();
    let mut bytes = Vec::new();
    writer.directory(&mut bytes, b"");
    for number in 0..files {
        writer.regular(&mut bytes, format!("file-{number:06}").as_bytes(), false, size as u64);
        bytes.resize(bytes.len() + size.next_multiple_of(8), 0);
        let content = bytes.len() - size.next_multiple_of(8);
        bytes[content..content + size].fill(b'x');
    }
    writer.close(&mut bytes);
    bytes
}

fn main() {
    let dir = StoreDir::default();
    let text = include_str!("../tests/golden/narinfo/xz.narinfo");
    let narinfo = NarInfo::parse(text, &dir).expect("a narinfo");
    let info: &PathInfo = &narinfo.info;
    let key = SecretKey::from_seed("bench-1", [1; 32]).expect("a key");
    let mut signed = info.clone();
    signed.signatures = vec![key.sign(info, &dir)];
    let trusted: TrustedKeys = [key.public()].into_iter().collect();
    let hash = [0x5au8; 20];
    let hash_text = base32::encode(&hash);
    let many = tree(12_000, 200);
    let big = tree(1, 16 * 1024 * 1024);

    let rows = vec![
        measure("base-32 encode, 20 bytes", "peernix", None, || drop(black_box(base32::encode(black_box(&hash))))),
        measure("base-32 encode, 20 bytes", "nix-base32", None, || {
            drop(black_box(nix_base32::to_nix_base32(black_box(&hash))));
        }),
        measure("base-32 decode, 32 characters", "peernix", None, || {
            black_box(base32::decode::<20>(black_box(&hash_text)).expect("base-32"));
        }),
        measure("narinfo parse", "peernix", None, || {
            black_box(NarInfo::parse(black_box(text), &dir).expect("a narinfo"));
        }),
        measure("narinfo render", "peernix", None, || drop(black_box(narinfo.render(&dir)))),
        measure("signature verify", "peernix", None, || {
            black_box(trusted.voucher(black_box(&signed), &dir));
        }),
        measure("signature make", "peernix", None, || {
            black_box(key.sign(black_box(info), &dir));
        }),
        measure("NAR check, 12,000 files", "peernix", Some(many.len()), || {
            nar::check(black_box(&many)).expect("a NAR");
        }),
        measure("NAR check, 12,000 files", "nix-nar", Some(many.len()), || {
            let decoder = nix_nar::Decoder::new(black_box(&many[..])).expect("a NAR");
            for entry in decoder.entries().expect("entries") {
                black_box(entry.expect("an entry"));
            }
        }),
        measure("NAR check, 16 MiB file", "peernix", Some(big.len()), || nar::check(black_box(&big)).expect("a NAR")),
        measure("SHA-256, 16 MiB", "sha2", Some(big.len()), || {
            black_box(Sha256::digest(black_box(&big)));
        }),
    ];
    for row in &rows {
        println!(
            "{:32} {:10} {:>12.1} {:4}  ({:.1} to {:.1})",
            row.case, row.subject, row.median, row.unit, row.min, row.max
        );
    }
    // Beside the binary's own target directory, wherever that is.
    let report = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&report).expect("target/bench can be made");
    let json = serde_json::to_vec_pretty(&rows).expect("rows are JSON");
    std::fs::write(report.join("report.json"), json).expect("the report can be written");
}

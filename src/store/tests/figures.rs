//! Figures, for the reports; run by hand: `cargo test --lib -- --ignored --nocapture store::tests::figures`.
#![allow(clippy::print_stderr)]

use super::trees::noise;
use super::*;
use crate::nix::StoreHash;
use rusqlite::Connection;
use std::io::Write;
use std::time::Instant;

/// Adds a path to the store without Nix, which would take long over large ones.
fn register(host: &Host, name: &str, make: impl FnOnce(&Path)) -> StorePath {
    let path: StorePath = format!("7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-{name}").parse().unwrap();
    let real = host.real(&path);
    std::fs::create_dir_all(real.parent().unwrap()).unwrap();
    make(&real);
    let layout = crate::store::walk::walk(real.parent().unwrap(), &path, crate::nix::NarHash::new([0; 32])).unwrap();
    let sql = "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 7, ?3)";
    let nar_hash = crate::nix::hash::Hash::from(layout.nar_hash()).to_base16();
    let size = i64::try_from(layout.nar_size()).unwrap();
    let full = StoreDir::default().join(&path);
    let database = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    database.execute(sql, rusqlite::params![full, format!("sha256:{nar_hash}"), size]).unwrap();
    path
}

/// Reads a stream to its end without keeping it.
async fn drain(mut stream: ByteStream) -> u64 {
    let mut count = 0;
    while let Some(frame) = stream.frame().await {
        count += frame.unwrap().into_data().unwrap().len() as u64;
    }
    count
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Microseconds since `start`, for each of `count`.
#[allow(clippy::cast_precision_loss)]
fn micros(start: Instant, count: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn path_infos() {
    const PATHS: usize = 100_000;
    let host = Host::with_store();
    let mut database = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    let transaction = database.transaction().unwrap();
    let hash = |number: usize| {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        bytes[12..].copy_from_slice(&(number as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f).to_le_bytes());
        StoreHash::new(bytes)
    };
    for number in 0..PATHS {
        let sql = "insert into ValidPaths (path, hash, registrationTime, narSize, sigs) values (?1, ?2, 7, 112, ?3)";
        let signature = format!("cache.nixos.org-1:{}==", "A".repeat(86));
        let path = format!("/nix/store/{}-package-1.{number}", hash(number));
        transaction.execute(sql, [path, format!("sha256:{}", "0".repeat(64)), signature]).unwrap();
    }
    transaction.execute_batch("insert into Refs select a.id, 1 + (a.id * 7919 * b.id) % 100000 from ValidPaths a, (select id from ValidPaths where id between 11 and 18) b where true on conflict do nothing").unwrap();
    transaction.commit().unwrap();
    let store = host.open().await;
    for (what, absent) in [("present", 0), ("absent", PATHS)] {
        for round in 0..2 {
            let start = Instant::now();
            for number in 0..20_000 {
                let found = store.path_info(hash((number * 7) % PATHS + absent)).await.unwrap();
                assert_eq!(found.is_some(), absent == 0);
            }
            eprintln!("path_info, {what}, one after another, round {round}: {:.1} µs", micros(start, 20_000));
        }
    }
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..2000 {
                store.path_info(hash((task * 6007 + number * 7) % PATHS)).await.unwrap().unwrap();
            }
        });
    }
    tasks.join_all().await;
    eprintln!("path_info, 16 at once: {:.1} µs each", micros(start, 32_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn the_way_to_a_first_byte() {
    const PATHS: usize = 300;
    let host = Host::with_store();
    let paths: Vec<StorePath> = (0..PATHS).map(|number| host.add_text(&format!("t{number}"), "x")).collect();
    let _daemon = host.daemon();
    let store = host.open().await;
    let mut layouts = Vec::new();
    let start = Instant::now();
    for path in &paths {
        layouts.push(store.layout(&*valid(&store, path).await).await.unwrap());
    }
    eprintln!("path info, temp root by a real daemon and walk of one file: {:.1} µs", micros(start, PATHS));
    for round in 0..2 {
        let start = Instant::now();
        for layout in &layouts {
            assert_eq!(drain(store.nar(layout, 0..layout.nar_size()).await.unwrap()).await, layout.nar_size());
        }
        eprintln!("NAR of one small file, root already there, round {round}: {:.1} µs", micros(start, PATHS));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn many_small_files() {
    for files in [12_000, 200_000] {
        let host = Host::with_store();
        let path = register(&host, "tree", |root| {
            for number in 0..files {
                let directory = root.join(format!("directory-{}", number / 100));
                if number % 100 == 0 {
                    std::fs::create_dir_all(&directory).unwrap();
                }
                std::fs::write(directory.join(format!("file-{number}.txt")), noise(500 + number % 3000)).unwrap();
            }
        });
        let store = host.open().await;
        let info = valid(&store, &path).await;
        let start = Instant::now();
        let layout = store.layout(&info).await.unwrap();
        eprintln!("{files} files: walk {:.2} µs a file, layout {} KiB", micros(start, files), layout.memory() / 1024);
        for _ in 0..3 {
            let start = Instant::now();
            let count = drain(store.nar(&layout, 0..layout.nar_size()).await.unwrap()).await;
            assert_eq!(count, layout.nar_size());
            eprintln!("{files} files: NAR {:.2} µs a file", micros(start, files));
        }
        let start = Instant::now();
        let length = drain(store.listing(&layout).await.unwrap()).await;
        eprintln!("{files} files: listing of {length} bytes, {:.2} µs a file", micros(start, files));
        let start = Instant::now();
        let status = host.command("nix-store").arg("--dump").arg(host.real(&path)).stdout(Stdio::null()).status();
        assert!(status.unwrap().success());
        eprintln!("{files} files: nix-store --dump >/dev/null {:.2} µs a file", micros(start, files));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[allow(clippy::cast_precision_loss)]
async fn a_large_file() {
    const SIZE: usize = 2 << 30;
    let host = Host::with_store();
    let path = register(&host, "large", |file| {
        let mut file = std::fs::File::create(file).unwrap();
        let chunk = noise(1 << 20);
        for _ in 0..SIZE >> 20 {
            file.write_all(&chunk).unwrap();
        }
    });
    let store = host.open().await;
    let layout = store.layout(&*valid(&store, &path).await).await.unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        drain(store.nar(&layout, 0..layout.nar_size()).await.unwrap()).await;
        eprintln!("one reader of 2 GiB: {:.0} MB/s", SIZE as f64 / 1e6 / start.elapsed().as_secs_f64());
    }
    let before = resident();
    let start = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stream = store.nar(&layout, 0..layout.nar_size()).await.unwrap();
        readers.spawn(drain(stream));
    }
    let mut most = before;
    while !readers.is_empty() {
        let pause = std::time::Duration::from_millis(20);
        let _ = tokio::time::timeout(pause, readers.join_next()).await;
        most = most.max(resident());
    }
    eprintln!(
        "four readers of 2 GiB: {:.0} MB/s in all, resident {} MiB before, {} MiB at most",
        4.0 * SIZE as f64 / 1e6 / start.elapsed().as_secs_f64(),
        before >> 20,
        most >> 20
    );
    let start = Instant::now();
    let status = host.command("nix-store").arg("--dump").arg(host.real(&path)).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    eprintln!("nix-store --dump >/dev/null: {:.0} MB/s", SIZE as f64 / 1e6 / start.elapsed().as_secs_f64());
}

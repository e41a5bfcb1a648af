//! The caches of this machine's store beside others, in one run: what they serve is the same, who goes first alternates, and what
//! counts are the ratios. `benches/README.md` says how to read them.
#![allow(clippy::print_stdout)] // its output is what it is for

mod content;
mod load;
#[allow(dead_code, reason = "the demonstration needs all of it")]
#[path = "../../examples/demo/machine.rs"]
mod machine;
mod report;
mod subjects;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use content::{Content, Nix, Sizes, hash_part};
use machine::{Machine, Plan};
use peernix::nix::PublicKey;
use report::{P99, Report};
use rusqlite::{Connection as Database, params};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use subjects::{BASE, CONNECTIONS, Running, Subject, Usage, usage};

/// The key of everything that is served.
const KEY: &str = include_str!("../../tests/golden/keys/test-1.public");
/// How many paths a cold start has.
const MANY: u32 = 100_000;
/// How long nobody asks anything before memory is looked at that is there at rest.
const REST: Duration = Duration::from_secs(60);
/// How long requests for narinfos are made at a time, in full and for CI.
const TIMES: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(500)];
/// What is good enough for CI, as a ratio to nginx: with programs that are optimised, and with those that are built for tests. It is
/// there to catch what is ten times slower than yesterday.
const FLOOR: f64 = if cfg!(debug_assertions) { 0.01 } else { 0.1 };

/// Measures caches beside each other.
#[derive(Debug, Parser)]
#[command(name = "suite", max_term_width = 100)]
struct Args {
    /// A few of the cases, on a small scale, with floors: what CI runs
    #[arg(long)]
    smoke: bool,
    /// Another cache that has the same paths (the flat cache stays below --dir with --keep)
    #[arg(long, value_name = "NAME=URL", value_parser = name_and_url)]
    against: Vec<(String, String)>,
    /// Rounds of each case
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: u8,
    /// Where store, cache and programs' files go for the time
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Leave them there, and use what is there
    #[arg(long)]
    keep: bool,
    /// Only cases with one of these texts in their names
    filter: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn name_and_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("NAME=URL is expected")?;
    Ok((name.to_owned(), url.to_owned()))
}

/// What is asked of each subject.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Narinfos that are there, on so many connections.
    Hits(usize),
    /// Narinfos that are not.
    Misses(usize),
    /// All small NARs, one after the other on each of so many connections.
    Small(usize),
    /// The NAR of the tree, on so many connections at once.
    Tree(usize),
    /// That of the large file.
    Large(usize),
    /// The last tenth of the largest.
    Range,
    /// The real Nix, small paths alone, or the tree as well.
    Closure { tree: bool },
}

impl Work {
    fn all() -> Vec<Self> {
        let connections = [1, 16, 256, 1000];
        let mut all: Vec<Self> = connections.map(Self::Hits).to_vec();
        all.extend(connections.map(Self::Misses));
        all.extend([1, 4, 16].map(Self::Small));
        all.extend([1, 4, 8].map(Self::Tree));
        all.extend([1, 4, 8].map(Self::Large));
        all.extend([Self::Range, Self::Closure { tree: false }, Self::Closure { tree: true }]);
        all
    }

    fn smoke() -> Vec<Self> {
        vec![
            Self::Hits(16),
            Self::Misses(16),
            Self::Small(4),
            Self::Tree(1),
            Self::Large(1),
            Self::Closure { tree: false },
        ]
    }

    fn name(self) -> String {
        match self {
            Self::Hits(connections) => format!("narinfo hit, {connections} connections"),
            Self::Misses(connections) => format!("narinfo miss, {connections} connections"),
            Self::Small(streams) => format!("small NARs, {streams} streams"),
            Self::Tree(streams) => format!("tree, {streams} streams"),
            Self::Large(streams) => format!("large file, {streams} streams"),
            Self::Range => "range at 90 %".to_owned(),
            Self::Closure { tree: false } => "Nix, small paths".to_owned(),
            Self::Closure { tree: true } => "Nix, small paths and tree".to_owned(),
        }
    }
}

/// What one round came to: figures with their units, and whether more is better.
type Figures = Vec<(&'static str, &'static str, f64, bool)>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let dir = args.dir.clone().unwrap_or_else(|| target.join("suite"));
    if !args.keep {
        remove(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let sizes = if args.smoke {
        Sizes { small: 60, files: 1500, large: 64 << 20, largest: 0 }
    } else {
        Sizes { small: 230, files: 12_000, large: 500_000_000, largest: 2 << 30 }
    };
    let content = Content::make(&dir, sizes)?;
    let key: PublicKey = KEY.trim().parse()?;
    let running = subjects::start(&dir, &content, &key, &args.against).await?;
    let mut report = Report::default();
    let wanted = |name: &str| args.filter.is_empty() || args.filter.iter().any(|part| name.contains(part.as_str()));
    for work in if args.smoke { Work::smoke() } else { Work::all() } {
        if wanted(&work.name()) && !(matches!(work, Work::Range) && content.largest.is_none()) {
            measure(work, &content, &running, args, &mut report).await.with_context(|| work.name())?;
        }
    }
    let measured = || running.subjects.iter().filter(|subject| !subject.processes.is_empty());
    for subject in measured() {
        let Usage { anonymous, peak, .. } = usage(&subject.processes);
        for (case, bytes) in [("anonymous memory afterwards", anonymous), ("peak of resident memory", peak)] {
            report.add(case, &subject.name, "MiB", vec![mebibytes(bytes)]);
        }
    }
    if !args.smoke {
        tokio::time::sleep(REST).await; // pace
        for subject in measured() {
            let bytes = usage(&subject.processes).anonymous;
            report.add("anonymous memory at rest", &subject.name, "MiB", vec![mebibytes(bytes)]);
        }
    }
    drop(running);
    if wanted("cold start") && !args.smoke {
        cold_start(&dir.join("many"), &key, args.rounds, &mut report).await?;
    }
    report.write(&target)?;
    println!("\nfigures: {0}/report.json   picture: {0}/report.svg", target.display());
    if !args.keep {
        remove(&dir)?;
    }
    let below = report.below(FLOOR);
    ensure!(!args.smoke || below.is_empty(), "less than {FLOOR} of {BASE}:\n  {}", below.join("\n  "));
    ensure!(!report.is_empty() || !args.filter.is_empty(), "nothing was compared");
    Ok(())
}

/// Measures one case of all subjects, forwards in one round and backwards in the next.
async fn measure(
    work: Work,
    content: &Content,
    running: &Running,
    args: &Args,
    report: &mut Report,
) -> anyhow::Result<()> {
    let subjects: Vec<&Subject> = running.subjects.iter().collect();
    let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); subjects.len()];
    for round in 0..args.rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..subjects.len()).collect() } else { (0..subjects.len()).rev().collect() };
        for number in order {
            let figures = once(work, content, subjects[number], args.smoke)
                .await
                .with_context(|| subjects[number].name.clone())?;
            rounds[number].push(figures);
        }
    }
    // What another cache costs is not known: its processes are not ours to look at.
    let values = |number: usize, figure: usize| -> Vec<f64> {
        rounds[number].iter().filter_map(|round| round.get(figure)).map(|figure| figure.2).collect()
    };
    for (figure, (what, unit, _, more_is_better)) in rounds[0][0].iter().copied().enumerate() {
        let case = if what.is_empty() { work.name() } else { format!("{}, {what}", work.name()) };
        for (number, subject) in subjects.iter().enumerate() {
            report.add(&case, &subject.name, unit, values(number, figure));
        }
        for (number, subject) in subjects.iter().enumerate().skip(1) {
            report.compare(&case, &subject.name, &values(number, figure), &values(0, figure), more_is_better);
        }
    }
    Ok(())
}

/// One round of one subject.
async fn once(work: Work, content: &Content, subject: &Subject, smoke: bool) -> anyhow::Result<Figures> {
    let address = subject.address;
    let repeated = |url: String, streams| Arc::new(vec![url; streams]);
    Ok(match work {
        Work::Hits(connections) | Work::Misses(connections) => {
            let is_hit = matches!(work, Work::Hits(_));
            let paths = if is_hit {
                content.small.iter().map(|path| format!("/{}.narinfo", hash_part(path))).collect()
            } else {
                // Never the same twice in a round.
                let salt = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
                (0..100_000u32)
                    .map(|number| format!("/{:032}.narinfo", u64::from(number) * 1_000_003 + u64::from(salt)))
                    .collect()
            };
            let status = if is_hit { 200 } else { 404 };
            let outcome =
                load::requests(address, &Arc::new(paths), connections, TIMES[usize::from(smoke)], status).await?;
            vec![("", "1/s", outcome.rate, true), (P99, "ms", outcome.p99.as_secs_f64() * 1e3, false)]
        }
        Work::Small(streams) => {
            let urls = Arc::new(subject.nars(&content.small).await?);
            let (time, _) = load::downloads(address, &urls, streams, "").await?;
            vec![("", "ms", time.as_secs_f64() * 1e3, false)]
        }
        Work::Tree(streams) | Work::Large(streams) => {
            let path = if matches!(work, Work::Tree(_)) { &content.tree } else { &content.large };
            let url = subject.nars(std::slice::from_ref(path)).await?.remove(0);
            let before = usage(&subject.processes);
            let (time, bytes) = load::downloads(address, &repeated(url, streams), streams, "").await?;
            let mut figures = vec![("", "MB/s", megabytes(bytes) / time.as_secs_f64(), true)];
            let cpu = usage(&subject.processes).cpu.saturating_sub(before.cpu);
            // On a small scale it is less than the clock's tick.
            if !subject.processes.is_empty() && !smoke {
                figures.push(("processor time", "s/GB", cpu.as_secs_f64() / megabytes(bytes) * 1e3, false));
            }
            figures
        }
        Work::Range => {
            let path = content.largest.as_ref().context("there is no largest path")?;
            let url = subject.nars(std::slice::from_ref(path)).await?.remove(0);
            let (time, bytes) = load::downloads(address, &repeated(url, 1), 1, "Range: bytes=1932735283-\r\n").await?;
            vec![("", "MB/s", megabytes(bytes) / time.as_secs_f64(), true)]
        }
        Work::Closure { tree } => {
            let mut paths: Vec<&str> = content.small.iter().map(String::as_str).collect();
            if tree {
                paths.push(&content.tree);
            }
            let time = tokio::task::block_in_place(|| realise(subject, &paths))?;
            vec![("", "s", time.as_secs_f64(), false)]
        }
    })
}

/// Lets the real Nix get `paths` into an empty store in memory: how long that takes.
fn realise(subject: &Subject, paths: &[&str]) -> anyhow::Result<Duration> {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let root = root.join(format!("peernix-suite-{}", std::process::id()));
    remove(&root)?;
    fs::create_dir_all(&root)?;
    let nix = Nix { root: root.clone() };
    nix.run("nix-store", &["--init"])?;
    let url = format!("http://{}", subject.address);
    let options = ["--option", "substituters", &url, "--option", "trusted-public-keys", KEY.trim(), "--realise"];
    let begun = Instant::now();
    nix.run("nix-store", &[&options[..], paths].concat())?;
    let time = begun.elapsed();
    remove(&root)?;
    Ok(time)
}

/// How long a service takes until it says that it is ready, on a store with [`MANY`] paths.
async fn cold_start(dir: &Path, key: &PublicKey, rounds: u8, report: &mut Report) -> anyhow::Result<()> {
    let root = dir.join("root");
    let database = root.join("nix/var/nix/db");
    fs::create_dir_all(&database)?;
    fs::create_dir_all(root.join("nix/store"))?;
    fs::write(database.join("schema"), "10")?;
    let mut writer = Database::open(database.join("db.sqlite"))?;
    writer.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = off;
         create table if not exists ValidPaths (
           id integer primary key autoincrement not null, path text unique not null, hash text not null,
           registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
         create table if not exists Refs (
           referrer integer not null, reference integer not null, primary key (referrer, reference));
         delete from ValidPaths;",
    )?;
    let transaction = writer.transaction()?;
    for number in 0..MANY {
        let insert = "insert into ValidPaths (path, hash, registrationTime, narSize, sigs) values (?, ?, 1, 112, ?)";
        let (hash, sig) = (format!("sha256:{}", "0".repeat(64)), format!("test-1:{}==", "A".repeat(86)));
        transaction.execute(insert, params![format!("/nix/store/{:032}-path", number), hash, sig])?;
    }
    transaction.commit()?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let plan = Plan {
            name: "cold",
            dir: &dir.join("cold"),
            store: &root,
            key,
            peers: &[],
            plain: true,
            connections: Some(CONNECTIONS),
            level: "warn",
        };
        let begun = Instant::now();
        let mut machine = Machine::start(plan).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        machine.stop().await;
    }
    report.add("cold start with 100,000 paths", "share", "ms", times);
    Ok(())
}

/// Removes a folder that may hold a store, in which folders are read-only.
fn remove(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        let writable = Command::new("chmod").arg("-R").arg("u+w").arg(dir).status()?;
        if !writable.success() {
            bail!("{}: cannot be made writable", dir.display());
        }
        fs::remove_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // a rate
    let bytes = bytes as f64;
    bytes / 1e6
}

fn mebibytes(bytes: u64) -> f64 {
    megabytes(bytes) * 1e6 / f64::from(1 << 20)
}

//! `make demo`: three throwaway machines on loopback, in the time of a breath.
//!
//! Two machines have the same signed paths, the third has none. The real Nix of the third fetches the closure through its
//! gateway; half-way through the largest path the machine that sends it is killed. What is shown is what Nix then says, what
//! its store holds, and how long the pause was.

mod content;
mod fetch;
mod http;
mod machine;
mod relay;
mod report;
mod store;
mod workspace;

#[cfg(test)]
mod tests;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::Parser;
use fetch::{Client, Options};
use machine::{Machine, Plan};
use peernix::cli::exit;
use peernix::nix::SecretKey;
use peernix::peers::FixedPeer;
use relay::{Line, Meter, Relay};
use report::{Report, Source};
use serde::Deserialize;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Closure;
use tokio::signal::unix::{SignalKind, signal};
use workspace::Workspace;

/// The smallest large path, in bytes: with less the kill could fall between paths, as the small ones together have 20 MiB.
const SIZE_MIN: u64 = 64 << 20;
/// The largest, in bytes.
const SIZE_MAX: u64 = 64 << 30;
/// How long the machines may take to meet.
const MEET_TIMEOUT: Duration = Duration::from_secs(15);
/// How often they are asked whether they have.
const MEET_INTERVAL: Duration = Duration::from_millis(10);
/// The machines that have the paths.
const SOURCES: [&str; 2] = ["alder", "birch"];
/// The machine that has none.
const ASKING: &str = "cedar";

/// What `/peers` of a gateway tells of a peer that matters here.
#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    state: String,
}

/// The largest `/peers`, in bytes.
const PEERS_MAX: usize = 64 * 1024;

/// Lets three throwaway machines on loopback exchange store paths, kills one half-way, and reports.
#[derive(Debug, Parser)]
#[command(name = "demo", max_term_width = 100)]
struct Args {
    /// The size of the largest path
    #[arg(long, default_value = "192MiB", value_name = "SIZE", value_parser = size)]
    size: ByteSize,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Fetch with Peernix's own client even where Nix is installed
    #[arg(long)]
    no_nix: bool,
    /// Leave stores, configurations and logs behind
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if (SIZE_MIN..=SIZE_MAX).contains(&size.as_u64()) => Ok(size),
        Ok(_) => Err(format!("not between {} and {}", bytes(SIZE_MIN), bytes(SIZE_MAX))),
        Err(_) => Err("not a size such as 192MiB".to_owned()),
    }
}

/// A number of bytes for people.
fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string()
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let told = run(&args, &std::env::temp_dir())
        .await
        .and_then(|report| report.map_or(Ok(exit::INTERRUPTED), |report| tell(&report, args.json)));
    match told {
        Ok(code) => code.into(),
        Err(error) => {
            progress(&format!("Failed to demonstrate: {error:#}"));
            exit::FAILURE.into()
        }
    }
}

/// Prints the report and returns the exit code.
fn tell(report: &Report, json: bool) -> anyhow::Result<u8> {
    let mut stdout = io::stdout().lock();
    if !json {
        stdout.write_all(report.render().as_bytes())?;
    } else if stdout.is_terminal() {
        writeln!(stdout, "{}", serde_json::to_string_pretty(report)?)?;
    } else {
        writeln!(stdout, "{}", serde_json::to_string(report)?)?;
    }
    Ok(if report.ok { 0 } else { exit::FAILURE })
}

/// Runs it below a directory for temporary files and cleans up; no report if it was interrupted.
async fn run(args: &Args, temporary: &Path) -> anyhow::Result<Option<Report>> {
    // The large path is in three stores; the rest is small.
    let workspace = Workspace::new(temporary, args.size.as_u64() * 3 + SIZE_MIN * 2, args.keep)?;
    let mut machines = Vec::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(Duration::from_secs(args.timeout), exchange(args, &workspace, &mut machines)) => Some(outcome),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    for machine in &mut machines {
        machine.stop().await;
    }
    if args.keep {
        progress(&format!("Everything is in {}.", workspace.path.display()));
    }
    // Removing some hundred megabytes takes a moment.
    tokio::task::spawn_blocking(move || drop(workspace)).await?;
    match outcome {
        None => Ok(None),
        Some(Err(_)) => bail!("not done after {} seconds; --timeout gives more, --keep leaves the logs", args.timeout),
        Some(Ok(report)) => report.map(Some),
    }
}

/// Tells on stderr what is being done.
fn progress(text: &str) {
    // Nobody can be told if that fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs work that blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// The whole exchange. The caller stops the machines, whatever came of it.
async fn exchange(args: &Args, workspace: &Workspace, machines: &mut Vec<Machine>) -> anyhow::Result<Report> {
    let client = Client::find(args.no_nix).await;
    let mut key_seed = [0; 32];
    getrandom::fill(&mut key_seed)?;
    let secret = Arc::new(SecretKey::from_seed("peernix-demo-1", key_seed)?);
    let (key, seed) = (secret.public(), getrandom::u64()?);
    progress(&format!("Making signed store paths, the largest of {} …", bytes(args.size.as_u64())));
    let dir = |name: &str| workspace.path.join(name);
    let stores = SOURCES.map(|name| {
        let (root, secret, size) = (dir(name).join("root"), Arc::clone(&secret), args.size.as_u64());
        blocking(move || store::make(&root, &secret, seed, size))
    });
    let [first, second] = stores;
    let (closure, _) = tokio::try_join!(first, second)?;

    progress("Starting three machines …");
    let meter = Meter::new(SOURCES.len());
    let mut relays = Vec::new();
    let mut peers = Vec::new();
    for (number, name) in SOURCES.into_iter().enumerate() {
        let relay = Relay::open(Line::Source(number), Arc::clone(&meter)).await?;
        let (dir, root) = (dir(name), dir(name).join("root"));
        let plan = Plan {
            name,
            dir: &dir,
            store: &root,
            key: &key,
            peers: &[],
            plain: false,
            connections: None,
            level: "debug",
        };
        let machine = Machine::start(plan).await?;
        relay.lead_to(machine.share);
        let address = relay.address;
        peers.push(FixedPeer { id: Some(machine.id), host: address.ip().to_string(), port: address.port() });
        machines.push(machine);
        relays.push(relay);
    }
    let (cedar, root) = (dir(ASKING), dir(ASKING).join("root"));
    let start = Instant::now();
    let plan = Plan {
        name: ASKING,
        dir: &cedar,
        store: &root,
        key: &key,
        peers: &peers,
        plain: false,
        connections: None,
        level: "debug",
    };
    machines.push(Machine::start(plan).await?);
    let [sources @ .., asking] = machines.as_mut_slice() else { bail!("no machine was started") };
    met(asking, SOURCES.len()).await.map_err(|error| asking.blame(&error))?;
    let met = start.elapsed();

    progress(&format!("{} fetches {} paths …", client.name(), closure.paths.len()));
    let nix_line = Relay::open(Line::Nix, Arc::clone(&meter)).await?;
    nix_line.lead_to(asking.gateway);
    let options = Options { gateway: nix_line.address, key: &key, store: &root, home: &cedar.join("nix") };
    let half = closure.total - closure.largest / 2;
    let alarm = meter.after(half);
    let start = Instant::now();
    let kill = async {
        let Ok(victim) = alarm.await else { bail!("no machine sent half of the closure") };
        meter.killed();
        sources[victim].kill().await?;
        progress(&format!("Killed {}, which was sending the largest path.", SOURCES[victim]));
        Ok(victim)
    };
    let (took, victim) =
        fetch_and_kill(client.fetch(&options, &closure), kill, start).await.map_err(|error| asking.blame(&error))?;

    progress("Reading everything again …");
    let verified = client.verify(&options, &closure).await?;
    Ok(report(&client, &closure, &meter, victim, [met, took], verified, half))
}

/// Both to their ends; the fetch must not be over before the kill.
async fn fetch_and_kill(
    fetch: impl Future<Output = anyhow::Result<()>>,
    kill: impl Future<Output = anyhow::Result<usize>>,
    start: Instant,
) -> anyhow::Result<(Duration, usize)> {
    let mut fetch = std::pin::pin!(fetch);
    tokio::select! {
        biased;
        victim = kill => {
            let victim = victim?;
            fetch.await?;
            Ok((start.elapsed(), victim))
        }
        fetched = &mut fetch => {
            fetched?;
            bail!("everything was fetched before a machine could be killed: try a larger --size")
        }
    }
}

/// Waits until a machine has that many peers online. There is nothing yet that would tell it by itself.
async fn met(machine: &Machine, peers: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + MEET_TIMEOUT;
    loop {
        let answer = http::get_whole(machine.gateway, "/peers", PEERS_MAX).await?;
        let known: Vec<Row> = serde_json::from_slice(&answer).context("/peers is not what peernixd says")?;
        if known.iter().filter(|peer| peer.state == "online").count() >= peers {
            return Ok(());
        }
        if Instant::now() > deadline {
            let states: Vec<String> = known.iter().map(|peer| format!("{} {}", peer.id, peer.state)).collect();
            bail!("{} did not meet its peers: {states:?}", machine.name);
        }
        tokio::time::sleep(MEET_INTERVAL).await;
    }
}

fn report(
    client: &Client,
    closure: &Closure,
    meter: &Meter,
    victim: usize,
    [met, took]: [Duration; 2],
    verified: Option<usize>,
    killed_after_bytes: u64,
) -> Report {
    let sources = SOURCES.into_iter().enumerate();
    let sources = sources.map(|(number, name)| Source { name: name.to_owned(), bytes: meter.from(number) }).collect();
    let milliseconds = took.as_millis().max(1);
    let rate = u128::from(closure.total) * 1000 / milliseconds;
    let pause = meter.longest_wait();
    Report {
        ok: verified.is_none_or(|paths| paths == closure.paths.len()) && pause.is_some(),
        client: client.name().to_owned(),
        paths: closure.paths.len(),
        nar_bytes: closure.total,
        largest_bytes: closure.largest,
        met_ms: met.as_millis(),
        fetch_ms: milliseconds,
        bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
        killed: SOURCES[victim].to_owned(),
        killed_after_bytes,
        pause_ms: pause.map(|pause| pause.as_millis()),
        sources,
        verified,
    }
}

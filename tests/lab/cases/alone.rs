//! A machine without peers: what the gateway between Nix and its cache costs, with both in one run and in turn.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::internet::{Internet, Weather, flat_cache};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, NixRun, Retries};
use crate::store::Signed;

/// How much longer the way through an optimised gateway may take, in the middle of the rounds.
const RATIO: f64 = 1.05;

/// The same for one that is built for tests: it shows that the two ways overlap, not how fast the gateway is.
const RATIO_UNOPTIMISED: f64 = 1.5;

/// Bytes of NARs: seconds of the slower line.
const NAR_BYTES: u64 = 80 << 20;

/// A line to the cache.
#[derive(Debug, Clone, Copy)]
struct Line {
    mbit: u32,
    /// How often each way is taken.
    rounds: usize,
}

const LINES: [Line; 2] = [Line { mbit: 100, rounds: 3 }, Line { mbit: 1000, rounds: 5 }];

/// Compressions by their names, with what makes their files in seconds; how fast they are decoded does not depend on it.
const COMPRESSIONS: [(&str, &str); 2] = [("xz", "xz&compression-level=1"), ("zstd", "zstd")];

/// Paths that are looked up, and how far away the cache is for that.
const LOOKUPS: usize = 60;
const LATENCY: Duration = Duration::from_millis(20);

const NIX_LIMIT: Duration = Duration::from_secs(120);

const GATEWAY: &str = "http://127.0.0.1:7649";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for generation in Generation::ALL {
        // The newest speaks for the others: it waits the least for anything.
        let always = generation == Generation::Sid;
        let mut add = |case: Case| {
            let case = case.needing(Need::Nix(generation)).alone().limit(400);
            cases.push(if always { case } else { case.long_only() });
        };
        for (compression, made_by) in COMPRESSIONS {
            for line in LINES {
                let name = format!("alone/{}/{compression}-at-{}-mbit", generation.version(), line.mbit);
                let case = Case::new(name, move |ctx| downloads(ctx, generation, made_by, line));
                // What is measured is an optimised gateway, as it never is among the other cases; one of these keeps the rest honest.
                let smoke = compression == "zstd" && line.mbit == 100;
                add(if smoke { case } else { case.long_only() });
            }
        }
        let name = format!("alone/{}/lookups", generation.version());
        add(Case::new(name, move |ctx| lookups(ctx, generation)));
    }
    cases
}

/// One run of Nix on a machine that has none of the paths and has never asked anybody. The gateway, if it goes through one, is as
/// new; how much of the processors it took is in the result.
fn run(
    ctx: &Ctx,
    host: &Host,
    generation: Generation,
    cache: &Internet,
    through: bool,
    command: &[&str],
) -> Result<(NixRun, Duration)> {
    host.sh("nix-store --gc >/dev/null 2>&1; rm -rf /run/host/home/.cache /run/host/state")?;
    let substituter = if through { GATEWAY } else { &cache.url };
    host.nix_conf(&[substituter], &ctx.world.public_key())?;
    let settings = Settings::new(ctx).upstreams(&[&cache.url]).set("log.level", "info");
    let gateway = through.then(|| Peernixd::start(ctx, host, &settings)).transpose()?;
    let label = if through { "through" } else { "straight" };
    let command: Vec<&str> = command.iter().map(|word| if *word == FROM { substituter } else { *word }).collect();
    let run = real_nix::start(ctx, host, generation, label, &command, Retries::None)?.finish(NIX_LIMIT)?;
    let mut cpu = Duration::ZERO;
    if let Some(gateway) = gateway {
        cpu = gateway.cpu_time()?;
        gateway.stop()?;
    }
    Ok((run.must(label)?, cpu))
}

/// Stands for the substituter in a command.
const FROM: &str = "FROM";

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn downloads(ctx: &Ctx, generation: Generation, compression: &str, line: Line) -> Result<()> {
    let network = ctx.network()?;
    let (b, maker) = (network.host("b")?, network.host("maker")?);
    let set = ctx.world.closure()?;
    let mut bytes = 0;
    let some = set.paths.iter().filter(|info| info.path.name().starts_with("deb-")).take_while(|info| {
        bytes += info.nar_size;
        bytes < NAR_BYTES
    });
    let infos = set.closure_of(some);
    set.install_some(&maker, &infos, Signed::Yes)?;
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let dir = flat_cache(&maker, "cache", compression, &paths)?;
    let files: u64 = std::fs::read_dir(dir.join("nar"))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<std::io::Result<u64>>()
        .context("the cache's files")?;
    ctx.note("paths", infos.len(), "");
    ctx.measure("NARs", infos.iter().map(|info| info.nar_size).sum::<u64>() as f64 / 1e6, "MB", None);
    ctx.measure("files of the cache", files as f64 / 1e6, "MB", None);
    let internet = Internet::start(&network, 8080, &dir)?;
    b.port.slow(line.mbit)?;
    in_memory(&b)?;
    let command: Vec<&str> = ["nix-store", "--realise"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let (mut straight, mut through, mut ratios, mut cpu) = (vec![], vec![], vec![], vec![]);
    let optimised = !cfg!(debug_assertions);
    for _ in 0..if optimised { line.rounds } else { 1 } {
        let (one, _) = run(ctx, &b, generation, &internet, false, &command)?;
        let (other, gateway) = run(ctx, &b, generation, &internet, true, &command)?;
        let (one, other) = (one.time.as_secs_f64(), other.time.as_secs_f64());
        straight.push(one);
        through.push(other);
        cpu.push(gateway.as_secs_f64());
        ratios.push(other / one);
    }
    real_nix::verify_store(&b, generation)?;
    ctx.note("rounds", format!("{ratios:.3?}"), "");
    ctx.measure("straight from the cache", median(straight), "s", None);
    ctx.measure("through the gateway", median(through), "s", None);
    ctx.measure("CPU time of the gateway", median(cpu), "s", None);
    ctx.note("the gateway is", if optimised { "optimised" } else { "built for tests, not optimised" }, "");
    let limit = if optimised { RATIO } else { RATIO_UNOPTIMISED };
    ctx.measure("through the gateway, as a multiple", median(ratios), "", Some(limit));
    Ok(())
}

/// Puts the store of a host into memory: a disk that others write to as well would be most of what is measured.
pub(super) fn in_memory(host: &Host) -> Result<()> {
    let roots = Generation::ALL.iter().filter_map(|generation| generation.root());
    let binds: String = roots.map(|root| format!("mount --rbind /nix '{}/nix'\n", root.display())).collect();
    host.sh(&format!("mount -t tmpfs -o mode=755 tmpfs /nix\nmkdir -p /nix/store /nix/var/nix\n{binds}")).map(drop)
}

/// `nix-store --realise` asks for 25 narinfos at once, `nix copy --from` for one after the other.
fn lookups(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (b, maker) = (network.host("b")?, network.host("maker")?);
    let set = ctx.world.many()?;
    let infos = set.closure_of(set.paths.iter().take(LOOKUPS));
    set.install_some(&maker, &infos, Signed::Yes)?;
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&maker, "cache", "none", &paths)?)?;
    internet.turn(Weather::SlowNarinfo(LATENCY));
    ctx.note("paths", infos.len(), "");
    for (what, verb) in
        [("nix-store --realise", &["nix-store", "--realise"][..]), ("nix copy", &["nix", "copy", "--from", FROM])]
    {
        let command: Vec<&str> = verb.iter().copied().chain(paths.iter().map(String::as_str)).collect();
        for (way, gateway) in [("straight", false), ("through the gateway", true)] {
            let (run, _) = run(ctx, &b, generation, &internet, gateway, &command)?;
            ctx.measure(&format!("{what}, {way}, with 20 ms a lookup"), run.time.as_secs_f64(), "s", None);
        }
    }
    Ok(())
}

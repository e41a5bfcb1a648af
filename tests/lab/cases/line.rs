//! Lines between two machines: what `peernixctl bench net` says of one is what it does, and a small machine fills a gigabit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use peernix::control::Control;

use super::Case;
use super::failover::nar_target;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::http::{Client, gateway_get};
use crate::peer::{Peernixd, Settings};
use crate::store::Signed;

/// How fast the line is that is measured, in megabits a second.
const LINE: u32 = 200;
/// How much of it at least is seen, in percent.
const SEEN_LIMIT: f64 = 90.0;
/// What of a gigabit a small machine fills, in megabits a second.
const GIGABIT_LIMIT: f64 = 900.0;
/// How long word of a path may take, in milliseconds.
const HIT_LIMIT: f64 = 100.0;
/// What the service of a small machine may take, in MiB.
const MEMORY_LIMIT: f64 = 64.0;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("line/measured", measured).quiet(), Case::new("line/one-core", one_core).quiet().limit(180)]
}

fn measured(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    a.slow(LINE)?;
    let administrator = Administrator::of(&on_b)?;
    let peer = administrator.does(|client| client.peers(Default::default()))?.remove(0);
    let line = administrator.does(|client| client.measure_peer(&peer.id))?;
    let mbit = line.rate() as f64 * 8.0 / 1e6;
    ctx.measure("a line of 200 Mbit/s, measured", mbit, "Mbit/s", None);
    // As a limit that is to be kept below: what is missing.
    ctx.measure("missing of it", 100.0 - mbit * 100.0 / f64::from(LINE), "%", 100.0 - SEEN_LIMIT);
    ctx.measure("an answer over it", line.latency_usec as f64 / 1000.0, "ms", None);
    // Nothing leaves while uploads are paused, this neither.
    on_a.stop()?;
    on_b.stop()
}

/// One processor, and a line of a gigabit.
fn one_core(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let (info, installed) = match ctx.long {
        true => {
            let set = ctx.world.huge()?;
            (set.named("huge")?, set.install(&a))
        }
        false => {
            let set = ctx.world.pieces()?;
            let info = set.named("piece-24m")?;
            (info, set.install_some(&a, &[info], Signed::Yes))
        }
    };
    installed?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    a.sh(&format!("taskset --all-tasks --pid --cpu-list 0 {} >/dev/null", on_a.pid()))?;
    a.sh("tc qdisc replace dev eth0 root tbf rate 1gbit burst 1m latency 50ms")?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("share.compression", "off"))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let hash = info.path.hash().to_string();
    let begun = Instant::now();
    let answer = gateway_get(ctx, &b, &format!("/{hash}.narinfo"))?;
    ensure!(answer.0.status == 200, "{}", answer.0.status);
    // Costs of programs that are not optimised are seen, and not judged.
    let judged = |limit: f64| (!cfg!(debug_assertions)).then_some(limit);
    ctx.measure("word of a path", begun.elapsed().as_secs_f64() * 1000.0, "ms", judged(HIT_LIMIT));
    let target = nar_target(ctx, &b, &hash)?;
    on_a.reset_peak()?;
    let begun = Instant::now();
    let (head, body) = Client::gateway(ctx, &b)?.time(&target)?;
    ensure!(head.status == 200 && body.complete && body.hash == info.nar_hash, "{} bytes", body.bytes);
    let mbit = info.nar_size as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64();
    ctx.measure(
        "memory of the one that sends",
        on_a.peak_rss()? as f64 / f64::from(1 << 20),
        "MiB",
        judged(MEMORY_LIMIT),
    );
    ctx.measure("one NAR over a gigabit", mbit, "Mbit/s", None);
    if ctx.long {
        ctx.measure("missing of 900 Mbit/s", (GIGABIT_LIMIT - mbit).max(0.0), "Mbit/s", judged(0.0));
    }
    on_b.stop()?;
    on_a.stop()
}

//! Less on the wire where the line is slow: between peers by agreement, and towards an ordinary Nix where the administrator says so.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use peernix::nix::PathInfo;

use super::Case;
use super::alone::in_memory;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::needs::{Need, OTHER_CACHE};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::process::Process;
use crate::real_nix::{self, Generation, NixRun, Retries};
use crate::store::Signed;
use crate::wait;

/// What the source can send, in megabits per second.
const RATE: u32 = 20;
/// How many paths, and how large one of them may be, in bytes.
const PATHS: usize = 60;
const SIZE_MAX: u64 = 400_000;
/// How much of the bytes and of the time is left at most; real files become half as large.
const BYTES: f64 = 0.65;
const TIME: f64 = if cfg!(debug_assertions) { 0.85 } else { 0.75 };

/// How often what is compared by time is done, and what compression may cost where the line is fast.
const ROUNDS: usize = 5;
const COST: f64 = if cfg!(debug_assertions) { 1.3 } else { 1.02 };

const NIX_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("compression/peers", peers).quiet(),
        Case::new("compression/plain", plain).quiet().early(),
        Case::new("compression/fast-line", fast_line).alone().long_only(),
        Case::new("compression/beside", beside).needing(Need::OtherCache).alone().long_only(),
    ]
}

/// Real files, of packages.
fn wanted(ctx: &Ctx) -> Result<Vec<&PathInfo>> {
    let set = ctx.world.closure()?;
    let is_one = |info: &&PathInfo| info.path.name().starts_with("deb-") && info.nar_size < SIZE_MAX;
    Ok(set.closure_of(set.paths.iter().filter(is_one).take(PATHS)))
}

fn source(ctx: &Ctx, network: &Network<'_>, infos: &[&PathInfo]) -> Result<Arc<Host>> {
    let source = network.host("source")?;
    ctx.world.closure()?.install_some(&source, infos, Signed::Yes)?;
    source.slow(RATE)?;
    Ok(source)
}

/// Has Nix realise the paths on a host; with the bytes that the source sent for that.
fn realise(
    ctx: &Ctx,
    host: &Host,
    generation: Generation,
    infos: &[&PathInfo],
    source: &Host,
) -> Result<(NixRun, f64)> {
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let command: Vec<&str> = ["nix-store", "--realise"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let before = source.sent()?;
    let run = real_nix::start(ctx, host, generation, &host.name, &command, Retries::None)?;
    let run = run.finish(NIX_LIMIT)?.must(&host.name)?;
    Ok((run, (source.sent()? - before) as f64))
}

/// Through the gateway, from a peer.
fn peers(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let infos = wanted(ctx)?;
    let source = source(ctx, &network, &infos)?;
    let size: u64 = infos.iter().map(|info| info.nar_size).sum();
    ctx.note("paths", infos.len(), "");
    ctx.measure("their NARs", size as f64 / 1e6, "MB", None);
    let on_source = Peernixd::start(ctx, &source, &Settings::new(ctx))?;
    let mut figures = Vec::new();
    for compression in ["off", "auto"] {
        let host = network.host(compression)?;
        let on = Peernixd::start(ctx, &host, &Settings::new(ctx).set("share.compression", compression))?;
        on.wait_online(1, Duration::from_secs(20))?;
        let (run, sent) = realise(ctx, &host, Generation::Machine, &infos, &source)?;
        real_nix::verify_store(&host, Generation::Machine)?;
        ctx.measure(&format!("{compression}: what the source sent"), sent / 1e6, "MB", None);
        ctx.measure(&format!("{compression}: time"), run.time.as_secs_f64(), "s", None);
        figures.push((run.time.as_secs_f64(), sent));
        on.stop()?;
    }
    let [(plain_time, plain_sent), (time, sent)] = figures[..] else { unreachable!("two are measured") };
    ctx.measure("bytes, as a part of those without", sent / plain_sent, "", BYTES);
    ctx.measure("time, as a part of that without", time / plain_time, "", TIME);
    on_source.stop()
}

/// As fast as this machine is: then it is no line that is waited for, and compressing may cost nothing.
fn fast_line(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let infos: Vec<&PathInfo> = ctx.world.closure()?.paths.iter().collect();
    let source = network.host("source")?;
    ctx.world.closure()?.install_some(&source, &infos, Signed::Yes)?;
    let on_source = Peernixd::start(ctx, &source, &Settings::new(ctx))?;
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..ROUNDS {
        for (compression, times) in ["off", "auto"].into_iter().zip(&mut times) {
            let host = network.host(&format!("{compression}{round}"))?;
            in_memory(&host)?;
            let on = Peernixd::start(ctx, &host, &Settings::new(ctx).set("share.compression", compression))?;
            on.wait_online(1, Duration::from_secs(20))?;
            let (run, _) = realise(ctx, &host, Generation::Machine, &infos, &source)?;
            times.push(run.time.as_secs_f64());
            on.stop()?;
        }
    }
    ctx.note("seconds without and with", format!("{times:.2?}"), "");
    let [without, with] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    ctx.measure("time, as a multiple of that without", with / without, "", COST);
    on_source.stop()
}

/// Three generations of Nix from the plain share, each as it is and compressed.
fn plain(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let infos = wanted(ctx)?;
    let source = source(ctx, &network, &infos)?;
    let settings = Settings::new(ctx).set("share.plain_listen", "[::]:5000");
    for generation in Generation::ALL.into_iter().filter(|generation| generation.lacking().is_none()) {
        let version = generation.version();
        let mut bytes = Vec::new();
        for compression in ["none", "zstd"] {
            let on = Peernixd::start(ctx, &source, &settings.clone().set("share.plain_compression", compression))?;
            let host = network.host(&format!("{}-{compression}", version.replace('.', "-")))?;
            let url = format!("http://{}:5000", source.address());
            host.nix_conf(&[&url], &ctx.world.public_key())?;
            let (run, sent) = realise(ctx, &host, generation, &infos, &source)?;
            real_nix::verify_store(&host, generation)?;
            ctx.measure(&format!("{version}, {compression}: what was sent"), sent / 1e6, "MB", None);
            ctx.measure(&format!("{version}, {compression}: time"), run.time.as_secs_f64(), "s", None);
            bytes.push(sent);
            on.stop()?;
        }
        let part = bytes.last().context("none was measured")? / bytes[0];
        ctx.measure(&format!("{version}: bytes, as a part of those without"), part, "", BYTES);
    }
    Ok(())
}

/// Beside another cache on the same store and the same line: what [`OTHER_CACHE`] names is started with the address where it has to listen.
fn beside(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let infos = wanted(ctx)?;
    let source = source(ctx, &network, &infos)?;
    let program = std::env::var(OTHER_CACHE)?;
    let other_address = format!("{}:5001", source.address());
    let mut command = source.command(&program);
    command.arg(&other_address);
    let mut other = Process::start(command, &ctx.logs.join("other.log"))?;
    source.enter(|| {
        wait::until_true("the other cache listens", Duration::from_secs(20), || {
            Ok(std::net::TcpStream::connect(&other_address).is_ok())
        })
        .map(drop)
    })?;
    let settings = Settings::new(ctx).set("share.plain_listen", "[::]:5000").set("share.plain_compression", "zstd");
    let on = Peernixd::start(ctx, &source, &settings)?;
    let (other_url, plain) = (format!("http://{other_address}"), format!("http://{}:5000", source.address()));
    for generation in Generation::ALL.into_iter().filter(|generation| generation.lacking().is_none()) {
        let version = generation.version();
        let mut figures = Vec::new();
        for (what, url, through) in
            [("the other", &other_url, false), ("plain share", &plain, false), ("gateway", &plain, true)]
        {
            let host = network.host(&format!("{}-{}", version.replace('.', "-"), &what[..3].trim()))?;
            let gateway = if through {
                let on = Peernixd::start(ctx, &host, &Settings::new(ctx))?;
                on.wait_online(1, Duration::from_secs(20))?;
                Some(on)
            } else {
                host.nix_conf(&[url], &ctx.world.public_key())?;
                None
            };
            let (run, sent) = realise(ctx, &host, generation, &infos, &source)?;
            ctx.measure(&format!("{version}, {what}: what was sent"), sent / 1e6, "MB", None);
            ctx.measure(&format!("{version}, {what}: time"), run.time.as_secs_f64(), "s", None);
            figures.push((sent, run.time.as_secs_f64()));
            gateway.map(Peernixd::stop).transpose()?;
        }
        for (what, number) in [("plain share", 1), ("gateway", 2)] {
            let (sent, time) = (figures[number].0 / figures[0].0, figures[number].1 / figures[0].1);
            ctx.measure(&format!("{version}, {what}: bytes, as a multiple of the other's"), sent, "", None);
            ctx.measure(&format!("{version}, {what}: time, as a multiple of the other's"), time, "", None);
        }
    }
    other.kill9()?;
    on.stop()
}

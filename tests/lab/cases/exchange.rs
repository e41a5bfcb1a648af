//! A has a closure of 200 paths, B nothing but a gateway: B's real Nix realises the closure, and finds nothing wrong with it.

use std::time::Duration;

use anyhow::Result;

use super::Case;
use crate::ctx::Ctx;
use crate::http::{Client, gateway_get};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation};
use crate::store::Signed;
use crate::world::{CLOSURE, CLOSURE_ROOT};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Generation::ALL
        .map(|generation| {
            let name = format!("exchange/nix-{}", generation.version());
            Case::new(name, move |ctx| exchange(ctx, generation)).needing(Need::Nix(generation)).limit(240)
        })
        .into();
    cases.push(Case::new("exchange/unsigned-stays-at-home", unsigned));
    cases.push(Case::new("exchange/5000-paths", many).long_only().limit(600));
    cases
}

fn exchange(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    // The third host has nothing, and must not disturb.
    let (a, b, c) = (network.host("a")?, network.host("b")?, network.host("c")?);
    let set = ctx.world.closure()?;
    set.install(&a)?;
    let _daemon = real_nix::daemon(&a, Generation::Machine)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_c = Peernixd::start(ctx, &c, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(2, Duration::from_secs(10))?;
    // Nothing but mDNS brought them together; the one who was found first is `introduced` to the other.
    let sources: Vec<String> = on_b.peers()?.iter().map(|peer| peer["source"].to_string()).collect();
    ctx.note("how B knows its peers", sources.join(", "), "");

    let root = format!("/nix/store/{}", set.named(CLOSURE_ROOT)?.path);
    let run = real_nix::realise(ctx, &b, generation, "b", &root)?.must("realising the closure")?;
    let bytes: u64 = set.paths.iter().map(|info| info.nar_size).sum();
    ctx.measure("time for the closure", run.time.as_secs_f64(), "s", None);
    ctx.measure("speed as Nix sees it", bytes as f64 / 1e6 / run.time.as_secs_f64(), "MB/s", None);
    ctx.note("statuses", format!("{:?}", run.statuses), "");
    ctx.check("no retry", run.retries == 0, &run.retries.to_string());
    let got = b.sh(&format!("nix-store --query --requisites {root} | wc -l"))?;
    ctx.check("all 200 paths are there", got.trim() == CLOSURE.to_string(), got.trim());
    real_nix::verify_store(&b, generation)?;
    b.sh("nix store verify --all --sigs-needed 1 --no-contents")?;
    for peernixd in [on_b, on_c, on_a] {
        peernixd.stop()?;
    }
    Ok(())
}

/// What carries no signature of a configured key is nobody else's business.
fn unsigned(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let (signed, secret) = (set.named("piece-2m")?, set.named("piece-2m-other")?);
    set.install_some(&a, &[secret], Signed::No)?;
    set.install_some(&a, &[signed], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("share.plain_listen", "[::]:5000"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    for (what, info, status) in [("signed", signed, 200), ("unsigned", secret, 404)] {
        let hash = info.path.hash();
        let (head, _) = gateway_get(ctx, &b, &format!("/{hash}.narinfo"))?;
        ctx.check(&format!("{what}: narinfo at B"), head.status == status, &head.status.to_string());
        // Neither by its listing, nor by its NAR to one who knows everything about it.
        let nar = format!("/nar/{hash}-{}.nar", info.nar_hash.to_nix32());
        for target in [format!("/{hash}.narinfo"), format!("/{hash}.ls"), nar] {
            let (head, _) = Client::connect(&b, &format!("{}:5000", a.address()))?.get(&target)?;
            ctx.check(&format!("{what}: {target} at A"), head.status == status, &head.status.to_string());
        }
    }
    on_b.stop()?;
    on_a.stop()
}

/// Many small paths, where it is the number of requests that counts.
fn many(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.many()?;
    set.install(&a)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("log.level", "info"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("log.level", "info"))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let last = set.paths.last().map(|info| format!("/nix/store/{}", info.path)).unwrap_or_default();
    let args = ["nix-store", "--realise", last.as_str()];
    let run = real_nix::start(ctx, &b, Generation::Machine, "b", &args, real_nix::Retries::None)?;
    let run = run.finish(Duration::from_secs(500))?.must("realising 5,000 paths")?;
    ctx.measure("time for 5,000 paths", run.time.as_secs_f64(), "s", None);
    real_nix::verify_store(&b, Generation::Machine)?;
    on_b.stop()?;
    on_a.stop()
}

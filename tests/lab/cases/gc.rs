//! A collects garbage while B downloads from it: what is under way stays whole.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::http::Client;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::process::output;
use crate::real_nix::{self, Generation};
use crate::store::Signed;

/// Mbit/s. The tree of 12,000 files is 16 MB, so it takes longer than any collection does; the limit is lifted once that is done.
const RATE: u32 = 20;

/// How long after its transfer a path may be protected.
const ROOT_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    Generation::ALL
        .map(|generation| {
            let name = format!("gc/nix-{}", generation.version());
            Case::new(name, move |ctx| collect(ctx, generation)).early().needing(Need::Nix(generation))
        })
        .into()
}

fn collect(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.closure()?;
    let tree = set.named("tree-of-12000")?;
    set.install_some(&a, &[tree], Signed::Yes)?;
    let pieces = ctx.world.pieces()?;
    let waste = pieces.named("piece-2m")?;
    pieces.install_some(&a, &[waste], Signed::Yes)?;
    a.slow(RATE)?;
    let daemon = real_nix::daemon(&a, generation)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;

    let target = nar_target(ctx, &b, &tree.path.hash().to_string())?;
    let mut client = Client::gateway(ctx, &b)?;
    let content = |info: &peernix::nix::PathInfo| a.dir.join("nix/store").join(info.path.to_string());
    let mut command = a.nix_command(generation, "nix-collect-garbage");
    let mut collector = None;
    // NARs up to 16 MiB arrive as a whole, so the moment is taken from what A has sent.
    let before = a.sent()?;
    let body = std::thread::scope(|scope| {
        let reader = scope.spawn(|| client.time(&target));
        crate::wait::until_true("the transfer to be under way", Duration::from_secs(10), || {
            Ok(a.sent()? - before > tree.nar_size / 8)
        })?;
        let start = Instant::now();
        collector = Some(output(&mut command).context("nix-collect-garbage")?);
        ctx.measure("time of the collection", start.elapsed().as_secs_f64(), "s", None);
        ctx.check("it ran during the transfer", !reader.is_finished(), "the transfer was over");
        a.fast()?;
        ctx.check("what nobody needs is collected", !content(waste).exists(), "it is still there");
        ctx.check("what is being sent stays", content(tree).join("d00/e00").exists(), "it was collected");
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    let (head, body) = body;
    ensure!(head.status == 200, "the NAR: {}", head.status);
    ctx.check("nothing is cut", body.complete, &format!("{} of {} bytes", body.bytes, tree.nar_size));
    ctx.check("the bytes are right", body.hash == tree.nar_hash, "another hash");

    // The root must not outlive its transfer for long. Waiting for that once is enough.
    if generation == Generation::Machine {
        let freed = crate::wait::until_true("the path to be collectable again", ROOT_LIMIT, || {
            crate::wait::pass(Duration::from_secs(1));
            output(&mut a.nix_command(generation, "nix-collect-garbage"))?;
            Ok(!content(tree).exists())
        })?;
        ctx.measure("until it can be collected again", freed.as_secs_f64(), "s", None);
    }
    // What is gone is not offered any more.
    let mut client = Client::gateway(ctx, &b)?;
    let (head, _) = client.get(&format!("/{}.narinfo", waste.path.hash()))?;
    ctx.check("what was collected is 404", head.status == 404, &head.status.to_string());
    on_b.stop()?;
    on_a.stop()?;
    drop(daemon);
    Ok(())
}

//! A's administrator collects garbage while B and others fetch: the dry run names what would go, the run frees it, and what
//! is pinned, rooted or on its way stays. The service is an ordinary user's; the Nix daemon is root's.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use peernix::control::{Control, GarbageOptions, PinRequest};
use peernix::nix::PathInfo;

use super::Case;
use super::failover::nar_target;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::Client;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings, Start};
use crate::process::output;
use crate::real_nix::{self, Generation};
use crate::store::Signed;

const NOBODY: Start =
    Start { unprivileged: true, http_proxy: None, own_certificates: false, credentials: false, program: None };

/// Mbit/s. The tree of 12,000 files is 16 MB, so it takes longer than any collection does; the limit is lifted once that is done.
const RATE: u32 = 20;

/// How many small paths are rooted, and how many there are in all.
const ROOTED: usize = 60;
const SMALL: usize = 200;

/// How long after its transfer a path may be protected.
const ROOT_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    Generation::ALL
        .map(|generation| {
            let name = format!("gc-store/nix-{}", generation.version());
            Case::new(name, move |ctx| collect(ctx, generation)).needing(Need::Nix(generation))
        })
        .into()
}

fn full(info: &PathInfo) -> String {
    format!("/nix/store/{}", info.path)
}

fn is_there(host: &Host, info: &PathInfo) -> bool {
    host.dir.join("nix/store").join(info.path.to_string()).symlink_metadata().is_ok()
}

fn collect(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let (closure, pieces, many) = (ctx.world.closure()?, ctx.world.pieces()?, ctx.world.many()?);
    let tree = closure.named("tree-of-12000")?;
    closure.install_some(&a, &[tree], Signed::Yes)?;
    // What is pinned refers to a piece, which stays with it.
    let (pinned, below, waste) =
        (pieces.named("with-reference")?, pieces.named("piece-2m")?, pieces.named("piece-8m")?);
    pieces.install_some(&a, &[below, pinned, waste], Signed::Yes)?;
    // A file of its own: what has another name elsewhere frees nothing, says the older Nix.
    a.sh(&format!("cp -a {0} {0}.copy && mv {0}.copy {0}", full(waste)))?;
    let small: Vec<&PathInfo> = many.paths.iter().take(SMALL).collect();
    many.install_some(&a, &small, Signed::Yes)?;
    let (rooted, dying) = small.split_at(ROOTED);
    // Each refers to some before it, so that the last one keeps them all.
    let last = full(rooted[ROOTED - 1]);
    a.sh(&format!("mkdir -p /nix/var/nix/gcroots; ln -s {last} /nix/var/nix/gcroots/kept"))?;
    a.slow(RATE)?;

    // As systemd makes it: StateDirectoryMode=0700.
    std::fs::DirBuilder::new().mode(0o700).create(a.dir.join("state"))?;
    let daemon = real_nix::daemon(&a, generation)?;
    let on_a = Peernixd::start_as(ctx, &a, &Settings::new(ctx), NOBODY)?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let administrator = Administrator::of(&on_a)?;
    let request =
        PinRequest { path: full(pinned), reason: Some("lab".to_owned()), until_timestamp: None, copies: None };
    administrator.does(|client| client.pin(request))?;
    let state = a.dir.join("state").metadata()?;
    let own = state.uid() == 65534 && state.permissions().mode() & 0o077 == 0;
    ctx.check("the pins are where only an ordinary user may look", own, &format!("{:o}", state.permissions().mode()));

    let target = nar_target(ctx, &b, &tree.path.hash().to_string())?;
    let mut client = Client::gateway(ctx, &b)?;
    let before = a.sent()?;
    let stop = AtomicBool::new(false);
    let (body, reads) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| client.time(&target));
        let reading = scope.spawn(|| read_on(ctx, &b, rooted, &stop));
        let outcome = (|| {
            crate::wait::until_true("the transfer to be under way", Duration::from_secs(10), || {
                Ok(a.sent()? - before > tree.nar_size / 8)
            })?;
            let gone = dry_run(ctx, &administrator, &a, waste)?;
            let expected: BTreeSet<String> = dying.iter().copied().chain([waste]).map(full).collect();
            ctx.check(
                "the dry run names what would go, and nothing else",
                gone == expected,
                &differences(&gone, &expected),
            );
            let start = Instant::now();
            let options = GarbageOptions::default();
            let job = administrator.does(|client| client.collect_garbage(options))?;
            let (job, paths) = administrator.finish(&job)?;
            ctx.measure("time of the collection", start.elapsed().as_secs_f64(), "s", None);
            ctx.check("it ran during the transfer", !sending.is_finished(), "the transfer was over");
            a.fast()?;
            let gone: BTreeSet<String> = paths.iter().map(|path| path.path.clone()).collect();
            ctx.check("the run deletes what the dry run named", gone == expected, &differences(&gone, &expected));
            // Nix counts blocks of the disk, and small files may have none yet.
            let blocks = waste.nar_size / 4096 * 4096;
            ctx.check("it tells what it freed", job.bytes >= blocks, &job.bytes.to_string());
            anyhow::Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let body = sending.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        let reads = reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        outcome?;
        anyhow::Ok((body?, reads?))
    })?;
    let (head, body) = body;
    ensure!(head.status == 200, "the NAR: {}", head.status);
    ctx.check(
        "what is sent is whole and right",
        body.complete && body.hash == tree.nar_hash,
        &format!("{} bytes", body.bytes),
    );
    ctx.note("paths read meanwhile", reads, "");
    ctx.check(
        "garbage is gone",
        !dying.iter().copied().chain([waste]).any(|info| is_there(&a, info)),
        "something is there",
    );
    let kept = rooted.iter().copied().chain([tree, pinned, below]);
    ctx.check("pinned, rooted and sent paths stay", kept.clone().all(|info| is_there(&a, info)), "one is gone");
    real_nix::verify_store(&a, generation)?;

    // A pin holds without the service, against Nix's own collector, and no longer than it is there.
    on_a.stop()?;
    output(&mut a.nix_command(generation, "nix-collect-garbage"))?;
    ctx.check("a pin holds while the service is away", is_there(&a, pinned) && is_there(&a, below), "it is gone");
    let on_a = Peernixd::start_as(ctx, &a, &Settings::new(ctx), NOBODY)?;
    let administrator = Administrator::of(&on_a)?;
    ctx.check("it is remembered", administrator.does(Control::pins)?.len() == 1, "it is not");
    administrator.does(async |client| client.unpin(&full(pinned)).await)?;
    crate::wait::until_true("what was pinned to be collected", ROOT_LIMIT, || {
        let job = administrator.does(|client| client.collect_garbage(GarbageOptions::default()))?;
        administrator.finish(&job)?;
        Ok(!is_there(&a, pinned) && !is_there(&a, below))
    })?;
    on_b.stop()?;
    on_a.stop()?;
    drop(daemon);
    Ok(())
}

/// What would go; afterwards all of it is still there.
fn dry_run(ctx: &Ctx, administrator: &Administrator, a: &Host, waste: &PathInfo) -> Result<BTreeSet<String>> {
    let options = GarbageOptions { dry_run: true, ..GarbageOptions::default() };
    let job = administrator.does(|client| client.collect_garbage(options))?;
    let (job, paths) = administrator.finish(&job)?;
    ctx.note("a dry run says", job.message, "");
    ctx.check("a dry run deletes nothing", is_there(a, waste), "it did");
    Ok(paths.into_iter().map(|path| path.path).collect())
}

/// Fetches paths over and over through B's gateway: each time the whole NAR, and the right one. Tells how often.
fn read_on(ctx: &Ctx, b: &Host, infos: &[&PathInfo], stop: &AtomicBool) -> Result<u64> {
    let mut client = Client::gateway(ctx, b)?;
    let mut reads = 0;
    for info in infos.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let target = nar_target(ctx, b, &info.path.hash().to_string())?;
        let (head, body) = client.time(&target)?;
        ensure!(head.status == 200 && body.complete, "{} beside the collection: {}", info.path, head.status);
        ensure!(body.hash == info.nar_hash, "{} beside the collection: other bytes", info.path);
        reads += 1;
    }
    Ok(reads)
}

fn differences(one: &BTreeSet<String>, two: &BTreeSet<String>) -> String {
    let some: Vec<&String> = one.symmetric_difference(two).take(5).collect();
    format!("{} and {}; they differ in {some:?}", one.len(), two.len())
}

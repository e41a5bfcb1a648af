//! Nix remembers for an hour that the gateway did not have a path; `peernixctl forget` has it ask again at once, whatever its version.

use std::time::Duration;

use anyhow::Result;

use super::Case;
use crate::ctx::Ctx;
use crate::http::gateway_get;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::process::output;
use crate::real_nix::{self, Generation};
use crate::store::Signed;
use crate::wait;

const NIX_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    Generation::ALL
        .map(|generation| {
            let name = format!("forget/nix-{}", generation.version());
            Case::new(name, move |ctx| forget(ctx, generation)).needing(Need::Nix(generation))
        })
        .into()
}

fn forget(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let [one, two, known] = ["sliver-0", "sliver-1", "sliver-2"].map(|name| set.named(name));
    let (one, two, known) = (one?, two?, known?);
    set.install_some(&a, &[known], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    // As Nix is delivered.
    let conf = b.outside("/etc/nix/nix.conf");
    let text = std::fs::read_to_string(&conf)?.replace("negative-ttl = 0", "negative-ttl = 3600");
    std::fs::write(&conf, text)?;
    let path = |info: &peernix::nix::PathInfo| format!("/nix/store/{}", info.path);
    let realise = |label: &str, paths: &[&str]| {
        let args: Vec<&str> = ["nix-store", "--realise"].iter().chain(paths).copied().collect();
        real_nix::start(ctx, &b, generation, label, &args, real_nix::Retries::None)?.finish(NIX_LIMIT)
    };
    realise("known", &[&path(known)])?.must("a path that is there")?;
    let missed = realise("missing", &[&path(one), &path(two)])?;
    ctx.check("nobody has them", !missed.ok && missed.statuses.contains_key(&404), &format!("{:?}", missed.statuses));

    set.install_some(&a, &[one, two], Signed::Yes)?;
    for info in [one, two] {
        let target = format!("/{}.narinfo", info.path.hash());
        let has = || Ok(gateway_get(ctx, &b, &target)?.0.status == 200);
        wait::until_true("the gateway to find what appeared", Duration::from_secs(10), has)?;
    }
    let remembered = realise("remembered", &[&path(one)])?;
    let asked = remembered.statuses.values().sum::<u64>();
    ctx.check("Nix does not ask again by itself", !remembered.ok && asked == 0, &format!("{:?}", remembered.statuses));

    let peernixctl = ctx.peernixd.with_file_name("peernixctl");
    let said = output(b.command(&peernixctl.display().to_string()).args(["forget", "--own", &path(one)]))?;
    ctx.check("it says what was forgotten", said.starts_with("Forgot 1 answer in "), &said);
    realise("forgotten", &[&path(one)])?.must("what appeared, once that was forgotten")?;
    let still = realise("not-forgotten", &[&path(two)])?;
    ctx.check("the other path is still remembered", !still.ok, "it was realised");

    // A file of Nix's is still one of Nix's afterwards, and so is what it learns from then on.
    let said = output(b.command(&peernixctl.display().to_string()).args(["forget", "--own", "--all"]))?;
    ctx.check("all is forgotten", said.starts_with("Forgot "), &said);
    let run = realise("all-forgotten", &[&path(two)])?.must("the other path, once all was forgotten")?;
    // 2.8 never asks twice.
    let info = run.log.contains("nix-cache-info");
    let meant = generation != Generation::Machine;
    ctx.check("nix-cache-info is asked for again, but by 2.8", info == meant, &format!("it is: {info}"));
    on_b.stop()?;
    on_a.stop()
}

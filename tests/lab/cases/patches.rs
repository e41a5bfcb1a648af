//! A new version over a slow line: what it differs in from the old one, and not all of it.

use std::time::Duration;

use anyhow::Result;

use super::Case;
use crate::ctx::Ctx;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation};
use crate::store::Signed;

/// What the source can send, in megabits per second.
const RATE: u32 = 20;
/// How much is left at most of what is sent without patches, which is compressed.
const PART: f64 = 1.0 / 3.0;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("patches/new-version", new_version).quiet(), Case::new("patches/damaged-base", damaged_base)]
}

/// Has a host that has the old version get the new one; with the bytes that the source sent for that.
fn upgrade(ctx: &Ctx, name: &str, patches: bool, damage: bool) -> Result<f64> {
    let network = ctx.network()?;
    let (source, host) = (network.host(&format!("{name}-source"))?, network.host(name)?);
    let set = ctx.world.versions()?;
    set.install(&source)?;
    let old = set.named("program-1.0")?;
    set.install_some(&host, &[old], Signed::Yes)?;
    if damage {
        super::pieces::damage(&host, &format!("nix/store/{}", old.path))?;
    }
    source.slow(RATE)?;
    let on_source = Peernixd::start(ctx, &source, &Settings::new(ctx))?;
    let on_host = Peernixd::start(ctx, &host, &Settings::new(ctx).set("swarm.patches", patches))?;
    on_host.wait_online(1, Duration::from_secs(20))?;
    let get = |package: &str| -> Result<f64> {
        let path = format!("/nix/store/{}", set.named(package)?.path);
        let before = source.sent()?;
        real_nix::realise(ctx, &host, Generation::Machine, &format!("{name}-{package}"), &path)?.must(package)?;
        Ok((source.sent()? - before) as f64)
    };
    // By which the line is measured.
    get("other-1.0")?;
    let sent = get("program-1.1")?;
    let metrics = on_host.metrics()?;
    let came = metrics.lines().find_map(|line| line.strip_prefix("peernix_patches_total{result=\"fetched\"} "));
    let meant = if patches { "1" } else { "0" };
    ctx.check(&format!("{name}: patches that came"), came == Some(meant), came.unwrap_or("no such metric"));
    let banned = metrics.lines().find_map(|line| line.strip_prefix("peernix_peers_banned_total "));
    ctx.check(&format!("{name}: nobody is banned"), banned == Some("0"), banned.unwrap_or("no such metric"));
    on_host.stop()?;
    on_source.stop()?;
    Ok(sent)
}

fn new_version(ctx: &Ctx) -> Result<()> {
    let without = upgrade(ctx, "whole", false, false)?;
    let with = upgrade(ctx, "patched", true, false)?;
    ctx.measure("what the source sent of the whole, compressed", without / 1e6, "MB", None);
    ctx.measure("what it sent of the differences", with / 1e6, "MB", None);
    ctx.measure("bytes, as a part of those without patches", with / without, "", PART);
    Ok(())
}

/// What is damaged is the base, here: the new version comes whole from where the patch ends to fit, and nobody is to blame.
fn damaged_base(ctx: &Ctx) -> Result<()> {
    let sent = upgrade(ctx, "damaged", true, true)? / 1e6;
    ctx.measure("what the source sent", sent, "MB", None);
    ctx.check("the rest came whole", (1.0..8.0).contains(&sent), &format!("{sent} MB"));
    Ok(())
}

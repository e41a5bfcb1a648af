//! `peernixd` goes and comes back: addresses handed out earlier stay good, and what is under way is finished first.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::http::{Client, gateway_get};
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation};
use crate::store::Signed;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("restart/addresses-stay", addresses_stay),
        Case::new("restart/any-port", any_port),
        Case::new("restart/gateway-drains", |ctx| drains(ctx, Side::Gateway)),
        Case::new("restart/share-drains", |ctx| drains(ctx, Side::Share)),
    ]
}

fn addresses_stay(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let settings = Settings::new(ctx);
    let on_a = Peernixd::start(ctx, &a, &settings)?;
    let mut on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let path = format!("/nix/store/{}", info.path);
    let target = nar_target(ctx, &b, &info.path.hash().to_string())?;
    real_nix::realise(ctx, &b, Generation::Machine, "before", &path)?.must("before the restart")?;
    b.delete(&path)?;
    let id = on_b.node_id()?;

    on_b.kill9()?;
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    ctx.check("the identity stays", on_b.node_id()? == id, "another one");
    let known = on_b.wait_online(1, Duration::from_secs(10))?;
    ctx.measure("until the peer is online again", known.as_secs_f64(), "s", 1.0);
    // Without another look at the narinfo, as Nix does for thirty days.
    let (head, body) = Client::gateway(ctx, &b)?.time(&target)?;
    ctx.check("the NAR's address is good", head.status == 200, &head.status.to_string());
    ctx.check("and gives the same bytes", body.hash == info.nar_hash, "another hash");
    let run = real_nix::realise(ctx, &b, Generation::Machine, "after", &path)?.must("after the restart")?;
    ctx.check("Nix did not ask for the narinfo again", !run.log.contains(".narinfo'; curl"), "it did");
    let range = [("Range", "bytes=1000000-")];
    let mut client = Client::gateway(ctx, &b)?;
    let head = client.request("GET", &target, &range)?;
    let rest = client.body(&head, |_, _| Ok(()))?;
    ctx.check("and takes a Range", head.status == 206, &head.status.to_string());
    ctx.check("whose rest is right", rest.bytes == info.nar_size - 1_000_000, &rest.bytes.to_string());
    on_b.stop()?;
    on_a.stop()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Gateway,
    Share,
}

/// SIGTERM in mid-transfer: the transfer is finished, then the program ends, well.
fn drains(ctx: &Ctx, side: Side) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-24m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    a.slow(100)?;
    let settings = Settings::new(ctx);
    let mut on_a = Peernixd::start(ctx, &a, &settings)?;
    let mut on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let target = nar_target(ctx, &b, &info.path.hash().to_string())?;
    let mut client = Client::gateway(ctx, &b)?;
    let head = client.request("GET", &target, &[])?;
    ensure!(head.status == 200, "the NAR: {}", head.status);
    let mut struck = false;
    let body = client.body(&head, |offset, _| {
        if offset > info.nar_size / 4 && !struck {
            struck = true;
            let stopping = if side == Side::Gateway { &on_b } else { &on_a };
            stopping.process.signal(Signal::SIGTERM)?;
        }
        Ok(())
    })?;
    ctx.check("the transfer is finished", body.complete, &format!("{} of {} bytes", body.bytes, info.nar_size));
    ctx.check("the bytes are right", body.hash == info.nar_hash, "another hash");
    drop(client);
    let stopping = if side == Side::Gateway { &mut on_b } else { &mut on_a };
    let status = stopping.process.wait(Duration::from_secs(10))?;
    ctx.check("the program ends well", status.success(), &status.to_string());
    stopping.judge_log()?;
    if side == Side::Share {
        let (head, _) = gateway_get(ctx, &b, "/nix-cache-info")?;
        ctx.check("the other goes on", head.status == 200, &head.status.to_string());
        on_b.stop()?;
    } else {
        on_a.stop()?;
    }
    Ok(())
}

/// Port 0 takes any, and the file tells which: for tests and for several daemons on one machine.
fn any_port(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let settings = Settings::new(ctx).set("gateway.listen", "127.0.0.1:0").set("share.listen", "[::]:0");
    let on_a = Peernixd::start(ctx, &a, &settings)?;
    let text = std::fs::read_to_string(on_a.addresses_file())?;
    let addresses: serde_json::Value = serde_json::from_str(&text)?;
    let gateway = addresses["gateway"].as_str().or_else(|| addresses["gateway"][0].as_str()).unwrap_or_default();
    let (head, _) = Client::connect(&a, gateway)?.get("/nix-cache-info")?;
    ctx.check("the gateway is where the file says", head.status == 200, &text);
    on_a.process.signal(Signal::SIGTERM)?;
    on_a.stop_after_sigterm()
}

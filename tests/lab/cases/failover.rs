//! The source dies in mid-NAR. Another has the path: Nix sees nothing of it. No other has it: Nix goes elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, gateway_get};
use crate::internet::{Internet, flat_cache};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};
use crate::store::Signed;
use crate::wait;

/// Slow enough that a transfer of 64 MiB is still under way when the fault happens; in megabits per second.
const RATE: u32 = 250;

/// The longest pause that Nix may see.
const PAUSE_LIMIT: f64 = 2.0;

/// How a source goes away.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// kill -9: the kernel resets its connections.
    Killed,
    /// Its packets vanish on the way: nobody is told.
    CutOff,
    /// Its cable is pulled: it notices, we do not.
    Unplugged,
    /// SIGSTOP: TCP lives on, the program does not.
    Stalled,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("failover/killed", Fault::Killed),
        ("failover/cut-off", Fault::CutOff),
        ("failover/unplugged", Fault::Unplugged),
        ("failover/stalled", Fault::Stalled),
    ]
    .map(|(name, fault)| Case::new(name, move |ctx| failover(ctx, fault)))
    .into();
    cases.extend(Generation::ALL.map(|generation| {
        let name = format!("no-other-source/nix-{}", generation.version());
        Case::new(name, move |ctx| no_other_source(ctx, generation)).needing(Need::Nix(generation))
    }));
    cases
}

impl Fault {
    fn strike(self, source: &mut Peernixd<'_>) -> Result<()> {
        match self {
            Self::Killed => source.kill9(),
            Self::CutOff => source.host.port.cut(),
            Self::Unplugged => source.host.port.plug(false),
            Self::Stalled => source.process.signal(Signal::SIGSTOP),
        }
    }
}

/// The NAR's target on the gateway, from its narinfo.
pub(super) fn nar_target(ctx: &Ctx, host: &Host, hash: &str) -> Result<String> {
    let (head, body) = gateway_get(ctx, host, &format!("/{hash}.narinfo"))?;
    ensure!(head.status == 200, "narinfo of {hash}: {}", head.status);
    let text = String::from_utf8(body)?;
    let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).context("no URL in the narinfo")?;
    Ok(format!("/{url}"))
}

fn failover(ctx: &Ctx, fault: Fault) -> Result<()> {
    // Twice from the beginning: once by a client that times every byte, once by the real Nix.
    timed(ctx, fault)?;
    real(ctx, fault)
}

/// Two sources and a reader, all of them acquainted.
fn three<'a>(ctx: &'a Ctx, hosts: &'a [std::sync::Arc<Host>; 3]) -> Result<[Peernixd<'a>; 3]> {
    let [a, c, b] = hosts;
    let set = ctx.world.pieces()?;
    for host in [a, c] {
        set.install_some(host, &[set.named("piece-64m")?, set.named("piece-100m")?], Signed::Yes)?;
        host.slow(RATE)?;
    }
    let settings = Settings::new(ctx);
    let peers =
        [Peernixd::start(ctx, a, &settings)?, Peernixd::start(ctx, c, &settings)?, Peernixd::start(ctx, b, &settings)?];
    peers[2].wait_online(2, Duration::from_secs(10))?;
    Ok(peers)
}

/// Which of the two is sending: the one that has sent more.
fn busier(peers: &[Peernixd<'_>; 3], before: [u64; 2]) -> Result<usize> {
    let sent = [peers[0].host.sent()? - before[0], peers[1].host.sent()? - before[1]];
    Ok(usize::from(sent[1] > sent[0]))
}

fn timed(ctx: &Ctx, fault: Fault) -> Result<()> {
    let network = ctx.network()?;
    let hosts = [network.host("a")?, network.host("c")?, network.host("b")?];
    let mut peers = three(ctx, &hosts)?;
    let info = ctx.world.pieces()?.named("piece-64m")?;
    let target = nar_target(ctx, &hosts[2], &info.path.hash().to_string())?;
    let before = [hosts[0].sent()?, hosts[1].sent()?];
    let mut client = Client::gateway(ctx, &hosts[2])?;
    let head = client.request("GET", &target, &[])?;
    ensure!(head.status == 200, "the NAR: {}", head.status);
    let mut struck = None;
    let body = client.body(&head, |offset, _| {
        if offset > info.nar_size / 3 && struck.is_none() {
            let source = busier(&peers, before)?;
            fault.strike(&mut peers[source])?;
            struck = Some(source);
        }
        Ok(())
    })?;
    ctx.check("the body is complete", body.complete, &format!("{} of {} bytes", body.bytes, info.nar_size));
    ctx.check("the bytes are right", body.hash == info.nar_hash, "another hash");
    ctx.measure("longest pause", body.longest_pause.as_secs_f64(), "s", PAUSE_LIMIT);
    ctx.note("pause at byte", body.pause_at, "B");
    ctx.measure("time for 64 MiB", body.time.as_secs_f64(), "s", None);
    finish(peers, struck)
}

fn real(ctx: &Ctx, fault: Fault) -> Result<()> {
    let network = ctx.network()?;
    let hosts = [network.host("na")?, network.host("nc")?, network.host("nb")?];
    let mut peers = three(ctx, &hosts)?;
    let info = ctx.world.pieces()?.named("piece-100m")?;
    let path = format!("/nix/store/{}", info.path);
    let before = [hosts[0].sent()?, hosts[1].sent()?];
    let run =
        real_nix::start(ctx, &hosts[2], Generation::Machine, "b", &["nix-store", "--realise", &path], Retries::None)?;
    wait::until_true("a third of the NAR to be sent", Duration::from_secs(20), || {
        Ok(hosts[0].sent()? - before[0] + hosts[1].sent()? - before[1] > info.nar_size / 3)
    })?;
    let source = busier(&peers, before)?;
    fault.strike(&mut peers[source])?;
    let run = run.finish(Duration::from_secs(60))?.must("a transfer whose source went away")?;
    ctx.check("Nix does not try again", run.retries == 0, &run.retries.to_string());
    let complaints = run.complaints();
    ctx.check("Nix complains of nothing", complaints.is_empty(), &complaints);
    real_nix::verify_store(&hosts[2], Generation::Machine)?;
    finish(peers, Some(source))
}

/// Stops those that can be stopped.
fn finish(peers: [Peernixd<'_>; 3], struck: Option<usize>) -> Result<()> {
    for (index, peer) in peers.into_iter().enumerate() {
        if struck == Some(index) {
            peer.judge_log()?;
        } else {
            peer.stop()?;
        }
    }
    Ok(())
}

fn no_other_source(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b, maker) = (network.host("a")?, network.host("b")?, network.host("maker")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-64m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    a.slow(RATE)?;
    let path = format!("/nix/store/{}", info.path);
    set.install_some(&maker, &[info], Signed::Yes)?;
    let cache = flat_cache(&maker, "cache", "none", std::slice::from_ref(&path))?;
    let internet = Internet::start(&network, 8080, &cache)?;
    b.nix_conf(&["http://127.0.0.1:7649", &internet.url], &ctx.world.public_key())?;
    let settings = Settings::new(ctx);
    let mut on_a = Peernixd::start(ctx, &a, &settings)?;
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(1, Duration::from_secs(10))?;

    let hash = info.path.hash().to_string();
    let target = nar_target(ctx, &b, &hash)?;
    let mut client = Client::gateway(ctx, &b)?;
    let head = client.request("GET", &target, &[])?;
    let mut killed: Option<Instant> = None;
    let body = client.body(&head, |offset, _| {
        if offset > info.nar_size / 3 && killed.is_none() {
            on_a.kill9()?;
            killed = Some(Instant::now());
        }
        Ok(())
    })?;
    ctx.check("a transfer without a source ends", !body.complete, "it claims to be complete");
    let ended = killed.map(|at| at.elapsed()).unwrap_or_default();
    ctx.measure("from the death of the only source to the end", ended.as_secs_f64(), "s", 10.0);
    let (head, _) = gateway_get(ctx, &b, &target)?;
    ctx.check("the next NAR is 404", head.status == 404, &head.status.to_string());
    // What was looked up a moment ago may be remembered for a moment.
    let forgotten = wait::until_true("the narinfo to be 404", Duration::from_secs(15), || {
        Ok(gateway_get(ctx, &b, &format!("/{hash}.narinfo"))?.0.status == 404)
    })?;
    ctx.measure("until the narinfo is 404", forgotten.as_secs_f64(), "s", 10.0);

    // And now the real Nix, which has a second substituter.
    let mut on_a = Peernixd::start(ctx, &a, &settings)?;
    on_b.wait_state(&on_a.node_id()?, "online", Duration::from_secs(20))?;
    // That nobody has it may be remembered for a moment, too.
    let found = wait::until_true("the narinfo to be there again", Duration::from_secs(15), || {
        Ok(gateway_get(ctx, &b, &format!("/{hash}.narinfo"))?.0.status == 200)
    })?;
    ctx.measure("until the narinfo is 200 when the peer is back", found.as_secs_f64(), "s", 5.0);
    let before = a.sent()?;
    let run = real_nix::start(ctx, &b, generation, "b", &["nix-store", "--realise", &path], Retries::Allowed)?;
    wait::until_true("a third of the NAR to be sent", Duration::from_secs(20), || {
        Ok(a.sent()? - before > info.nar_size / 3)
    })?;
    on_a.kill9()?;
    let run = run.finish(Duration::from_secs(60))?.must("going on to the next substituter")?;
    ctx.measure("time until Nix has it from its next substituter", run.time.as_secs_f64(), "s", None);
    ctx.check("the next substituter was asked", internet.asked.count("/nar/") > 0, "it was not");
    real_nix::verify_store(&b, generation)?;
    on_b.stop()
}

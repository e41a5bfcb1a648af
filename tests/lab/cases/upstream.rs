//! Caches on the Internet: decoded, joined with peers, taken over from, and survived when they fail.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::http::{Client, gateway_get};
use crate::internet::{Internet, Weather, flat_cache};
use crate::liar::{FakePeer, Goods, Manner};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};
use crate::store::Signed;

/// What a lookup may cost at most that waits for nobody but peers: `[gateway] budget_ms` and a little for a busy machine.
const BUDGET: f64 = 0.3 + 0.1;

/// What the first lookup may cost that waits for an upstream in vain.
const PATIENCE: f64 = 8.0 + 0.5;

/// Paths that nobody has.
const NOBODYS: [&str; 3] =
    ["00000000000000000000000000000000", "11111111111111111111111111111111", "22222222222222222222222222222222"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("upstream/decodes", decodes),
        Case::new("upstream/with-peers", with_peers),
        Case::new("upstream/fails/nar-500", fails_at_nars),
        Case::new("upstream/cut-in-mid-nar", cut_in_mid_nar),
    ];
    cases.extend(FAILING.map(|(name, how)| Case::new(format!("upstream/fails/{name}"), move |ctx| fails(ctx, how))));
    cases.extend(["none", "xz", "zstd", "gzip", "bzip2"].map(|compression| {
        Case::new(format!("upstream/takes-over-{compression}"), move |ctx| takes_over(ctx, compression))
    }));
    cases
}

/// Serves one piece from the Internet.
fn internet(ctx: &Ctx, network: &Network<'_>, name: &str, compression: &str) -> Result<Internet> {
    let maker = network.host("maker")?;
    let set = ctx.world.pieces()?;
    let info = set.named(name)?;
    set.install_some(&maker, &[info], Signed::Yes)?;
    let dir = flat_cache(&maker, "cache", compression, &[format!("/nix/store/{}", info.path)])?;
    Internet::start(network, 8080, &dir)
}

fn field<'a>(narinfo: &'a str, name: &str) -> &'a str {
    narinfo.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

fn decodes(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let b = network.host("b")?;
    let internet = internet(ctx, &network, "text-24m", "xz")?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).upstreams(&[&internet.url]))?;
    let info = ctx.world.pieces()?.named("text-24m")?;
    let (head, body) = gateway_get(ctx, &b, &format!("/{}.narinfo", info.path.hash()))?;
    ensure!(head.status == 200, "narinfo: {}", head.status);
    ctx.measure("narinfo through the gateway", head.time.as_secs_f64(), "s", BUDGET);
    let narinfo = String::from_utf8(body)?;
    ctx.check("one form of the NAR, whatever upstream has", field(&narinfo, "Compression:") == "none", &narinfo);
    let (head, nar) = Client::gateway(ctx, &b)?.time(&format!("/{}", field(&narinfo, "URL:")))?;
    ensure!(head.status == 200, "NAR: {}", head.status);
    ctx.check("the NAR's own bytes", nar.hash == info.nar_hash, &nar.hash.to_string());
    ctx.check("no Content-Encoding", head.header("content-encoding").is_none(), "there is one");
    for generation in Generation::ALL.into_iter().filter(|generation| generation.lacking().is_none()) {
        let label = generation.version();
        let path = format!("/nix/store/{}", info.path);
        real_nix::realise(ctx, &b, generation, label, &path)?.must("realising from upstream")?;
        real_nix::verify_store(&b, generation)?;
        b.delete(&path)?;
    }
    on_b.stop()
}

fn with_peers(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b, maker) = (network.host("a")?, network.host("b")?, network.host("maker")?);
    let set = ctx.world.closure()?;
    // A has every second path, upstream has them all; few enough to be compressed in a moment.
    let all = set.closure_of(set.paths.iter().take(60));
    let half = set.closure_of(all.iter().copied().step_by(2));
    set.install_some(&a, &half, Signed::Yes)?;
    set.install_some(&maker, &all, Signed::Yes)?;
    let paths: Vec<String> = all.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let dir = flat_cache(&maker, "cache", "zstd", &paths)?;
    let internet = Internet::start(&network, 8080, &dir)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).upstreams(&[&internet.url]))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let args: Vec<&str> = ["nix-store", "--realise"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let run = real_nix::start(ctx, &b, Generation::Machine, "b", &args, Retries::None)?;
    let run = run.finish(Duration::from_secs(60))?.must("realising from both")?;
    ctx.measure("time for all", run.time.as_secs_f64(), "s", None);
    let nars = internet.asked.count("/nar/");
    ctx.note("paths in all", all.len(), "");
    ctx.note("paths that A has", half.len(), "");
    ctx.note("NARs from upstream", nars, "");
    ctx.check("what A lacks comes from upstream", nars >= all.len() - half.len(), &nars.to_string());
    ctx.check("what A has comes from A", nars < all.len(), &nars.to_string());
    real_nix::verify_store(&b, Generation::Machine)?;
    on_b.stop()?;
    on_a.stop()
}

/// How an upstream fails.
#[derive(Debug, Clone, Copy)]
enum Failing {
    /// Nothing listens there.
    Refused,
    /// No machine has the address.
    NobodyThere,
    As(Weather),
}

const FAILING: [(&str, Failing); 7] = [
    ("refused", Failing::Refused),
    ("nobody-there", Failing::NobodyThere),
    ("silent", Failing::As(Weather::Silent)),
    ("slow", Failing::As(Weather::SlowNarinfo(Duration::from_secs(20)))),
    ("500", Failing::As(Weather::Status(500))),
    ("503", Failing::As(Weather::Status(503))),
    ("429", Failing::As(Weather::Status(429))),
];

/// Everything that can be wrong with an upstream: a path that a peer has comes as if nothing were, others are 404 in time.
fn fails(ctx: &Ctx, how: Failing) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let known = ctx.world.pieces()?.named("piece-2m")?;
    ctx.world.pieces()?.install_some(&a, &[known], Signed::Yes)?;
    let internet = internet(ctx, &network, "piece-8m", "none")?;
    let url = match how {
        Failing::Refused => format!("http://{}:1", network.outside_address()),
        Failing::NobodyThere => "http://10.77.0.99:8080".to_owned(),
        Failing::As(weather) => {
            internet.turn(weather);
            internet.url.clone()
        }
    };
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).upstreams(&[&url]))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let mut client = Client::gateway(ctx, &b)?;
    let (head, _) = client.get(&format!("/{}.narinfo", known.path.hash()))?;
    ctx.check("a peer's path is there", head.status == 200, &head.status.to_string());
    ctx.measure("a peer's path", head.time.as_secs_f64(), "s", BUDGET);
    for (nobodys, label, limit) in
        [(NOBODYS[0], "the first", PATIENCE), (NOBODYS[1], "the second", BUDGET), (NOBODYS[2], "the third", BUDGET)]
    {
        let (head, _) = client.get(&format!("/{nobodys}.narinfo"))?;
        ctx.check("nobody's path is 404", head.status == 404, &head.status.to_string());
        ctx.measure(&format!("nobody's path, {label}"), head.time.as_secs_f64(), "s", limit);
    }
    if matches!(how, Failing::As(Weather::Status(503))) {
        // The real Nix with a failing upstream behind the gateway: it finishes as if there were none.
        let path = format!("/nix/store/{}", known.path);
        let run = real_nix::realise(ctx, &b, Generation::Machine, "b", &path)?.must("a failing upstream")?;
        ctx.check("Nix sees no retry", run.retries == 0, &run.retries.to_string());
    }
    on_b.stop()?;
    on_a.stop()
}

/// Narinfos are fine, NARs are not, and nobody else has them: 404, no retry, and Nix says so.
fn fails_at_nars(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let b = network.host("b")?;
    let internet = internet(ctx, &network, "piece-8m", "none")?;
    internet.turn(Weather::NarStatus(500));
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).upstreams(&[&internet.url]))?;
    let path = format!("/nix/store/{}", ctx.world.pieces()?.named("piece-8m")?.path);
    let run = real_nix::realise(ctx, &b, Generation::Machine, "nar-500", &path)?;
    ctx.check("Nix does not get it", !run.ok, "it did");
    ctx.check("Nix sees no retry", run.retries == 0, &run.retries.to_string());
    on_b.stop()
}

/// Upstream's NARs break off again and again: the gateway asks for the rest, and Nix does not notice.
fn cut_in_mid_nar(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let b = network.host("b")?;
    let internet = internet(ctx, &network, "text-24m", "none")?;
    internet.turn(Weather::NarCut(10 << 20));
    let settings = Settings::new(ctx).upstreams(&[&internet.url]).set("limits.idle_timeout", "2s");
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    let info = ctx.world.pieces()?.named("text-24m")?;
    let path = format!("/nix/store/{}", info.path);
    let run = real_nix::realise(ctx, &b, Generation::Machine, "cut", &path)?.must("an upstream that cuts")?;
    ctx.check("cut: Nix sees no retry", run.retries == 0, &run.retries.to_string());
    ctx.check("cut: the rest is asked for", internet.asked.count(" from ") > 0, &format!("{:?}", internet.asked.all()));
    b.delete(&path)?;
    internet.turn(Weather::NarStallOnce(10 << 20));
    let run = real_nix::realise(ctx, &b, Generation::Machine, "stall", &path)?.must("an upstream that stalls")?;
    ctx.check("stall: Nix sees no retry", run.retries == 0, &run.retries.to_string());
    ctx.measure("stall: time until Nix has it", run.time.as_secs_f64(), "s", 15.0);
    real_nix::verify_store(&b, Generation::Machine)?;
    on_b.stop()
}

/// A transfer that a peer began, uncompressed, goes on from an upstream that has the same path compressed.
fn takes_over(ctx: &Ctx, compression: &str) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let internet = internet(ctx, &network, "text-24m", compression)?;
    // The peer is first with its narinfo.
    internet.turn(Weather::SlowNarinfo(Duration::from_millis(100)));
    let goods = Goods::of(ctx.world.pieces()?, "text-24m")?;
    let info = goods.info.clone();
    let manner = Manner { rate: Some(12 << 20), ..Manner::hesitant(Duration::ZERO) };
    let mut peer = Some(FakePeer::start(&a, 1, vec![goods], manner)?);
    let fixed = peer.iter().map(|peer| peer.fixed.clone()).collect::<Vec<_>>();
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).upstreams(&[&internet.url]).fixed_peers(&fixed))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let target = nar_target(ctx, &b, &info.path.hash().to_string())?;
    ensure!(target.ends_with(".nar"), "the narinfo is the upstream's, not the peer's: {target}");
    let mut client = Client::gateway(ctx, &b)?;
    let head = client.request("GET", &target, &[])?;
    ensure!(head.status == 200, "the NAR: {}", head.status);
    let mut struck = None;
    let body = client.body(&head, |offset, _| {
        if offset > info.nar_size / 3 && struck.is_none() {
            // Its listener and its connections end.
            peer = None;
            struck = Some(Instant::now());
        }
        Ok(())
    })?;
    struck.context("the NAR was never a third of its size long")?;
    ctx.check("the body is complete", body.complete, &format!("{} of {} bytes", body.bytes, info.nar_size));
    ctx.check("the bytes are right", body.hash == info.nar_hash, "another hash");
    ctx.check("upstream was asked", internet.asked.count("/nar/") > 0, &format!("{:?}", internet.asked.all()));
    ctx.measure("longest pause", body.longest_pause.as_secs_f64(), "s", 2.0);
    on_b.stop()
}

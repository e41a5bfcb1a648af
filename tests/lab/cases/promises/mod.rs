//! What real caches do to a gateway, seen by a Nix that asks nothing else: whatever a narinfo promised, some source keeps, and what
//! nobody answered yet is waited for. Each way to fail is a case of its own, for each Nix.

mod lookups;
mod nars;
mod stage;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::Client;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings, Start};
use crate::real_nix::{self, Generation, NixRun, Retries};
use stage::{Act, Play, Scene, Stage};

/// How long a run of Nix may take: longer than a source may be silent, which some of these are.
const NIX_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for generation in Generation::ALL {
        for Act { name, needs, play } in nars::acts().into_iter().chain(lookups::acts()) {
            let name = format!("promises/{}/{name}", generation.version());
            let mut case = Case::new(name, move |ctx| keeps(ctx, generation, &play)).needing(Need::Nix(generation));
            for need in needs {
                case = case.needing(need);
            }
            cases.push(case);
        }
    }
    cases
}

/// Nix gets the paths through a gateway whose upstreams are as `play` makes them.
fn keeps(ctx: &Ctx, generation: Generation, play: &Play) -> Result<()> {
    let mut stage = Stage::new(ctx)?;
    let scene = play(&mut stage)?;
    let host = &stage.host;
    let mut substituters = vec!["http://127.0.0.1:7649"];
    substituters.extend(scene.beside.iter().map(String::as_str));
    host.nix_conf(&substituters, &ctx.world.public_key())?;
    let upstreams: Vec<&str> = scene.upstreams.iter().map(String::as_str).collect();
    let settings = Settings::new(ctx).upstreams(&upstreams).set("discovery.mdns", false);
    let start = Start { own_certificates: host.dir.join("etc/certificates.pem").exists(), ..Start::default() };
    let on_b = Peernixd::start_as(ctx, host, &settings, start)?;
    let paths: Vec<String> = scene.paths.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let args: Vec<&str> = ["nix-store", "--realise"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let run = real_nix::start(ctx, host, generation, "nix", &args, Retries::None)?.finish(NIX_LIMIT)?;
    judge(ctx, &run, !scene.beside.is_empty());
    ctx.measure("time until Nix has them", run.time.as_secs_f64(), "s", scene.limit.as_secs_f64());
    if run.ok {
        real_nix::verify_store(host, generation)?;
    }
    let afterwards = checked(ctx, host, &scene);
    let otherwise = afterwards.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
    ctx.check("the same for a client that checks every byte", afterwards.is_ok(), &otherwise);
    // The gateway's own record: it counts what it answered, whoever asked.
    let metrics = on_b.metrics()?;
    let count = |status: &str| {
        let name = format!("peernix_http_requests_total{{face=\"gateway\",route=\"nar\",status=\"{status}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or_default()
    };
    ctx.check("the gateway counts no NAR that it did not have", count("4xx") == 0, &count("4xx").to_string());
    if scene.beside.is_empty() {
        ctx.check("and counts those that it had", count("2xx") >= scene.paths.len() as u64, &count("2xx").to_string());
    }
    on_b.stop()
}

/// Gets the paths by hand, from a gateway that has seen by now what its upstreams are like.
fn checked(ctx: &Ctx, host: &Host, scene: &Scene) -> Result<()> {
    let mut client = Client::gateway(ctx, host)?;
    for info in &scene.paths {
        let (head, narinfo) = client.get(&format!("/{}.narinfo", info.path.hash()))?;
        if head.status == 404 && !scene.beside.is_empty() {
            continue;
        }
        ensure!(head.status == 200, "the narinfo of {}: {}", info.path, head.status);
        let narinfo = String::from_utf8(narinfo)?;
        let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap_or_default();
        let (head, nar) = client.time(&format!("/{url}"))?;
        ensure!(head.status == 200, "a narinfo and no NAR of {}: {}", info.path, head.status);
        ensure!(nar.complete && nar.hash == info.nar_hash, "other bytes of {}: {}", info.path, nar.bytes);
    }
    Ok(())
}

/// What no Nix may see; `elsewhere`: the gateway may leave a path to Nix's other substituters.
fn judge(ctx: &Ctx, run: &NixRun, elsewhere: bool) {
    ctx.check("realised", run.ok, &run.complaints());
    let error = run.log.lines().find(|line| line.trim_start().starts_with("error"));
    ctx.check("without an error", error.is_none(), error.unwrap_or_default());
    ctx.check("without a retry", run.retries == 0, &run.retries.to_string());
    let missed = |what: &str| {
        run.log.lines().find(|line| {
            line.contains("http://127.0.0.1:7649/") && line.contains(what) && line.contains("HTTP status = 404")
        })
    };
    if !elsewhere {
        let missed = missed(".narinfo'");
        ctx.check("no path is nowhere", missed.is_none(), missed.unwrap_or_default());
    }
    let broken = missed("/nar/");
    ctx.check("no narinfo without its NAR", broken.is_none(), broken.unwrap_or_default());
}

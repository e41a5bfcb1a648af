//! A substituter that Nix has seen, and that is gone when Nix asks it next: what each Nix makes of that, although the cache behind
//! it in the list has everything. docs/operations.md tells administrators; this is where it knows it from.

use std::time::Duration;

use anyhow::Result;

use super::Case;
use crate::ctx::Ctx;
use crate::internet::{Internet, flat_cache};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};
use crate::store::Signed;

/// How long a run of Nix may take: no fallback costs up to a quarter of a minute a path.
const NIX_LIMIT: Duration = Duration::from_secs(100);

const PATHS: [&str; 5] = ["sliver-0", "sliver-1", "sliver-2", "sliver-3", "sliver-4"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for generation in Generation::ALL {
        // With 2.8 it is no help.
        let tried = if matches!(generation, Generation::Machine) { &[false][..] } else { &[false, true] };
        for &fallback in tried {
            let how = if fallback { "with-fallback" } else { "without-fallback" };
            let name = format!("gone/{}/{how}", generation.version());
            let case = Case::new(name, move |ctx| gone(ctx, generation, fallback)).needing(Need::Nix(generation));
            cases.push(case.early().limit(240));
        }
    }
    cases
}

fn gone(ctx: &Ctx, generation: Generation, fallback: bool) -> Result<()> {
    let network = ctx.network()?;
    let (b, maker) = (network.host("b")?, network.host("maker")?);
    let set = ctx.world.pieces()?;
    let infos = PATHS.iter().map(|name| set.named(name)).collect::<Result<Vec<_>>>()?;
    set.install_some(&maker, &infos, Signed::Yes)?;
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&maker, "cache", "none", &paths)?)?;
    b.nix_conf(&["http://127.0.0.1:7649", &internet.url], &ctx.world.public_key())?;
    let settings = Settings::new(ctx).upstreams(&[&internet.url]).set("discovery.mdns", false);
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    real_nix::realise(ctx, &b, generation, "seen", &paths[0])?.must("with the gateway there")?;
    // And with it its socket: nobody listens there any more.
    on_b.stop()?;

    let fetch = |label: &str, paths: &[String]| {
        let mut args = vec!["nix-store", "--realise"];
        args.extend(paths.iter().map(String::as_str));
        if fallback {
            args.push("--fallback");
        }
        real_nix::start(ctx, &b, generation, label, &args, Retries::Allowed)?.finish_unjudged(NIX_LIMIT)
    };
    let before = internet.asked.all().len();
    let run = fetch("gone", &paths[1..2])?;
    let went_on = internet.asked.all().len() > before;
    ctx.measure("one path, with the gateway gone", run.time.as_secs_f64(), "s", None);
    ctx.note("attempts announced", run.retries, "");
    // Until 2.31 the first error of a lookup ends the run, whoever else has the path (findings/nix-seen-then-gone.sh); `fallback`
    // disables the cache instead.
    let ends = match generation {
        Generation::Machine => true,
        Generation::Trixie => !fallback,
        Generation::Sid => false,
    };
    if ends {
        ctx.check("the run ends with an error", !run.ok, "it goes on: docs/operations.md says otherwise");
        ctx.check("the other cache is not asked", !went_on, "it is: docs/operations.md says otherwise");
    } else {
        ctx.check("Nix has the path from the other cache", run.ok && went_on, &run.complaints());
        let run = fetch("gone-for-two", &paths[2..4])?.must("two paths")?;
        ctx.measure("two paths in one run, with the gateway gone", run.time.as_secs_f64(), "s", None);
    }

    // Out of the list: as if it had never been there.
    b.nix_conf(&[&internet.url], &ctx.world.public_key())?;
    let run = fetch("line-taken-out", &paths[4..])?.must("without the line")?;
    ctx.measure("one path, with the line taken out", run.time.as_secs_f64(), "s", 2.0);
    ctx.check("without an attempt at the gateway", run.retries == 0, &run.retries.to_string());
    Ok(())
}

//! Narinfos of the Internet: one machine asks for each and tells the others, who believe nothing of it that nobody signed.

use std::time::Duration;

use anyhow::{Result, ensure};
use peernix::nix::PathInfo;

use super::Case;
use super::together::{offer, some_packages, start_all};
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::Client;
use crate::liar::{FakePeer, Fault, Goods, Manner};
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};
use crate::store::Signed;

/// How many machines want to know.
const MACHINES: usize = 4;
/// How often each narinfo may be asked for, all machines together: once, and now and then again where one did not answer in time.
const ASKED: f64 = 1.3;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("narinfos/asked-for-once", asked_once).quiet()];
    for (name, fault) in [("elsewhere", Fault::ToldElsewhere), ("forged", Fault::ToldForged), ("late", Fault::ToldLate)]
    {
        cases.push(Case::new(format!("narinfos/told-{name}"), move |ctx| told(ctx, fault)));
    }
    cases
}

/// All want all narinfos at once, and the Internet is asked for each about once.
fn asked_once(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let infos = some_packages(ctx, &maker, 12 << 20)?;
    let wanted = offer(&network, &maker, &infos.iter().collect::<Vec<_>>(), "zstd")?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]);
    let hosts: Vec<_> = (0..MACHINES).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let all = start_all(ctx, &hosts, &settings)?;
    std::thread::scope(|scope| {
        let readers: Vec<_> = hosts.iter().map(|host| scope.spawn(|| ask_for_all(ctx, host, &infos))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
    })?;
    let asked = wanted.internet.asked.count("narinfo");
    ctx.note("paths", infos.len(), "");
    ctx.measure("what the Internet was asked, for each path", asked as f64 / infos.len() as f64, "", ASKED);
    all.into_iter().try_for_each(Peernixd::stop)
}

fn ask_for_all(ctx: &Ctx, host: &Host, infos: &[PathInfo]) -> Result<()> {
    let mut client = Client::gateway(ctx, host)?;
    for info in infos {
        let (head, _) = client.get(&format!("/{}.narinfo", info.path.hash()))?;
        ensure!(head.status == 200, "{}: {}", info.path, head.status);
    }
    Ok(())
}

/// The machine that asks for some of them lies about these, or says nothing: Nix gets them all the same.
fn told(ctx: &Ctx, fault: Fault) -> Result<()> {
    let network = ctx.network()?;
    let [maker, l, b] = ["maker", "l", "b"].map(|name| network.host(name));
    let (maker, l, b) = (maker?, l?, b?);
    let set = ctx.world.pieces()?;
    // Of several at least one is the liar's to ask for: which, their hashes say.
    let names = ["piece-2m", "piece-2m-other", "sliver-0", "sliver-1", "sliver-2", "sliver-3", "sliver-4", "sliver-5"];
    let infos = names.into_iter().map(|name| set.named(name)).collect::<Result<Vec<_>>>()?;
    set.install_some(&maker, &infos, Signed::Yes)?;
    let wanted = offer(&network, &maker, &infos, "zstd")?;
    let goods = names.into_iter().map(|name| Goods::of(set, name)).collect::<Result<Vec<_>>>()?;
    let liar = FakePeer::start(&l, 3, goods, Manner::lying(fault))?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]).fixed_peers(std::slice::from_ref(&liar.fixed));
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let command: Vec<&str> =
        ["nix-store", "--realise"].into_iter().chain(wanted.paths.iter().map(String::as_str)).collect();
    let run = real_nix::start(ctx, &b, Generation::Machine, "realise", &command, Retries::None)?;
    let run = run.finish(Duration::from_secs(60))?.must("b")?;
    real_nix::verify_store(&b, Generation::Machine)?;
    ctx.measure("time of Nix", run.time.as_secs_f64(), "s", None);
    let told = liar.asked.count("/peernix/v1/upstream/");
    ctx.check("the liar was asked", told > 0, &format!("{:?}", liar.asked.all()));
    let blamed = on_b.log().lines().filter(|line| line.contains("upstream") && line.contains("WARN")).count();
    ctx.check("the upstream is blamed for nothing", blamed == 0, &on_b.log());
    on_b.stop()
}

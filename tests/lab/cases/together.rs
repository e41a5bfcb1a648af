//! Machines that want the same at the same time: the Internet is asked once, whoever dies meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peernix::fetch::claims::order::order;
use peernix::nix::PathInfo;
use peernix::peers::NodeId;

use super::Case;
use super::alone::in_memory;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::Client;
use crate::internet::{Internet, flat_cache};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, NixRun, Retries};
use crate::store::Signed;
use crate::wait;

/// How much more than one copy all machines together may download; what is repeated is narinfos and what was on its way.
const COPIES: f64 = 1.05;
const COPIES_AFTER_A_DEATH: f64 = 1.1;
/// Of how many machines, whose lookups all go out at once, and how much more than one copy these may download.
const FIFTY: usize = 50;
/// A build that is not optimised is tried, not judged: two processors for fifty services.
const COPIES_OF_FIFTY: f64 = if cfg!(debug_assertions) { 2.0 } else { 1.1 };
/// How much longer than alone the last of them may take; a build that is not optimised is tried, not judged.
const LAST: f64 = if cfg!(debug_assertions) { 2.5 } else { 1.5 };

const NIX_LIMIT: Duration = Duration::from_secs(300);

/// How many machines, how fast the line to the Internet is that all share, and about how many bytes of NARs they want.
#[derive(Clone, Copy)]
struct Scale {
    machines: usize,
    mbit: u32,
    bytes: u64,
}

/// Few enough for a build that is not optimised, on two processors: the line is what is waited for.
const SMALL: Scale = Scale { machines: 4, mbit: 16, bytes: 24 << 20 };
/// The same, where no times are compared.
const SMALLER: Scale = Scale { bytes: 12 << 20, ..SMALL };
const LARGE: Scale = Scale { machines: 10, mbit: 100, bytes: u64::MAX };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("together/one-download", |ctx| one_download(ctx, SMALL)).alone(),
        Case::new("together/one-download-for-ten", |ctx| one_download(ctx, LARGE)).alone().limit(900).long_only(),
        // One NAR on its way from one that dies is shown below at every run.
        Case::new("together/one-of-them-dies", |ctx| one_dies(ctx, SMALLER)).alone().long_only(),
        Case::new("together/one-download-for-fifty", fifty).alone().limit(600).long_only(),
        Case::new("together/one-of-ten-dies", |ctx| one_dies(ctx, LARGE)).alone().limit(900).long_only(),
        Case::new("together/two-halves", two_halves).quiet(),
        Case::new("together/what-is-not-shared", not_shared),
        Case::new("together/one-that-has-it", one_has_it),
    ];
    for who in [Who::Downloader, Who::Directory, Who::Nobody] {
        let name = format!("together/large/{}", who.name());
        let case = Case::new(name, move |ctx| large(ctx, who)).quiet();
        // That nobody dies is shown by the others as well.
        cases.push(if who == Who::Nobody { case.long_only() } else { case });
    }
    cases
}

/// Who is killed while one large NAR is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Downloader,
    Directory,
    Nobody,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Downloader => "downloader-dies",
            Self::Directory => "directory-dies",
            Self::Nobody => "nobody-dies",
        }
    }
}

/// A cache on the Internet, and what is wanted of it.
pub(super) struct Wanted {
    pub(super) internet: Internet,
    pub(super) paths: Vec<String>,
    /// Bytes of its NARs as files.
    files: u64,
}

/// Puts these paths into a cache on the Internet.
pub(super) fn offer(network: &Network<'_>, maker: &Host, infos: &[&PathInfo], compression: &str) -> Result<Wanted> {
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let dir: PathBuf = flat_cache(maker, "cache", compression, &paths)?;
    let files = std::fs::read_dir(dir.join("nar"))?.map(|entry| Ok(entry?.metadata()?.len()));
    let files = files.sum::<std::io::Result<u64>>().context("the cache's files")?;
    Ok(Wanted { internet: Internet::start(network, 8080, &dir)?, paths, files })
}

/// Some packages of the closure.
pub(super) fn some_packages(ctx: &Ctx, maker: &Host, most: u64) -> Result<Vec<PathInfo>> {
    let set = ctx.world.closure()?;
    let mut bytes = 0;
    let some = set.paths.iter().filter(|info| info.path.name().starts_with("deb-")).take_while(|info| {
        bytes += info.nar_size;
        bytes < most
    });
    let infos = set.closure_of(some);
    set.install_some(maker, &infos, Signed::Yes)?;
    Ok(infos.into_iter().cloned().collect())
}

/// Starts the service on each host, and waits until all know each other.
pub(super) fn start_all<'a>(ctx: &'a Ctx, hosts: &'a [Arc<Host>], settings: &Settings) -> Result<Vec<Peernixd<'a>>> {
    let all = hosts.iter().map(|host| Peernixd::start(ctx, host, settings)).collect::<Result<Vec<_>>>()?;
    for one in &all {
        // Each greets each, on two processors.
        one.wait_online(hosts.len() - 1, Duration::from_secs(20 + 2 * hosts.len() as u64))?;
    }
    Ok(all)
}

/// Has Nix realise the paths on each host at the same time; `meanwhile` is done while it runs.
fn realise_all(
    ctx: &Ctx,
    hosts: &[Arc<Host>],
    paths: &[String],
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Vec<NixRun>> {
    let command: Vec<&str> = ["nix-store", "--realise"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let running = hosts
        .iter()
        .map(|host| real_nix::start(ctx, host, Generation::Machine, &host.name, &command, Retries::Allowed))
        .collect::<Result<Vec<_>>>()?;
    meanwhile()?;
    running.into_iter().map(|run| run.finish(NIX_LIMIT)).collect()
}

/// How many bytes of NARs a machine has downloaded from the Internet.
fn downloaded(on: &Peernixd<'_>) -> Result<u64> {
    counted(on, "peernix_fetched_bytes_total{source=\"upstream\"}")
}

fn counted(on: &Peernixd<'_>, name: &str) -> Result<u64> {
    let metrics = on.metrics()?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().parse()?)
}

/// What one machine needs, alone: its time, and the bytes that the Internet sent, headers of packets and all.
fn alone(ctx: &Ctx, network: &Network<'_>, settings: &Settings, wanted: &Wanted) -> Result<(Duration, u64)> {
    let host = network.host("alone")?;
    in_memory(&host)?;
    let on = Peernixd::start(ctx, &host, &settings.clone().fixed_peers(&[]))?;
    let before = network.internet_sent()?;
    let runs = realise_all(ctx, std::slice::from_ref(&host), &wanted.paths, || Ok(()))?;
    let sent = network.internet_sent()? - before;
    let time = runs.into_iter().next().context("no run")?.must("alone")?.time;
    on.stop()?;
    Ok((time, sent))
}

fn one_download(ctx: &Ctx, scale: Scale) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let infos = some_packages(ctx, &maker, scale.bytes)?;
    let wanted = offer(&network, &maker, &infos.iter().collect::<Vec<_>>(), "zstd")?;
    ctx.note("paths", infos.len(), "");
    ctx.note("machines", scale.machines, "");
    ctx.measure("files of the cache", wanted.files as f64 / 1e6, "MB", None);
    network.slow_internet(scale.mbit)?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]).set("log.level", "info");
    let (time, one_copy) = alone(ctx, &network, &settings, &wanted)?;
    ctx.measure("one machine alone", time.as_secs_f64(), "s", None);

    let hosts: Vec<_> = (0..scale.machines).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    hosts.iter().try_for_each(|host| in_memory(host))?;
    let all = start_all(ctx, &hosts, &settings)?;
    let before = network.internet_sent()?;
    let runs = realise_all(ctx, &hosts, &wanted.paths, || Ok(()))?;
    let sent = network.internet_sent()? - before;
    let mut last = Duration::ZERO;
    for (run, host) in runs.into_iter().zip(&hosts) {
        last = last.max(run.must(&host.name)?.time);
        real_nix::verify_store(host, Generation::Machine)?;
    }
    let nars = all.iter().map(downloaded).sum::<Result<u64>>()?;
    ctx.measure("NARs that all downloaded, as a multiple of the files", nars as f64 / wanted.files as f64, "", COPIES);
    ctx.measure("what the Internet sent, as a multiple of one copy", sent as f64 / one_copy as f64, "", COPIES);
    ctx.measure("the last machine's time", last.as_secs_f64(), "s", None);
    ctx.measure("as a multiple of one machine's", last.as_secs_f64() / time.as_secs_f64(), "", LAST);
    if scale.bytes == u64::MAX {
        let straight = straight(ctx, &network, scale.machines, &wanted)?;
        ctx.measure(
            "as many Nix straight from that cache, without us and at any speed",
            straight.as_secs_f64(),
            "s",
            None,
        );
    }
    let counts = |name: &str| -> Result<Vec<u64>> {
        all.iter().map(|on| counted(on, &format!("peernix_claims_total{{result=\"{name}\"}}"))).collect()
    };
    ctx.note("granted", format!("{:?}", counts("granted")?), "");
    ctx.note("followed", format!("{:?}", counts("followed")?), "");
    ctx.note("alone", format!("{:?}", counts("alone")?), "");
    all.into_iter().try_for_each(Peernixd::stop)
}

/// How long as many Nix take that have the whole of it from a cache as fast as it can be sent: what the processors of this machine allow.
fn straight(ctx: &Ctx, network: &Network<'_>, machines: usize, wanted: &Wanted) -> Result<Duration> {
    network.fast_internet()?;
    let hosts: Vec<_> = (0..machines).map(|number| network.host(&format!("s{number}"))).collect::<Result<_>>()?;
    for host in &hosts {
        in_memory(host)?;
        host.nix_conf(&[&wanted.internet.url], &ctx.world.public_key())?;
    }
    let runs = realise_all(ctx, &hosts, &wanted.paths, || Ok(()))?;
    let times = runs.into_iter().map(|run| Ok(run.must("straight")?.time)).collect::<Result<Vec<_>>>()?;
    times.into_iter().max().context("no run")
}

/// Fifty services, whose readers ask as Nix does: a Nix on each would take more than the machine that the lab runs on has.
fn fifty(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let infos = some_packages(ctx, &maker, 8 << 20)?;
    let wanted = offer(&network, &maker, &infos.iter().collect::<Vec<_>>(), "zstd")?;
    ctx.note("paths", infos.len(), "");
    network.slow_internet(20)?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]).set("log.level", "info");
    let hosts: Vec<_> = (0..FIFTY).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    // A machine without any store offers no index, and would be asked for everything.
    let pieces = ctx.world.pieces()?;
    let something = pieces.named("sliver-0")?;
    hosts.iter().try_for_each(|host| pieces.install_some(host, &[something], Signed::Yes))?;
    let all = start_all(ctx, &hosts, &settings)?;
    let before = network.internet_sent()?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let read = |number: usize, host: &Arc<Host>| -> Result<()> {
            // A timer starts them on all machines, within twenty seconds: less, and two processors are what is measured.
            wait::pass(Duration::from_millis(400) * u32::try_from(number)?);
            for info in &infos {
                let target = nar_target(ctx, host, &info.path.hash().to_string())?;
                let (head, body) = Client::gateway(ctx, host)?.time(&target)?;
                ensure!(head.status == 200 && body.hash == info.nar_hash, "{}: {}", info.path, head.status);
            }
            Ok(())
        };
        let readers: Vec<_> =
            hosts.iter().enumerate().map(|(number, host)| scope.spawn(move || read(number, host))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?)
    })?;
    let sent = network.internet_sent()? - before;
    ctx.measure("time of all of them", start.elapsed().as_secs_f64(), "s", None);
    let nars = all.iter().map(downloaded).sum::<Result<u64>>()? as f64 / wanted.files as f64;
    for result in ["granted", "followed", "taken_over", "alone"] {
        let name = format!("peernix_claims_total{{result=\"{result}\"}}");
        let sum = all.iter().map(|on| Ok(counted(on, &name).unwrap_or(0))).sum::<Result<u64>>()?;
        ctx.note(&format!("claims: {result}"), sum, "");
    }
    ctx.measure("NARs that all downloaded, as a multiple of the files", nars, "", COPIES_OF_FIFTY);
    ctx.measure(
        "what the Internet sent, as a multiple of the files",
        sent as f64 / wanted.files as f64,
        "",
        COPIES_OF_FIFTY,
    );
    all.into_iter().try_for_each(Peernixd::stop)
}

/// The machine that has downloaded most is killed when half of it is there: it downloads some NARs, and is the directory of others.
fn one_dies(ctx: &Ctx, scale: Scale) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let infos = some_packages(ctx, &maker, scale.bytes)?;
    let wanted = offer(&network, &maker, &infos.iter().collect::<Vec<_>>(), "zstd")?;
    network.slow_internet(scale.mbit)?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]).set("log.level", "info");
    let hosts: Vec<_> = (0..scale.machines).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let mut all = start_all(ctx, &hosts, &settings)?;
    let (mut killed, mut lost) = (0, 0);
    let runs = realise_all(ctx, &hosts, &wanted.paths, || {
        wait::until_true("half of it to be there", NIX_LIMIT, || {
            Ok(all.iter().map(downloaded).sum::<Result<u64>>()? >= wanted.files / 2)
        })?;
        let each = all.iter().map(downloaded).collect::<Result<Vec<u64>>>()?;
        let most = each.iter().enumerate().max_by_key(|(_, bytes)| **bytes).context("no machine")?;
        (killed, lost) = (most.0, *most.1);
        all[killed].kill9()
    })?;
    for (number, (run, host)) in runs.into_iter().zip(&hosts).enumerate() {
        if number != killed {
            run.must(&host.name)?;
            real_nix::verify_store(host, Generation::Machine)?;
        }
    }
    all.remove(killed);
    let nars = all.iter().map(downloaded).sum::<Result<u64>>()? + lost;
    let copies = nars as f64 / wanted.files as f64;
    ctx.measure("NARs that all downloaded, as a multiple of the files", copies, "", COPIES_AFTER_A_DEATH);
    all.into_iter().try_for_each(Peernixd::stop)
}

/// Puts one NAR of 24 MiB into a cache on the Internet, as it is, so that whoever goes on need not begin at the beginning.
fn one_large<'a>(ctx: &'a Ctx, network: &Network<'_>, maker: &Host) -> Result<(&'a PathInfo, Wanted)> {
    let set = ctx.world.pieces()?;
    let info = set.named("piece-24m")?;
    set.install_some(maker, &[info], Signed::Yes)?;
    Ok((info, offer(network, maker, &[info], "none")?))
}

/// One NAR of 24 MiB, three machines that want it, and one of them dies when half of it is there.
fn large(ctx: &Ctx, who: Who) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let (info, wanted) = one_large(ctx, &network, &maker)?;
    network.slow_internet(40)?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]);
    let hosts: Vec<_> = (0..4).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let mut all = start_all(ctx, &hosts, &settings)?;
    let ids = all.iter().map(|on| Ok(on.node_id()?.parse()?)).collect::<Result<Vec<NodeId>>>()?;
    let first = order(&info.nar_hash, ids.clone())[0];
    let directory = ids.iter().position(|id| *id == first).context("no directory")?;
    // Neither the directory nor, so that this shows something, those that want it are the same machine.
    let wanting: Vec<usize> = (0..4).filter(|number| *number != directory).collect();
    let some: Vec<_> = wanting.iter().map(|number| Arc::clone(&hosts[*number])).collect();
    let (mut dead, mut lost, mut struck) = (None, 0, Instant::now());
    let runs = realise_all(ctx, &some, &wanted.paths, || {
        wait::until_true("half of it to be there", NIX_LIMIT, || {
            Ok(all.iter().map(downloaded).sum::<Result<u64>>()? >= wanted.files / 2)
        })?;
        struck = Instant::now();
        dead = match who {
            Who::Nobody => None,
            Who::Directory => Some(directory),
            Who::Downloader => {
                let each = all.iter().map(downloaded).collect::<Result<Vec<u64>>>()?;
                ensure!(each.iter().filter(|bytes| **bytes > 0).count() == 1, "several download it: {each:?}");
                lost = *each.iter().max().context("no machine")?;
                each.iter().position(|bytes| *bytes == lost)
            }
        };
        dead.map_or(Ok(()), |dead| all[dead].kill9())
    })?;
    ctx.measure("from the middle to the end", struck.elapsed().as_secs_f64(), "s", 15.0);
    for (number, run) in wanting.iter().zip(runs) {
        if Some(*number) != dead {
            run.must(&hosts[*number].name)?;
            real_nix::verify_store(&hosts[*number], Generation::Machine)?;
        }
    }
    if let Some(dead) = dead {
        all.remove(dead);
    }
    let nars = all.iter().map(downloaded).sum::<Result<u64>>()? + lost;
    let limit = if who == Who::Nobody { COPIES } else { COPIES_AFTER_A_DEATH };
    ctx.measure("what all downloaded, as a multiple of the file", nars as f64 / wanted.files as f64, "", limit);
    all.into_iter().try_for_each(Peernixd::stop)
}

/// The network falls into two halves before anything is wanted: two copies, and no error.
fn two_halves(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let infos = some_packages(ctx, &maker, 6 << 20)?;
    let wanted = offer(&network, &maker, &infos.iter().collect::<Vec<_>>(), "zstd")?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]).set("log.level", "info");
    let hosts: Vec<_> = (0..4).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let all = start_all(ctx, &hosts, &settings)?;
    network.part(&hosts[..2], &hosts[2..])?;
    let runs = realise_all(ctx, &hosts, &wanted.paths, || Ok(()))?;
    for (run, host) in runs.into_iter().zip(&hosts) {
        run.must(&host.name)?;
    }
    let nars = all.iter().map(downloaded).sum::<Result<u64>>()?;
    // Lookups of the first moment are asked of those who do not answer any more; then each downloads for itself.
    ctx.measure("NARs that all downloaded, as a multiple of the files", nars as f64 / wanted.files as f64, "", 4.0);
    all.into_iter().try_for_each(Peernixd::stop)
}

/// One machine has it, seven want it, and nobody else does: it gives it to one or two of them, and these to the others.
fn one_has_it(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    a.slow(20)?;
    let settings = Settings::new(ctx);
    let hosts: Vec<_> = (0..7).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let on_a = Peernixd::start(ctx, &a, &settings)?;
    let all = hosts.iter().map(|host| Peernixd::start(ctx, host, &settings)).collect::<Result<Vec<_>>>()?;
    on_a.wait_online(hosts.len(), Duration::from_secs(30))?;
    for one in &all {
        one.wait_online(hosts.len(), Duration::from_secs(30))?;
    }
    // One for the first and one for the one that the others stream it from, at times a third, and what else is said; without all this it is 7.3.
    let before = a.sent()?;
    let runs = realise_all(ctx, &hosts, &[format!("/nix/store/{}", info.path)], || Ok(()))?;
    let sent = (a.sent()? - before) as f64 / info.nar_size as f64;
    let mut last = 0.0_f64;
    for (run, host) in runs.into_iter().zip(&hosts) {
        last = last.max(run.time.as_secs_f64());
        run.must(&host.name)?;
        real_nix::verify_store(host, Generation::Machine)?;
    }
    ctx.measure("what it sent, as a multiple of the NAR", sent, "", 3.5);
    // By the time that its line takes for one.
    let one = info.nar_size as f64 * 8.0 / 20e6;
    ctx.measure("the last of seven, as a multiple of one alone on that line", last / one, "", 4.5);
    all.into_iter().chain([on_a]).try_for_each(Peernixd::stop)
}

/// What a machine may not share it does not pass on either, and still takes part.
fn not_shared(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let (_, wanted) = one_large(ctx, &network, &maker)?;
    network.slow_internet(80)?;
    let settings = Settings::new(ctx).upstreams(&[&wanted.internet.url]);
    let hosts: Vec<_> = (0..3).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    let secretive = settings.clone().set("share.deny", vec!["piece-*".to_owned()]);
    let all: Vec<Peernixd<'_>> = hosts
        .iter()
        .enumerate()
        .map(|(number, host)| Peernixd::start(ctx, host, if number == 0 { &secretive } else { &settings }))
        .collect::<Result<_>>()?;
    for on in &all {
        on.wait_online(2, Duration::from_secs(30))?;
    }
    let runs = realise_all(ctx, &hosts, &wanted.paths, || Ok(()))?;
    for (run, host) in runs.into_iter().zip(&hosts) {
        run.must(&host.name)?;
    }
    let sent = counted(&all[0], "peernix_http_sent_bytes_total{face=\"share\"}")?;
    ctx.measure("what it sent to others", sent as f64 / 1e6, "MB", 1.0);
    let each = all.iter().map(downloaded).collect::<Result<Vec<u64>>>()?;
    let nars = each.iter().sum::<u64>() as f64 / wanted.files as f64;
    ctx.note("downloaded", format!("{each:?}"), "bytes");
    ctx.measure("what all downloaded, as a multiple of the file", nars, "", 2.05);
    all.into_iter().try_for_each(Peernixd::stop)
}

//! Two sites that NATS joins, 20 Mbit/s and 40 ms apart: what one has comes to the other, and each works on whatever becomes of NATS, of the
//! machine that speaks for a site, or of the line.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peernix::control::{Control, OtherSite, OwnSite};
use peernix::nix::PathInfo;

use super::Case;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, gateway_get, percentile};
use crate::internet::{Internet, flat_cache};
use crate::nats::{Guests, Lines, Nats, Operator, User, cut_off};
use crate::needs::Need;
use crate::network::Network;
use crate::peer::{Peernixd, Settings, Start};
use crate::real_nix::{Generation, realise, verify_store};
use crate::store::Signed;
use crate::wait;

/// From one site to the other and back.
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// What the line between them carries, in megabits per second.
const RATE: u32 = 20;
/// Until sites know what the other one has.
const ACQUAINTED: Duration = Duration::from_secs(20);
/// How long nobody may speak for a site, in seconds.
const TAKEOVER: f64 = 5.0;
/// Messages for each path of a walk.
const MESSAGES: f64 = 0.01;
/// How long NATS is away.
const AWAY: Duration = Duration::from_secs(60);
/// How much crosses of a new version at most, as a part of all of it, compressed.
const PATCHED: f64 = 1.0 / 3.0;
/// What a server says to those whom it does not let in, or not do what they try.
const REFUSED: [&str; 2] = ["authorization violation", "permissions violation"];
/// How many paths the small cases have.
const SOME: usize = 20;

pub(super) fn cases() -> Vec<Case> {
    let cases = vec![
        Case::new("sites/two", two).quiet(),
        Case::new("sites/walk", walk).quiet(),
        Case::new("sites/troubles", troubles).early(),
        Case::new("sites/relayed", relayed),
        Case::new("sites/patched", patched).quiet(),
        Case::new("sites/nkeys", |ctx| admitted(ctx, &Guests::Nkeys(users()?))),
        Case::new("sites/credentials-files", |ctx| admitted(ctx, &Guests::Files(users()?, Box::new(Operator::new())))),
    ];
    cases
        .into_iter()
        .map(|case| case.needing(Need::Nix(Generation::Trixie)).needing(Need::Nats).needing(Need::Nft))
        .collect()
}

/// Two sites with two machines each.
struct World<'a> {
    network: &'a Network<'a>,
    hosts: [Arc<Host>; 4],
    _lines: Lines<'a>,
    settings: [Settings; 4],
}

impl<'a> World<'a> {
    fn new(ctx: &'a Ctx, network: &'a Network<'a>) -> Result<(Self, Nats)> {
        Self::with(ctx, network, &Guests::Anyone)
    }

    fn with(ctx: &'a Ctx, network: &'a Network<'a>, guests: &Guests) -> Result<(Self, Nats)> {
        let hosts = [network.host("a")?, network.host("b")?, network.host("c")?, network.host("d")?];
        for host in &hosts {
            host.sh("nix-store --init")?;
        }
        network.part(&hosts[..2], &hosts[2..])?;
        network.slow_internet(RATE)?;
        let nats = Nats::start(ctx, network, guests)?;
        let scheme = if guests.over_tls() { "tls" } else { "nats" };
        let lines = Lines::new(network, ROUND_TRIP)?;
        let server = lines.to(4200, &nats.address())?;
        let settings = |index: usize| {
            let neighbour = &hosts[index ^ 1];
            let line = lines.to(7700 + u16::try_from(index)?, &format!("{}:7650", hosts[index].address()))?;
            anyhow::Ok(
                Settings::new(ctx)
                    .fixed_peers(&[format!("{}:7650", neighbour.address())])
                    .set("nats.servers", vec![format!("{scheme}://{server}")])
                    .set("nats.site", if index < 2 { "berlin" } else { "paris" })
                    .set("nats.addresses", line),
            )
        };
        let settings = [settings(0)?, settings(1)?, settings(2)?, settings(3)?];
        Ok((Self { network, hosts, _lines: lines, settings }, nats))
    }

    fn start(&'a self, ctx: &'a Ctx, index: usize) -> Result<Machine<'a>> {
        self.start_as(ctx, index, Start::default())
    }

    fn start_as(&'a self, ctx: &'a Ctx, index: usize, start: Start) -> Result<Machine<'a>> {
        let on = Peernixd::start_as(ctx, &self.hosts[index], &self.settings[index], start)?;
        let administrator = Administrator::of(&on)?;
        Ok(Machine { on, administrator })
    }
}

/// A machine with its administrator.
struct Machine<'a> {
    on: Peernixd<'a>,
    administrator: Administrator,
}

impl Machine<'_> {
    fn site(&self) -> Result<OwnSite> {
        self.administrator.does(Control::status)?.site.context("it is of no site")
    }

    fn other(&self, name: &str) -> Result<Option<OtherSite>> {
        Ok(self.site()?.others.into_iter().find(|site| site.name == name))
    }

    /// Waits until a site is known to be there with so many paths.
    fn wait_for(&self, name: &str, paths: u64, limit: Duration) -> Result<Duration> {
        let what = format!("{} to know {paths} paths of {name}", self.on.host.name);
        wait::until_true(&what, limit, || {
            Ok(self.other(name)?.is_some_and(|site| site.state == "online" && site.paths >= paths))
        })
        .with_context(|| format!("{:#?}", self.site()))
    }

    fn counted(&self, name: &str) -> Result<f64> {
        let text = self.on.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.with_context(|| format!("no metric {name}"))
    }
}

fn full(info: &PathInfo) -> String {
    format!("/nix/store/{}", info.path)
}

fn narinfo(info: &PathInfo) -> String {
    format!("/{}.narinfo", info.path.hash())
}

/// The slowest of a hundred lookups but one, of what is known to be near.
fn local_hits(ctx: &Ctx, host: &Host, infos: &[&PathInfo]) -> Result<Duration> {
    let mut client = Client::gateway(ctx, host)?;
    let mut times = Vec::new();
    for info in infos {
        let (head, _) = client.get(&narinfo(info))?;
        ensure!(head.status == 200, "a hit is {}", head.status);
        times.push(head.time);
    }
    Ok(percentile(&mut times, 0.99))
}

fn two(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (world, _nats) = World::new(ctx, &network)?;
    let [a, b, c, d] = &world.hosts;
    let many = ctx.world.many()?;
    let infos: Vec<&PathInfo> = many.paths.iter().take(600).collect();
    // Each refers to some before it. B has what A finds near, C what is far; D has the rest.
    many.install_some(b, &infos[..200], Signed::Yes)?;
    many.install_some(c, &infos[..400], Signed::Yes)?;
    many.install_some(d, &infos[..500], Signed::Yes)?;
    let on_b = world.start(ctx, 1)?;
    let on_a = world.start(ctx, 0)?;
    on_a.on.wait_online(1, Duration::from_secs(10))?;
    let alone = local_hits(ctx, a, &infos[..100])?;
    let (on_c, on_d) = (world.start(ctx, 2)?, world.start(ctx, 3)?);
    let known = on_a.wait_for("paris", 500, ACQUAINTED)?;
    ctx.measure("until what the other site has is known", known.as_secs_f64(), "s", None);
    on_c.wait_for("berlin", 200, ACQUAINTED)?;
    let speaking = |one: &Machine<'_>, other: &Machine<'_>| {
        anyhow::Ok(u32::from(one.site()?.gateway) + u32::from(other.site()?.gateway))
    };
    let gateways = (speaking(&on_a, &on_b)?, speaking(&on_c, &on_d)?);
    ctx.check("one machine speaks for each site", gateways == (1, 1), &format!("{gateways:?}"));

    let joined = local_hits(ctx, a, &infos[100..200])?;
    ctx.measure("99 of 100 hits in the own site, without another", alone.as_secs_f64() * 1e3, "ms", None);
    ctx.measure(
        "99 of 100 hits in the own site, with another",
        joined.as_secs_f64() * 1e3,
        "ms",
        alone.as_secs_f64() * 1e3 + 5.0,
    );

    let (head, _) = gateway_get(ctx, a, &narinfo(infos[300]))?;
    ctx.check("what another site has is found", head.status == 200, &head.status.to_string());
    ctx.measure("the first lookup in another site", head.time.as_secs_f64() * 1e3, "ms", 800.0);
    let (head, _) = gateway_get(ctx, a, &narinfo(infos[302]))?;
    ctx.check("so is the next one", head.status == 200, &head.status.to_string());
    ctx.measure("a lookup in another site whose machine was reached", head.time.as_secs_f64() * 1e3, "ms", 300.0);
    let (head, _) = gateway_get(ctx, a, &narinfo(infos[599]))?;
    ctx.check("what nobody has is missed", head.status == 404, &head.status.to_string());
    ctx.measure("a miss", head.time.as_secs_f64() * 1e3, "ms", 30.0);

    for generation in Generation::ALL {
        let info = infos[410 + 10 * generation as usize];
        realise(ctx, a, generation, &format!("far {}", generation.version()), &full(info))?
            .must("a path of the other site")?;
    }
    verify_store(a, Generation::Machine)?;
    let far = on_a.on.peers()?.iter().filter(|peer| peer["source"] == "site").count();
    ctx.check(
        "machines of another site are no peers of the room",
        far > 0 && on_a.on.peers()?.iter().filter(|peer| peer["state"] == "online").count() == 1,
        &format!("{far} far, {:?}", on_a.on.peers()?),
    );

    // A path that appears there.
    let begun = Instant::now();
    many.install_some(d, &infos[..520], Signed::Yes)?;
    wait::until_true("a new path of the other site", ACQUAINTED, || {
        Ok(gateway_get(ctx, b, &narinfo(infos[515]))?.0.status == 200)
    })?;
    ctx.measure("until a new path of another site is known", begun.elapsed().as_secs_f64(), "s", 10.0);
    for machine in [on_a, on_b, on_c, on_d] {
        machine.on.stop()?;
    }
    Ok(())
}

/// All paths of a closure, one after the other as their references are found.
fn walk(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (world, _nats) = World::new(ctx, &network)?;
    let many = ctx.world.many()?;
    many.install(&world.hosts[2])?;
    let (on_c, on_a) = (world.start(ctx, 2)?, world.start(ctx, 0)?);
    on_a.wait_for("paris", many.paths.len() as u64, ACQUAINTED)?;
    let mut client = Client::gateway(ctx, &world.hosts[0])?;
    let begun = Instant::now();
    let mut missed = 0;
    for info in many.paths.iter().rev() {
        let (head, _) = client.get(&narinfo(info))?;
        missed += u32::from(head.status != 200);
    }
    let paths = many.paths.len() as f64;
    ctx.note("paths", many.paths.len(), "");
    ctx.check("all of them are found", missed == 0, &format!("{missed} are not"));
    ctx.measure("time", begun.elapsed().as_secs_f64(), "s", None);
    let messages = on_a.counted("peernix_sites_messages_total")?;
    ctx.note("messages", messages, "");
    ctx.measure("messages for each path", messages / paths, "", MESSAGES);
    for machine in [on_a, on_c] {
        machine.on.stop()?;
    }
    Ok(())
}

/// The direct way is closed: small NARs come over NATS where both sides allow that, and nothing else does.
fn relayed(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (mut world, _nats) = World::new(ctx, &network)?;
    // The addresses that they have themselves lead nowhere from the other site.
    world.settings =
        world.settings.map(|settings| settings.set("nats.addresses", Vec::<String>::new()).set("nats.relay", "8MiB"));
    world.settings[1] = world.settings[1].clone().set("nats.relay", 0);
    let (world, pieces) = (&world, ctx.world.pieces()?);
    let [a, b, c, d] = &world.hosts;
    let (small, large) = (pieces.named("piece-2m")?, pieces.named("piece-24m")?);
    let slivers = [pieces.named("sliver-0")?, pieces.named("sliver-1")?, pieces.named("sliver-2")?];
    // One of both speaks for the site, and sends what the other one has as well.
    pieces.install_some(c, &[small, large, slivers[1], slivers[2]], Signed::Yes)?;
    pieces.install_some(d, &[slivers[0]], Signed::Yes)?;
    let (on_c, on_d, on_a) = (world.start(ctx, 2)?, world.start(ctx, 3)?, world.start(ctx, 0)?);
    on_c.on.wait_online(1, Duration::from_secs(10))?;
    on_a.wait_for("paris", 5, ACQUAINTED)?;
    for (what, info) in [("a NAR of 2 MiB", small), ("of the other machine", slivers[0])] {
        realise(ctx, a, Generation::Machine, what, &full(info))?.must(what)?;
    }
    verify_store(a, Generation::Machine)?;
    let sent = [&on_c, &on_d].map(|on| on.counted("peernix_sites_relayed_bytes_total"));
    let sent: f64 = sent.into_iter().sum::<Result<f64>>()?;
    let nars = (small.nar_size + slivers[0].nar_size) as f64;
    ctx.check("they came over NATS", sent >= nars, &format!("{sent} of {nars} bytes"));
    ctx.measure("what went over NATS, as a multiple of the NARs", sent / nars, "", 1.1);
    let (head, _) = gateway_get(ctx, a, &narinfo(slivers[1]))?;
    ctx.check("so does the next one", head.status == 200, &head.status.to_string());
    ctx.measure("a lookup where the direct way is known to be closed", head.time.as_secs_f64() * 1e3, "ms", 500.0);
    let (head, _) = gateway_get(ctx, a, &narinfo(large))?;
    ctx.check("what is too large for that is not promised", head.status == 404, &head.status.to_string());
    let on_b = world.start(ctx, 1)?;
    on_b.wait_for("paris", 5, ACQUAINTED)?;
    let (head, _) = gateway_get(ctx, b, &narinfo(slivers[2]))?;
    ctx.check("nothing goes over NATS where that is off", head.status == 404, &head.status.to_string());
    for machine in [on_a, on_b, on_c, on_d] {
        machine.on.stop()?;
    }
    Ok(())
}

/// A new version crosses as what it differs in from the old one.
fn patched(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (world, _nats) = World::new(ctx, &network)?;
    let set = ctx.world.versions()?;
    set.install(&world.hosts[2])?;
    set.install_some(&world.hosts[0], &[set.named("program-1.0")?], Signed::Yes)?;
    let on_c = world.start(ctx, 2)?;
    let without = upgrade(ctx, &world, false)?;
    let with = upgrade(ctx, &world, true)?;
    ctx.measure("what crossed for the whole, compressed", without / 1e6, "MB", None);
    ctx.measure("what crossed for the differences", with / 1e6, "MB", None);
    ctx.measure("bytes, as a part of those without patches", with / without, "", PATCHED);
    on_c.on.stop()
}

/// The bytes that cross for a new version of what both sites have, which is gone again afterwards.
fn upgrade(ctx: &Ctx, world: &World<'_>, patches: bool) -> Result<f64> {
    let (a, set) = (&world.hosts[0], ctx.world.versions()?);
    let settings = world.settings[0].clone().set("swarm.patches", patches);
    let on = Peernixd::start(ctx, a, &settings)?;
    let machine = Machine { administrator: Administrator::of(&on)?, on };
    machine.wait_for("paris", set.paths.len() as u64, ACQUAINTED)?;
    let get = |package: &str| -> Result<f64> {
        let before = world.network.internet_sent()?;
        let label = format!("{package}, {}", if patches { "patched" } else { "whole" });
        realise(ctx, a, Generation::Machine, &label, &full(set.named(package)?))?.must(&label)?;
        Ok((world.network.internet_sent()? - before) as f64)
    };
    // By which the line is measured.
    get("other-1.0")?;
    let sent = get("program-1.1")?;
    let came = machine.counted("peernix_patches_total{result=\"fetched\"}")?;
    let what = if patches { "one patch came" } else { "no patch came" };
    ctx.check(what, came == f64::from(u8::from(patches)), &came.to_string());
    verify_store(a, Generation::Machine)?;
    machine.on.stop()?;
    let paths = [set.named("other-1.0")?, set.named("program-1.1")?].map(full).join(" ");
    a.sh(&format!("nix-store --delete {paths}\nrm -rf /run/host/home/.cache /run/host/cache"))?;
    Ok(sent)
}

/// A user for the machines of each site.
fn users() -> Result<Vec<User>> {
    ["berlin", "paris"].into_iter().map(User::of).collect()
}

/// A server that lets in whom it knows, over TLS, and has them do what docs/sites.md says that they need; whoever shows nothing, or the
/// credential of another site, hears why and works on alone.
fn admitted(ctx: &Ctx, guests: &Guests) -> Result<()> {
    let network = ctx.network()?;
    let (mut world, nats) = World::with(ctx, &network, guests)?;
    let certificates = nats.certificates();
    for (number, host) in world.hosts.iter().enumerate() {
        std::fs::copy(&certificates, host.dir.join("etc/certificates.pem"))?;
        let dir = host.dir.join("credentials");
        std::fs::create_dir(&dir)?;
        // B shows that of the other site.
        let site = if number == 1 { 1 } else { number / 2 };
        std::fs::write(dir.join("nats"), guests.credential(site)?)?;
        if number != 3 {
            world.settings[number] = world.settings[number].clone().set("nats.credential", "nats");
        }
    }
    let world = &world;
    let [a, b, c, d] = &world.hosts;
    let many = ctx.world.many()?;
    let infos: Vec<&PathInfo> = many.paths.iter().take(SOME).collect();
    many.install_some(c, &infos, Signed::Yes)?;
    let start = || Start { own_certificates: true, credentials: true, ..Start::default() };
    let (on_c, on_a) = (world.start_as(ctx, 2, start())?, world.start_as(ctx, 0, start())?);
    let known = on_a.wait_for("paris", SOME as u64, ACQUAINTED)?;
    ctx.measure("until what the other site has is known", known.as_secs_f64(), "s", None);
    realise(ctx, a, Generation::Machine, "from the other site", &full(infos[5]))?.must("from the other site")?;

    let (on_b, on_d) = (world.start_as(ctx, 1, start())?, world.start_as(ctx, 3, start())?);
    for (who, machine) in [("of another site", &on_b), ("that shows nothing", &on_d)] {
        let what = format!("a reason at a machine {who}");
        let refused = || {
            Ok(machine
                .site()?
                .problem
                .is_some_and(|problem| REFUSED.iter().any(|text| problem.to_lowercase().contains(text))))
        };
        wait::until_true(&what, ACQUAINTED, refused).with_context(|| format!("{:#?}", machine.site()))?;
        ctx.note(&what, machine.site()?.problem.unwrap_or_default(), "");
        ctx.check(&format!("a machine {who} does not speak"), !machine.site()?.gateway, "");
    }
    for (host, site, near) in [(b, "berlin", 5), (d, "paris", 6)] {
        let what = format!("near, in {site}");
        realise(ctx, host, Generation::Machine, &what, &full(infos[near]))?.must(&what)?;
    }
    for host in [a, b, c, d] {
        let logs = std::fs::read_to_string(ctx.logs.join(format!("{}.peernixd.log", host.name)))?;
        let secret = guests.credential(0)?;
        let is_told = secret
            .lines()
            .chain(guests.credential(1)?.lines())
            .any(|line| line.starts_with("SU") && logs.contains(line));
        ctx.check(&format!("{} logs no secret", host.name), !is_told, "");
    }
    for machine in [on_a, on_b, on_c, on_d] {
        machine.on.stop()?;
    }
    Ok(())
}

/// NATS goes and comes back, with and without what it had; the machine that speaks dies; the line is cut. Each site works on.
fn troubles(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (mut world, mut nats) = World::new(ctx, &network)?;
    let many = ctx.world.many()?;
    let infos: Vec<&PathInfo> = many.paths.iter().take(10 * SOME).collect();
    let part = |number: usize| infos[number * SOME];
    many.install_some(&world.hosts[1], &infos[..3 * SOME], Signed::Yes)?;
    many.install_some(&world.hosts[2], &infos, Signed::Yes)?;
    many.install_some(&world.hosts[3], &infos, Signed::Yes)?;
    let paths: Vec<String> = infos.iter().map(|info| full(info)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&world.hosts[2], "cache", "none", &paths)?)?;
    world.settings = world.settings.map(|settings| settings.upstreams(&[&internet.url]));
    let world = &world;
    let on_a = world.start(ctx, 0)?;
    let on_b = world.start(ctx, 1)?;
    let mut on_c = world.start(ctx, 2)?;
    let mut on_d = world.start(ctx, 3)?;
    let all = infos.len() as u64;
    on_a.wait_for("paris", all, ACQUAINTED)?;
    let a = &world.hosts[0];
    let works = |what: &str, near: usize, far: usize| {
        realise(ctx, a, Generation::Machine, &format!("near, {what}"), &full(part(near)))?.must(what)?;
        realise(ctx, a, Generation::Machine, &format!("far, {what}"), &full(part(far)))?.must(what)?;
        anyhow::Ok(())
    };

    nats.kill(false)?;
    let stopped = Instant::now();
    let (head, _) = gateway_get(ctx, a, &narinfo(infos[3 * SOME + 5]))?;
    ctx.check("without NATS the upstream is asked at once", head.status == 200, &head.status.to_string());
    ctx.measure("a lookup without NATS", head.time.as_secs_f64() * 1e3, "ms", 300.0);
    works("without NATS", 0, 3)?;
    wait::pass(AWAY.saturating_sub(stopped.elapsed()));
    works("after a minute without NATS", 1, 6)?;
    nats.again()?;
    let back = wait::until_true("the site to be asked again", ACQUAINTED, || {
        Ok(on_a.other("paris")?.is_some_and(|site| site.state == "online"))
    })?;
    ctx.measure("until sites know each other after NATS came back", back.as_secs_f64(), "s", 20.0);

    nats.kill(true)?;
    nats.again()?;
    on_a.wait_for("paris", all, ACQUAINTED).context("after NATS lost what it had")?;
    wait::until_true("a gateway of paris", ACQUAINTED, || Ok(on_c.site()?.gateway || on_d.site()?.gateway))?;
    works("with what NATS has anew", 1, 4)?;

    // The machine that speaks dies, and comes back.
    let c_speaks = on_c.site()?.gateway;
    let (dead, other) = if c_speaks { (&mut on_c, &on_d) } else { (&mut on_d, &on_c) };
    // It may have missed the server in the moment that it was there, and try again later.
    wait::until_true("the other machine to be connected", ACQUAINTED, || {
        Ok(other.other("berlin")?.is_some_and(|site| site.state == "online"))
    })?;
    dead.on.kill9()?;
    let begun = Instant::now();
    wait::until_true("another machine to speak", ACQUAINTED, || Ok(other.site()?.gateway))?;
    ctx.measure("until another machine speaks for the site", begun.elapsed().as_secs_f64(), "s", TAKEOVER);
    works("with another gateway", 2, 5)?;

    // The site is cut off from everything but itself.
    let paris = [&*world.hosts[2], &*world.hosts[3]];
    cut_off(world.network, &paris, true)?;
    let (head, _) = gateway_get(ctx, a, &narinfo(infos[6 * SOME + 5]))?;
    ctx.check("a site that is cut off costs no lookup", head.status == 200, &head.status.to_string());
    ctx.measure("a lookup while the site is cut off", head.time.as_secs_f64() * 1e3, "ms", 1000.0);
    works("while the other site is cut off", 2, 7)?;
    cut_off(world.network, &paris, false)?;
    on_a.wait_for("paris", all, Duration::from_secs(40)).context("after the cut")?;
    verify_store(a, Generation::Machine)?;
    on_a.on.stop()?;
    on_b.on.stop()
}

//! Who has what is known: a miss sends nothing, and what is new is known in seconds. A hundred peers with twenty thousand paths each.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peernix::index::{Entry, Salt, Update};
use peernix::nix::StoreHash;
use peernix::peers::{IndexState, NodeId, holders, narinfo_batch};

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, percentile};
use crate::liar::SHARE_PORT;
use crate::peer::{Peernixd, Settings, Start};
use crate::swarm::Swarm;
use crate::wait;

/// Peers.
const PEERS: u16 = 100;
/// Paths of each, of which all have the first ones.
const PATHS: u64 = 20_000;
const COMMON: u64 = 16_000;
/// Misses in all.
const MISSES: u64 = 5_000;

/// How much slower programs may be that are not optimised: they are tried, not judged.
const SLACK: f64 = if cfg!(debug_assertions) { 20.0 } else { 1.0 };

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("index/100-peers", hundred).alone(),
        Case::new("index/fresh", fresh).quiet(),
        {
            // Its figures say nothing of a build that is not optimised.
            let idle = Case::new("index/idle", idle).quiet().early();
            if cfg!(debug_assertions) { idle.long_only() } else { idle }
        },
        Case::new("index/relays", relays).quiet().limit(240),
        Case::new("index/relaying", relaying).quiet(),
        Case::new("index/liars", liars),
        Case::new("index/mixed", mixed),
        Case::new("index/before", before).long_only(),
    ]
}

fn hash(number: u64) -> StoreHash {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..16].copy_from_slice(&number.to_be_bytes());
    StoreHash::new(hash)
}

/// What the peer with this number has.
fn paths_of(peer: u64) -> impl Iterator<Item = StoreHash> {
    let own = 1_000_000 * (peer + 1);
    (0..COMMON).chain(own..own + PATHS - COMMON).map(hash)
}

/// A path that nobody has.
fn nobodys(number: u64) -> StoreHash {
    hash((1 << 40) + number)
}

/// A number out of `/metrics`.
fn gauge(peernixd: &Peernixd<'_>, name: &str) -> Result<f64> {
    let metrics = peernixd.metrics()?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.with_context(|| format!("no {name}"))?.parse().context("a number")
}

fn look_up(client: &mut Client, hash: StoreHash) -> Result<(u16, Duration)> {
    let (head, _) = client.get(&format!("/{hash}.narinfo"))?;
    Ok((head.status, head.time))
}

/// Swarm and daemon, when the daemon knows what all have.
fn settled<'a>(ctx: &'a Ctx, host: &'a Host, swarm: &Swarm) -> Result<(Peernixd<'a>, Duration)> {
    let settings = Settings::new(ctx).set("log.level", "info").set("discovery.mdns", false).fixed_peers(&swarm.fixed());
    let peernixd = Peernixd::start(ctx, host, &settings)?;
    let peers = swarm.machines.len();
    wait_for_entries(&peernixd, peers as f64 * PATHS as f64)?;
    let took = peernixd.started().elapsed();
    Ok((peernixd, took))
}

fn wait_for_entries(peernixd: &Peernixd<'_>, entries: f64) -> Result<Duration> {
    wait::until_true("the indexes of all peers", Duration::from_secs(60), || {
        Ok(gauge(peernixd, "peernix_index_entries")? >= entries)
    })
}

fn swarm_of(host: &Host, other: &Host, peers: u16) -> Result<Swarm> {
    let swarm = Swarm::start(host, peers, &format!("{}:{SHARE_PORT}", other.address()), None)?;
    for peer in 0..peers {
        swarm.offer(usize::from(peer), paths_of(u64::from(peer)));
    }
    Ok(swarm)
}

fn hundred(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let swarm = swarm_of(&a, &b, PEERS)?;
    let (peernixd, took) = settled(ctx, &b, &swarm)?;
    ctx.measure("from start to the indexes of 100 peers", took.as_secs_f64(), "s", 2.0 * SLACK);
    let size = swarm.asked.index_bytes.load(Relaxed) as f64 / f64::from(PEERS);
    ctx.measure("an index of 20,000 paths", size / 1000.0, "kB", 100.0);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    ctx.measure("own memory with 100 peers", mib(peernixd.own_memory()?), "MiB", 40.0);

    // Everything that goes to peers.
    b.sh("nft add table inet count; nft add chain inet count out '{ type filter hook output priority 0; }'
        nft add counter inet count peers; nft add rule inet count out tcp dport 20000-20200 counter name peers")?;
    let packets = || -> Result<u64> {
        let said = b.sh("nft list counter inet count peers")?;
        let (_, rest) = said.split_once("packets ").context("a counter")?;
        Ok(rest.split_whitespace().next().context("a number")?.parse()?)
    };
    let mut client = Client::gateway(ctx, &b)?;
    for number in 0..50 {
        look_up(&mut client, nobodys(number))?;
    }
    let (sent, greetings) = (packets()?, swarm.asked.greetings.load(Relaxed));
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 1000..1000 + MISSES {
        let (status, time) = look_up(&mut client, nobodys(number))?;
        ensure!(status == 404, "a miss is {status}");
        times.push(time);
    }
    let took = begun.elapsed().as_secs_f64();
    let (sent, greetings) = (packets()? - sent, swarm.asked.greetings.load(Relaxed) - greetings);
    ctx.measure("5,000 misses", took, "s", 1.0 * SLACK);
    ctx.measure("a miss, p99", percentile(&mut times, 0.99).as_secs_f64() * 1e3, "ms", 1.0 * SLACK);
    ctx.measure("peers asked for any of them", swarm.asked.narinfos.load(Relaxed) as f64, "", 0.0);
    ctx.note("packets to peers meanwhile", sent, "");
    ctx.note("greetings meanwhile", greetings, "");
    // A greeting is one packet, and its answer is acknowledged by one more at most, and there is one that was on its way.
    let others = sent.saturating_sub(2 * (greetings + 1));
    ctx.measure("packets to peers that are no greeting", others as f64, "", 0.0);

    let greetings = || -> Result<(f64, f64)> {
        let heard = gauge(&peernixd, "peernix_http_requests_total{face=\"share\",route=\"hello\",status=\"2xx\"}")?
            + gauge(&peernixd, "peernix_http_requests_total{face=\"share\",route=\"hello\",status=\"3xx\"}")?;
        Ok((swarm.asked.greetings.load(Relaxed) as f64, heard))
    };
    let (before, begun, (said, heard)) = (b.sent()?, Instant::now(), greetings()?);
    wait::pass(Duration::from_secs(20));
    let rate = (b.sent()? - before) as f64 / begun.elapsed().as_secs_f64();
    let (said, heard) = (greetings()?.0 - said, greetings()?.1 - heard);
    ctx.check("packets are counted", packets()? > 0, "none, in 20 seconds");
    ctx.note("sent, as it is here", rate / 1000.0, "kB/s");
    ctx.note("greetings said and heard", format!("{said} {heard}"), "");
    // Whoever knows one machine greets it twice as often as whoever knows a hundred. In a room of a hundred each is greeted every 20
    // seconds, and greets as often.
    let in_a_room = rate * 20.0 / (said + heard) * 2.0 * f64::from(PEERS) / 20.0;
    ctx.measure("steady traffic in a room of 100, sent", in_a_room / 1000.0, "kB/s", 2.0);
    peernixd.stop()
}

fn fresh(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let swarm = swarm_of(&a, &b, PEERS)?;
    let (peernixd, _) = settled(ctx, &b, &swarm)?;
    let mut client = Client::gateway(ctx, &b)?;
    let new = nobodys(7);
    let (_, before) = (look_up(&mut client, new)?, swarm.was_asked_for(new));
    ctx.check("nobody is asked for what nobody has", !before, "somebody was");
    swarm.offer(42, paths_of(42).chain([new]));
    let took = wait::until_true("the new path", Duration::from_secs(20), || {
        look_up(&mut client, new)?;
        Ok(swarm.was_asked_for(new))
    })?;
    ctx.measure("from a new path until it is known", took.as_secs_f64(), "s", 3.0);
    let entries = gauge(&peernixd, "peernix_index_entries")?;
    swarm.offer(42, paths_of(42).skip(1000));
    let took = wait::until_true("the collected paths to be forgotten", Duration::from_secs(20), || {
        Ok(gauge(&peernixd, "peernix_index_entries")? < entries - 999.0)
    })?;
    ctx.measure("from a collection until it is known", took.as_secs_f64(), "s", 3.0);
    let own = hash(1_000_000 * 78);
    swarm.stop(77);
    let took = wait::until_true("the peer to be gone", Duration::from_secs(20), || {
        Ok(gauge(&peernixd, "peernix_peers_online")? < f64::from(PEERS))
    })?;
    ctx.measure("from a machine's end until it is known", took.as_secs_f64(), "s", 3.0);
    let (status, time) = look_up(&mut client, own)?;
    ctx.check("what only it had is not looked for", status == 404 && !swarm.was_asked_for(own), &format!("{status}"));
    ctx.measure("a lookup of that", time.as_secs_f64() * 1e3, "ms", 400.0);
    peernixd.stop()
}

/// A machine that has nothing to do lets its processor sleep.
fn idle(ctx: &Ctx) -> Result<()> {
    const QUIET: Duration = Duration::from_secs(12);
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    b.sh("nix-store --init")?;
    let swarm = swarm_of(&a, &b, 10)?;
    let (peernixd, _) = settled(ctx, &b, &swarm)?;
    // Until all are greeted at the same moments.
    wait::pass(Duration::from_secs(13));
    let (woken, used, begun) = (peernixd.wake_ups()?, peernixd.cpu_time()?, Instant::now());
    wait::pass(QUIET);
    let (woken, used, passed) = (peernixd.wake_ups()? - woken, peernixd.cpu_time()? - used, begun.elapsed());
    ctx.measure("wake-ups with 10 peers", woken as f64 / passed.as_secs_f64(), "a second", 2.0);
    // What a few wake-ups a second take says more of the machine than of a program that is not optimised.
    let limit = (!cfg!(debug_assertions)).then_some(0.1);
    ctx.measure("processor", 100.0 * used.as_secs_f64() / passed.as_secs_f64(), "% of a core", limit);
    peernixd.stop()
}

fn liars(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    // One more than may be.
    let entries = (0..=peernix::index::ENTRIES_MAX as u64).filter_map(Entry::new).collect();
    let state = IndexState { epoch: 1, seq: 1 };
    let forged = Update::Snapshot { state, salt: Salt::OPEN, entries }.to_bytes();
    let swarm = Swarm::start(&a, 3, &format!("{}:{SHARE_PORT}", b.address()), Some(&(2, forged)))?;
    for peer in 0..3 {
        swarm.offer(peer, paths_of(peer as u64));
    }
    let settings = Settings::new(ctx).set("log.level", "info").set("discovery.mdns", false).fixed_peers(&swarm.fixed());
    let peernixd = Peernixd::start(ctx, &b, &settings)?;
    wait_for_entries(&peernixd, 2.0 * PATHS as f64)?;
    wait::until_true("the forged index to be refused", Duration::from_secs(20), || {
        Ok(peernixd.log().contains("the index of a peer is not taken: 2000001 entries"))
    })?;
    ctx.check("two indexes are known", gauge(&peernixd, "peernix_index_peers")? == 2.0, "");
    // Nobody has what is claimed: one is asked, at most one more each time, until none is believed.
    let mut client = Client::gateway(ctx, &b)?;
    let mut times = Vec::new();
    for number in 0..200 {
        times.push(look_up(&mut client, hash(number))?.1);
    }
    ctx.measure(
        "a lookup of what is claimed and not there, p99",
        percentile(&mut times, 0.99).as_secs_f64() * 1e3,
        "ms",
        100.0,
    );
    // Two of them claim each path.
    ctx.measure("questions for a path beside the first", swarm.repeats() as f64, "", 200.0);
    // Others each time: what was not found is remembered, and accuses nobody again.
    let mut claimed = 200..COMMON;
    wait::until_true("the liars to be ignored", Duration::from_secs(20), || {
        for number in claimed.by_ref().take(50) {
            look_up(&mut client, hash(number))?;
        }
        // Once more each where the index that is read anew comes after the verdict.
        Ok(peernixd.log().matches("its index is ignored").count() >= 2)
    })?;
    ctx.check("they are not banned for that", gauge(&peernixd, "peernix_peers_online")? == 3.0, "");
    peernixd.stop()
}

/// Machines in all where some relay: more than know each other.
const MANY: u16 = 140;
/// How many of them relay if they are asked to, of whom four do.
const WILLING: u16 = 6;
/// Paths of each.
const FEW: u64 = 500;

/// What each of many machines has: half of it is what all have.
fn few_of(peer: u64) -> impl Iterator<Item = StoreHash> {
    let own = 1_000_000 * (peer + 1);
    (0..FEW / 2).chain(own..own + FEW / 2).map(hash)
}

/// How many paths `machines` of them have between them.
fn between_them(machines: u16) -> f64 {
    (FEW / 2 * (u64::from(machines) + 1)) as f64
}

/// They all come from one address, which may have some connections only.
fn settings_for_many(ctx: &Ctx) -> Settings {
    let settings = Settings::new(ctx).set("log.level", "info").set("discovery.mdns", false);
    settings.set("limits.per_address", 4 * i64::from(MANY))
}

/// A machine among so many that relays know them all.
fn relays(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let swarm = Swarm::with_relays(&a, MANY, WILLING, &format!("{}:{SHARE_PORT}", b.address()), None)?;
    for peer in 0..MANY {
        swarm.offer(usize::from(peer), few_of(u64::from(peer)));
    }
    let settings = settings_for_many(ctx).set("share.relay", false);
    let peernixd = Peernixd::start(ctx, &b, &settings.fixed_peers(&swarm.fixed()))?;
    let took = wait::until_true("what all have, from a relay", Duration::from_secs(60), || {
        Ok(gauge(&peernixd, "peernix_index_peers")? == 1.0
            && gauge(&peernixd, "peernix_index_entries")? >= between_them(MANY))
    })?;
    ctx.measure("from start until what all have is known", took.as_secs_f64(), "s", 30.0);
    ctx.measure("own memory with 140 peers", peernixd.own_memory()? as f64 / f64::from(1 << 20), "MiB", 40.0);
    let lasting = || -> Result<u64> {
        let sockets =
            b.sh("ss --no-header --tcp --numeric state established dport >= :20000 and dport <= :20200 | wc -l")?;
        Ok(sockets.trim().parse()?)
    };
    wait::until_true("the connections to the others to end", Duration::from_secs(60), || Ok(lasting()? <= 64))?;
    ctx.measure("connections that it keeps", lasting()? as f64, "", 64.0);

    let mut client = Client::gateway(ctx, &b)?;
    let (narinfos, holders) = (swarm.asked.narinfos.load(Relaxed), swarm.asked.holders.load(Relaxed));
    let mut times = Vec::new();
    for number in 0..1000 {
        let (status, time) = look_up(&mut client, nobodys(number))?;
        ensure!(status == 404, "a miss is {status}");
        times.push(time);
    }
    ctx.measure("a miss, p99", percentile(&mut times, 0.99).as_secs_f64() * 1e3, "ms", 1.0 * SLACK);
    let asked = swarm.asked.narinfos.load(Relaxed) - narinfos + swarm.asked.holders.load(Relaxed) - holders;
    ctx.measure("questions for them", asked as f64, "", 0.0);

    let one = few_of(100).last().context("a path")?;
    let (_, time) = look_up(&mut client, one)?;
    ctx.check("who has it is asked, and nobody else", swarm.was_asked_for(one) && swarm.repeats() == 0, "not so");
    let asked = swarm.asked.narinfos.load(Relaxed) - narinfos;
    ctx.measure("machines asked for a path that one has", asked as f64, "", 1.0);
    ctx.note("a lookup of that", time.as_secs_f64() * 1e3, "ms");

    let new = nobodys(5000);
    let (_, before) = (look_up(&mut client, new)?, swarm.was_asked_for(new));
    ctx.check("nobody is asked for what nobody has", !before, "somebody was");
    swarm.offer(130, few_of(130).chain([new]));
    let took = wait::until_true("the new path", Duration::from_secs(60), || {
        look_up(&mut client, new)?;
        Ok(swarm.was_asked_for(new))
    })?;
    ctx.measure("from a new path until it is known", took.as_secs_f64(), "s", 10.0);

    // None of them has what the relays say that they have: each lookup costs what it may, and the relays are believed no longer, one after the
    // other. Nobody is banned: those who were named said the truth, and those who named them may have been misled.
    let mut times = Vec::new();
    let mut claimed = (0..MANY).flat_map(|peer| few_of(u64::from(peer)).skip(250));
    let ignored = || peernixd.log().matches("its index is ignored").count();
    // When its union could not be read anew at once, that is done with its next greeting, a minute later.
    wait::until_true("a relay that is wrong to be ignored", Duration::from_secs(100), || {
        for hash in claimed.by_ref().take(50) {
            times.push(look_up(&mut client, hash)?.1);
        }
        Ok(ignored() > 0)
    })?;
    ctx.measure(
        "a lookup of what a relay says is there and is not, p99",
        percentile(&mut times, 0.99).as_secs_f64() * 1e3,
        "ms",
        400.0,
    );
    let banned = gauge(&peernixd, "peernix_peers_banned_total")?;
    ctx.check("nobody is banned for that", banned == 0.0, &banned.to_string());
    peernixd.stop()
}

/// A machine that relays for many others.
fn relaying(ctx: &Ctx) -> Result<()> {
    if !peernix::system::stationary::is_stationary() {
        ctx.note("this machine may relay", "no: it has a battery, or no wire", "");
        return Ok(());
    }
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let swarm = Swarm::start(&a, MANY, &format!("{}:{SHARE_PORT}", b.address()), None)?;
    for peer in 0..MANY {
        swarm.offer(usize::from(peer), few_of(u64::from(peer)));
    }
    let settings = settings_for_many(ctx);
    let peernixd = Peernixd::start(ctx, &b, &settings.fixed_peers(&swarm.fixed()))?;
    wait_for_entries(&peernixd, f64::from(MANY) * FEW as f64)?;
    let id: NodeId = peernixd.node_id()?.parse().context("a node id")?;
    let (told, _) = wait::until("what all have", Duration::from_secs(60), || {
        let answer = swarm.ask(7, id, "/peernix/v1/index?of=union", None).ok();
        let Some(Ok(Update::Snapshot { entries, .. })) = answer.map(|answer| Update::parse(&answer)) else {
            return Ok(None);
        };
        Ok((entries.len() as f64 >= between_them(MANY)).then_some(entries.len()))
    })?;
    ctx.check("it tells what all have, once", told as f64 == between_them(MANY), &told.to_string());
    let wanted = [few_of(100).last().context("a path")?, hash(0), nobodys(1)];
    let request = narinfo_batch::request(wanted.into_iter());
    let answer = swarm.ask(7, id, holders::TARGET, Some(request))?;
    let named = holders::parse_answer(answer, wanted.len())?;
    let ids: Vec<NodeId> = named[0].iter().map(|holder| holder.id).collect();
    ctx.check("it names the one that has a path", ids == [swarm.machines[100].id], &format!("{ids:?}"));
    ctx.check("it says where that one is", !named[0][0].addresses.is_empty(), "it does not");
    ctx.check("of many it names some", named[1].len() == holders::HOLDERS_MAX, &named[1].len().to_string());
    ctx.check("nobody has what nobody has", named[2].is_empty(), &format!("{:?}", named[2]));
    ctx.measure("own memory as a relay of 140", peernixd.own_memory()? as f64 / f64::from(1 << 20), "MiB", 40.0);
    peernixd.stop()
}

/// A machine whose program is the release before, in the folder that `PEERNIX_BEFORE` names, among new ones.
fn before(ctx: &Ctx) -> Result<()> {
    let Some(folder) = std::env::var_os("PEERNIX_BEFORE") else {
        ctx.note("the release before", "not tried: PEERNIX_BEFORE does not name the folder of its peernixd", "");
        return Ok(());
    };
    let network = ctx.network()?;
    let (a, b, c) = (network.host("a")?, network.host("b")?, network.host("c")?);
    let set = ctx.world.many()?;
    let (first, second) = (&set.paths[0], &set.paths[10]);
    set.install_some(&a, &set.closure_of([first]), crate::store::Signed::Yes)?;
    set.install_some(&b, &set.closure_of([second]), crate::store::Signed::Yes)?;
    let settings = || Settings::new(ctx).set("log.level", "info");
    let program = Some(std::path::Path::new(&folder).join("peernixd"));
    let old = Peernixd::start_as(ctx, &a, &settings(), Start { program, ..Start::default() })?;
    let on_b = Peernixd::start(ctx, &b, &settings())?;
    let on_c = Peernixd::start(ctx, &c, &settings())?;
    for peernixd in [&old, &on_b, &on_c] {
        peernixd.wait_online(2, Duration::from_secs(20))?;
    }
    wait::until_true("the index of the new one", Duration::from_secs(20), || {
        Ok(gauge(&on_c, "peernix_index_peers")? == 1.0 && gauge(&on_c, "peernix_index_entries")? > 0.0)
    })?;
    for (asks, wanted, what) in [
        (&c, first, "a new one gets what the old one has"),
        (&c, second, "a new one gets what a new one has"),
        (&a, second, "the old one gets what a new one has"),
    ] {
        let mut client = Client::gateway(ctx, asks)?;
        for info in set.closure_of([wanted]) {
            let (head, narinfo) = client.get(&format!("/{}.narinfo", info.path.hash()))?;
            ensure!(head.status == 200, "{what}: {} for the narinfo of {}", head.status, info.path);
            let narinfo = String::from_utf8(narinfo)?;
            let url = narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).context("a URL")?;
            let (head, nar) = client.get(&format!("/{url}"))?;
            let is_whole = head.status == 200 && nar.len() as u64 == info.nar_size;
            ensure!(is_whole, "{what}: {} and {} bytes of {}", head.status, nar.len(), info.path);
        }
        ctx.note(what, "yes", "");
    }
    ctx.check(
        "nobody bans anybody",
        gauge(&on_c, "peernix_peers_online")? == 2.0 && gauge(&old, "peernix_peers_online")? == 2.0,
        "",
    );
    for peernixd in [old, on_b, on_c] {
        peernixd.stop()?;
    }
    Ok(())
}

/// Machines with and without an index.
fn mixed(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let [a, b, c] = ["a", "b", "c"].map(|name| network.host(name));
    let (a, b, c) = (a?, b?, c?);
    let set = ctx.world.many()?;
    let (first, second) = (&set.paths[0], &set.paths[10]);
    set.install_some(&a, &set.closure_of([first]), crate::store::Signed::Yes)?;
    set.install_some(&c, &set.closure_of([second]), crate::store::Signed::Yes)?;
    let settings = || Settings::new(ctx).set("log.level", "info");
    let on_a = Peernixd::start(ctx, &a, &settings())?;
    let on_c = Peernixd::start(ctx, &c, &settings().set("share.index", false))?;
    let on_b = Peernixd::start(ctx, &b, &settings())?;
    on_b.wait_online(2, Duration::from_secs(20))?;
    wait::until_true("the index of the one", Duration::from_secs(20), || {
        Ok(gauge(&on_b, "peernix_index_entries")? > 0.0)
    })?;
    for (info, has) in [(first, "a"), (second, "c")] {
        let (head, _) = Client::gateway(ctx, &b)?.get(&format!("/{}.narinfo", info.path.hash()))?;
        ctx.check(&format!("what {has} has is found"), head.status == 200, &head.status.to_string());
    }
    let (head, _) = Client::gateway(ctx, &c)?.get(&format!("/{}.narinfo", first.path.hash()))?;
    ctx.check("who tells no index finds what others have", head.status == 200, &head.status.to_string());
    ctx.check("one index is known", gauge(&on_b, "peernix_index_peers")? == 1.0, "");
    for peernixd in [on_a, on_b, on_c] {
        peernixd.stop()?;
    }
    Ok(())
}

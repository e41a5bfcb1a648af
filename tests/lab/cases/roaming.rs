//! The network changes under a running service: another address, connections that died without a word, half a network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peernix::nix::base32;
use sha2::{Digest, Sha256};

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, gateway_get};
use crate::internet::{Internet, Weather, flat_cache};
use crate::needs::Need;
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::process::sh;
use crate::store::Signed;

/// How often the network changes.
const RUNS: usize = 20;

/// Connections that are kept when it does: as many as Nix asks on at a time.
const KEPT: usize = 25;

/// From the change to the answer of the first lookup after it, in seconds.
const FIRST_LOOKUP: f64 = 1.0;

/// The longest pause of a download that the change broke, in seconds.
const PAUSE: f64 = 3.0;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("roaming/upstream", |ctx| lookups(ctx, Whom::Upstream, Change::Address)).quiet().limit(180),
        Case::new("roaming/peer", |ctx| lookups(ctx, Whom::Peer, Change::Address)).quiet().limit(180),
        Case::new("roaming/dead-upstream", |ctx| lookups(ctx, Whom::Upstream, Change::Silence))
            .needing(Need::Nft)
            .quiet()
            .limit(180),
        Case::new("roaming/dead-peer", |ctx| lookups(ctx, Whom::Peer, Change::Silence))
            .needing(Need::Nft)
            .quiet()
            .limit(180),
        Case::new("roaming/download", download),
        Case::new("roaming/broken-ipv6", broken_ipv6).needing(Need::Nft).quiet(),
    ]
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Upstream,
    Peer,
}

/// What happens to the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The machine gets another address.
    Address,
    /// A router on the way forgets them: what is sent over them vanishes.
    Silence,
}

/// The other of a host's two addresses. First the one goes and then the other comes, as with a new lease.
fn move_house(host: &Host, times: usize) -> Result<()> {
    let addresses = [host.index, host.index + 100].map(|end| format!("10.77.0.{end}/24"));
    let (old, new) = (&addresses[times % 2], &addresses[(times + 1) % 2]);
    host.sh(&format!("ip addr del {old} dev eth0; ip addr add {new} dev eth0")).map(drop)
}

/// Lets vanish whatever arrives at a server over the connections that stand, and only that.
fn cut_standing(at: &str, host: &Host, port: u16) -> Result<usize> {
    let list = host.sh(&format!("ss -Htn state established dport = :{port}"))?;
    let ports: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().nth(2)?.rsplit(':').next()).collect();
    ensure!(!ports.is_empty(), "nothing stands to port {port}: {list:?}");
    sh(&format!(
        "nsenter --net=/run/netns/{at} nft add table inet forgetful
         nsenter --net=/run/netns/{at} nft 'add chain inet forgetful in {{ type filter hook input priority 0; }}'
         nsenter --net=/run/netns/{at} nft flush chain inet forgetful in
         nsenter --net=/run/netns/{at} nft 'add rule inet forgetful in tcp dport {port} tcp sport {{ {} }} drop'",
        ports.join(", ")
    ))?;
    Ok(ports.len())
}

/// Asks for things that nobody has, all at once, so that as many connections are kept.
fn keep_connections(ctx: &Ctx, host: &Host, run: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..KEPT)
            .map(|asker| {
                scope.spawn(move || {
                    let digest = Sha256::digest(format!("{asker} of {run}"));
                    let (head, _) = gateway_get(ctx, host, &format!("/{}.narinfo", base32::encode(&digest[..20])))?;
                    ensure!(head.status == 404, "a miss is {}", head.status);
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        askers.into_iter().try_for_each(|asker| asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn lookups(ctx: &Ctx, whom: Whom, change: Change) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.many()?;
    let some = set.closure_of(set.paths.iter().take(RUNS));
    set.install_some(&a, &some, Signed::Yes)?;
    let paths: Vec<String> = some.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&a, "cache", "none", &paths)?)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("discovery.mdns", false))?;
    let (settings, at, port) = match whom {
        Whom::Upstream => {
            (Settings::new(ctx).set("discovery.mdns", false).upstreams(&[&internet.url]), &network.outside.0, 8080)
        }
        Whom::Peer => {
            let fixed = format!("{}@{}:7650", on_a.node_id()?, a.address());
            (Settings::new(ctx).fixed_peers(&[fixed]), &a.ns.0, 7650)
        }
    };
    let settings = match change {
        Change::Address => settings,
        // A silent connection has half of the default budget before a fresh one is tried: little on a busy machine.
        Change::Silence => settings.set("gateway.budget_ms", 1000),
    };
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    if whom == Whom::Peer {
        on_b.wait_online(1, Duration::from_secs(10))?;
    }
    let (mut found, mut slowest, mut kept) = (0, Duration::ZERO, usize::MAX);
    for (run, info) in some.iter().take(RUNS).enumerate() {
        if whom == Whom::Peer {
            on_b.wait_online(1, Duration::from_secs(10))?;
        }
        // So that they overlap.
        internet.turn(Weather::SlowNarinfo(Duration::from_millis(30)));
        keep_connections(ctx, &b, run)?;
        internet.turn(Weather::Fine);
        let standing = b.sh(&format!("ss -Htn state established dport = :{port} | wc -l"))?.trim().parse()?;
        kept = kept.min(standing);
        match change {
            Change::Address => move_house(&b, run)?,
            Change::Silence => drop(cut_standing(at, &b, port)?),
        }
        let begun = Instant::now();
        let (head, _) = gateway_get(ctx, &b, &format!("/{}.narinfo", info.path.hash()))?;
        slowest = slowest.max(begun.elapsed());
        found += usize::from(head.status == 200);
    }
    ctx.note("the fewest connections that were kept", kept, "");
    ctx.check(&format!("found by the first lookup: {RUNS} of {RUNS} times"), found == RUNS, &found.to_string());
    ctx.measure("the slowest first lookup", slowest.as_secs_f64(), "s", FIRST_LOOKUP);
    on_b.stop()?;
    on_a.stop()
}

/// A large NAR from an upstream, and one from a peer, while the address changes.
fn download(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let info = ctx.world.pieces()?.named("text-24m")?;
    ctx.world.pieces()?.install_some(&a, &[info], Signed::Yes)?;
    let path = format!("/nix/store/{}", info.path);
    let internet = Internet::start(&network, 8080, &flat_cache(&a, "cache", "none", &[path])?)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("discovery.mdns", false))?;
    let fixed = format!("{}@{}:7650", on_a.node_id()?, a.address());
    // Five seconds each.
    b.port.slow(40)?;
    for (times, (whom, settings)) in [
        ("upstream", Settings::new(ctx).set("discovery.mdns", false).upstreams(&[&internet.url])),
        ("peer", Settings::new(ctx).fixed_peers(&[fixed])),
    ]
    .into_iter()
    .enumerate()
    {
        let on_b = Peernixd::start(ctx, &b, &settings)?;
        if whom == "peer" {
            on_b.wait_online(1, Duration::from_secs(10))?;
        }
        let target = nar_target(ctx, &b, &info.path.hash().to_string())?;
        let mut client = Client::gateway(ctx, &b)?;
        let head = client.request("GET", &target, &[])?;
        ensure!(head.status == 200, "the NAR from the {whom}: {}", head.status);
        let mut moved = None;
        let body = client.body(&head, |offset, _| {
            if offset > info.nar_size / 3 && moved.is_none() {
                move_house(&b, times)?;
                moved = Some(offset);
            }
            Ok(())
        })?;
        moved.context("the NAR was never a third of its size long")?;
        let came = format!("{} of {} bytes", body.bytes, info.nar_size);
        ctx.check(&format!("{whom}: the body is complete"), body.complete, &came);
        ctx.check(&format!("{whom}: the bytes are right"), body.hash == info.nar_hash, "another hash");
        ctx.measure(&format!("{whom}: the longest pause"), body.longest_pause.as_secs_f64(), "s", PAUSE);
        on_b.stop()?;
        std::fs::remove_dir_all(b.dir.join("state"))?;
    }
    let resumed = internet.asked.count(" from ");
    ctx.check("the upstream was asked for the rest", resumed > 0, &format!("{:?}", internet.asked.all()));
    // It may still try to send to the address that is gone, and would wait for that.
    on_a.judge_log()
}

/// An upstream has an IPv6 address that leads nowhere.
fn broken_ipv6(ctx: &Ctx) -> Result<()> {
    const NAME: &str = "cache.example.org";
    let network: Network<'_> = ctx.network()?;
    let b = network.host("b")?;
    let maker = network.host("maker")?;
    let set = ctx.world.many()?;
    let some = set.closure_of(set.paths.iter().take(KEPT));
    set.install_some(&maker, &some, Signed::Yes)?;
    let paths: Vec<String> = some.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&maker, "cache", "none", &paths)?)?;
    let (outside, inside) = (&network.outside.0, &b.ns.0);
    sh(&format!(
        "ip -n {outside} addr add 2001:db8:77::fe/64 dev br0 nodad
         ip -n {inside} addr add 2001:db8:77::1/64 dev eth0 nodad
         nsenter --net=/run/netns/{outside} nft add table inet broken
         nsenter --net=/run/netns/{outside} nft 'add chain inet broken in {{ type filter hook input priority 0; }}'
         nsenter --net=/run/netns/{outside} nft 'add rule inet broken in ip6 daddr 2001:db8:77::fe meta l4proto tcp drop'"
    ))?;
    std::fs::write(
        b.dir.join("hosts"),
        format!("127.0.0.1 localhost\n2001:db8:77::fe {NAME}\n{} {NAME}\n", network.outside_address()),
    )?;
    b.sh(&format!("mount --bind {}/hosts /etc/hosts", crate::host::HERE))?;
    let order = b.sh(&format!("getent ahosts {NAME}"))?;
    ensure!(order.starts_with("2001:db8:77::fe"), "IPv6 is not tried first here, so nothing is shown: {order}");
    let url = format!("http://{NAME}:8080");
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("discovery.mdns", false).upstreams(&[&url]))?;
    let ask = |hash: String| {
        let begun = Instant::now();
        let (head, _) = gateway_get(ctx, &b, &format!("/{hash}.narinfo"))?;
        ensure!(head.status == 200, "the narinfo: {}", head.status);
        Ok::<_, anyhow::Error>(begun.elapsed().as_secs_f64())
    };
    let ask = &ask;
    ctx.measure("the first lookup", ask(some[0].path.hash().to_string())?, "s", 0.5);
    // At once, so that all but one need a connection of their own.
    internet.turn(Weather::SlowNarinfo(Duration::from_millis(30)));
    let slowest = std::thread::scope(|scope| {
        let askers: Vec<_> =
            some.iter().skip(1).take(5).map(|info| scope.spawn(move || ask(info.path.hash().to_string()))).collect();
        let times =
            askers.into_iter().map(|asker| asker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        times.collect::<Result<Vec<_>>>().map(|times| times.into_iter().fold(0.0, f64::max))
    })?;
    let standing: usize = b.sh("ss -Htn state established dport = :8080 | wc -l")?.trim().parse()?;
    ctx.check("the others made connections of their own", standing > 3, &standing.to_string());
    ctx.measure("the slowest after it", slowest, "s", 0.2);
    on_b.stop()
}

//! Multicast DNS in bad company: somebody floods the link, interfaces come and go, another program has the port, another machine
//! our key.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peernix::control::{Control, ServiceState};
use peernix::peers::NodeKey;

use super::Case;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::wait;

/// Forged announcements in a second.
const FLOOD_RATE: u64 = 5_000;
/// The addresses they come from, in turn.
const FLOOD_SOURCES: u64 = 16;
/// For how long the cost is measured.
const MEASURED: Duration = Duration::from_secs(8);
/// The interfaces of the machine that has many.
const INTERFACES: u32 = 80;
/// How often one of them comes or goes.
const CHURN: Duration = Duration::from_secs(1);
/// How soon real peers know each other in spite of everything, in seconds.
const MEETING_LIMIT: f64 = 2.0;

/// How much more of the processor programs may take that are not optimised: they are tried, not judged.
const SLACK: f64 = if cfg!(debug_assertions) { 4.0 } else { 1.0 };

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("discovery/flood", flood).quiet(),
        Case::new("discovery/churn", churn).quiet(),
        Case::new("discovery/port-held", port_held),
        Case::new("discovery/copied-machine", copied_machine).needing(Need::MachineId),
    ]
}

/// How much of a core the program takes while `during` runs, in percent.
fn cpu(peernixd: &Peernixd<'_>, during: impl FnOnce() -> Result<()>) -> Result<f64> {
    let (before, start) = (peernixd.cpu_time()?, Instant::now());
    during()?;
    let used = peernixd.cpu_time()? - before;
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}

/// A response of a machine that does not exist, with all that belongs to it: at the address it comes from, or at another one.
fn forged(number: u64, from: u8) -> Vec<u8> {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let id = NodeKey::from_seed(seed).id().to_string();
    let label = |text: &str| [&[text.len().to_le_bytes()[0]], text.as_bytes()].concat();
    let instance = [label(&id), vec![0xc0, 12]].concat();
    let host = [label(&id), label("local"), vec![0]].concat();
    let record = |name: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]| {
        let fixed = [&kind.to_be_bytes()[..], &class.to_be_bytes(), &ttl.to_be_bytes()].concat();
        [name, &fixed, &u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes(), data].concat()
    };
    let service = [label("_peernix"), label("_tcp"), label("local"), vec![0]].concat();
    let address =
        [10, 77, 0, if number.is_multiple_of(2) { from } else { 100 + u8::try_from(number % 100).unwrap_or(0) }];
    [
        vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0],
        record(&service, 12, 1, 4500, &instance),
        record(&instance, 33, 0x8001, 120, &[&[0, 0, 0, 0, 0x1d, 0xe2][..], &host].concat()),
        record(&instance, 16, 0x8001, 4500, &[label(&format!("id={id}")), label("v=1")].concat()),
        record(&host, 1, 0x8001, 120, &address),
    ]
    .concat()
}

/// The end of the address of a source of the flood.
const fn forger(source: u64) -> u8 {
    200 + source.to_le_bytes()[0]
}

/// Forges announcements from several addresses of `host` until `stop`.
fn forge(host: &Host, sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let sockets: Vec<UdpSocket> = host.enter(|| {
        let bind = |source| {
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 77, 0, forger(source)), 5353))?;
            socket.set_multicast_loop_v4(false)?;
            Ok(socket)
        };
        (0..FLOOD_SOURCES).map(bind).collect()
    })?;
    let group: SocketAddr = "224.0.0.251:5353".parse()?;
    let start = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        if number as f64 > start.elapsed().as_secs_f64() * FLOOD_RATE as f64 {
            wait::pass(Duration::from_millis(1));
            continue;
        }
        // Both kinds from each.
        let source = number / 2 % FLOOD_SOURCES;
        if sockets[source as usize].send_to(&forged(number, forger(source)), group).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
        number += 1;
    }
    Ok(())
}

fn flood(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b, bad) = (network.host("a")?, network.host("b")?, network.host("c")?);
    for source in 0..FLOOD_SOURCES {
        bad.sh(&format!("ip addr add 10.77.0.{}/24 dev eth0", forger(source)))?;
    }
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("log.level", "info"))?;
    let idle = on_a.own_memory()?;
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<()> {
        let forging = scope.spawn(|| forge(&bad, &sent, &stop));
        let done = (|| {
            wait::until_true("the flood", Duration::from_secs(5), || Ok(sent.load(Ordering::Relaxed) > FLOOD_RATE))?;
            let settled = on_a.own_memory()?;
            let before = sent.load(Ordering::Relaxed);
            let start = Instant::now();
            let share = cpu(&on_a, || {
                wait::pass(MEASURED);
                Ok(())
            })?;
            let rate = (sent.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
            ctx.measure("forged announcements in a second", rate, "", None);
            ctx.measure("cost of a flood", share, "% of a core", 10.0 * SLACK);
            let grown = |since: u64| on_a.own_memory().map(|now| now.saturating_sub(since) as f64 / 1e6);
            ctx.measure("memory that the flood took", grown(idle)?, "MB", 16.0);
            ctx.measure("growth under flood", grown(settled)?, "MB", 2.0);
            let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("log.level", "info"))?;
            let (id_a, id_b) = (on_a.node_id()?, on_b.node_id()?);
            on_a.wait_state(&id_b, "online", Duration::from_secs(15))?;
            on_b.wait_state(&id_a, "online", Duration::from_secs(15))?;
            ctx.measure("until real peers know each other", on_b.started().elapsed().as_secs_f64(), "s", MEETING_LIMIT);
            on_b.stop()
        })();
        stop.store(true, Ordering::Relaxed);
        forging.join().map_err(|_| anyhow::anyhow!("the forger panicked"))??;
        done
    })?;
    on_a.stop()
}

fn churn(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let pairs: Vec<String> = (0..INTERFACES / 2)
        .map(|n| {
            format!(
                "ip link add x{n} type veth peer name y{n}; ip addr add 10.{}.0.1/24 dev x{n}; ip addr add 10.{}.1.1/24 dev y{n}
                 ip link set x{n} up; ip link set y{n} up",
                100 + n,
                100 + n
            )
        })
        .collect();
    a.sh(&pairs.join("\n"))?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("log.level", "info"))?;
    // Nothing of the start is measured.
    wait::pass(Duration::from_secs(2));
    let before = on_a.own_memory()?;
    let mut up = true;
    let toggle = |up: &mut bool| {
        *up = !*up;
        a.sh(if *up { "ip link set x0 up" } else { "ip link set x0 down" })
    };
    let share = cpu(&on_a, || {
        let start = Instant::now();
        while start.elapsed() < MEASURED {
            toggle(&mut up)?;
            wait::pass(CHURN);
        }
        Ok(())
    })?;
    ctx.note("interfaces", INTERFACES, "");
    ctx.measure("cost of interfaces that come and go", share, "% of a core", 5.0 * SLACK);
    let grown = on_a.own_memory()?.saturating_sub(before);
    ctx.measure("growth meanwhile", grown as f64 / 1e6, "MB", 2.0);
    toggle(&mut up)?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("log.level", "info"))?;
    let (id_a, id_b) = (on_a.node_id()?, on_b.node_id()?);
    on_a.wait_state(&id_b, "online", Duration::from_secs(15))?;
    on_b.wait_state(&id_a, "online", Duration::from_secs(15))?;
    ctx.measure("until real peers know each other", on_b.started().elapsed().as_secs_f64(), "s", MEETING_LIMIT);
    on_b.stop()?;
    on_a.stop()
}

/// Another program has UDP 5353 for itself when B starts, and ends later.
fn port_held(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    // Without SO_REUSEADDR and SO_REUSEPORT, which is how the standard library makes sockets.
    let holder = b.enter(|| UdpSocket::bind("[::]:5353").context("holding the port"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    let id_a = on_a.node_id()?;
    let administrator = Administrator::of(&on_b)?;
    let status = wait::until("the status to say so", Duration::from_secs(5), || {
        let status = administrator.does(Control::status)?;
        Ok(status.problems.iter().any(|problem| problem.contains("5353")).then_some(status))
    });
    match status {
        Ok((status, _)) => {
            ctx.check("it is degraded", status.state == ServiceState::Degraded, &status.state.to_string());
            let log = on_b.log();
            let lines =
                log.lines().filter(|line| line.contains("other machines cannot be found by themselves")).count();
            ctx.check("the log says so, once", lines == 1, &format!("{lines} lines"));
        }
        Err(error) => ctx.check("the status says so", false, &error.to_string()),
    }
    drop(holder);
    let freed = Instant::now();
    let met = on_b.wait_state(&id_a, "online", Duration::from_secs(20));
    ctx.measure("from the end of the holder to knowing each other", freed.elapsed().as_secs_f64(), "s", 8.0);
    met?;
    let status = administrator.does(Control::status)?;
    let silent = !status.problems.iter().any(|problem| problem.contains("5353"));
    ctx.check("the status is well again", silent, &status.problems.join("; "));
    ctx.check("the log says that it works", on_b.log().contains("other machines are found again"), "it does not");
    on_b.stop()?;
    on_a.stop()
}

/// B's disk is a copy of A's: first with A's machine id as well, then with one of its own.
fn copied_machine(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let machine_id = |host: &Host, digit: char| {
        let id = digit.to_string().repeat(32);
        host.sh(&format!("echo {id} >/run/host/etc/machine-id; mount --bind /run/host/etc/machine-id /etc/machine-id"))
    };
    machine_id(&a, '1')?;
    machine_id(&b, '1')?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let id = on_a.node_id()?;
    let (from, to) = (a.dir.join("state"), b.dir.join("state"));
    std::fs::create_dir_all(&to)?;
    crate::process::sh(&format!("cp -a {from:?}/node.* {to:?}/"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    ctx.check("with the same machine id the key stays", on_b.node_id()? == id, "it does not");
    let start = Instant::now();
    for peernixd in [&on_a, &on_b] {
        let administrator = Administrator::of(peernixd)?;
        let said = wait::until_true("the status to say so", Duration::from_secs(10), || {
            let problems = administrator.does(Control::status)?.problems;
            Ok(problems.iter().any(|problem| problem.contains("has this machine's node key")))
        });
        let name = &peernixd.host.name;
        ctx.check(&format!("{name} notices the other"), said.is_ok(), "it does not");
        // It is told before it is written down.
        let logged = wait::until_true("the log to say so", Duration::from_secs(2), || {
            Ok(peernixd.log().contains("has this machine's node key"))
        });
        ctx.check(&format!("the log of {name} says so"), logged.is_ok(), "it does not");
    }
    ctx.measure("until both have noticed", start.elapsed().as_secs_f64(), "s", 5.0);
    on_b.stop()?;

    b.sh("umount /etc/machine-id")?;
    machine_id(&b, '2')?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    let new = on_b.node_id()?;
    ctx.check("with another machine id the key is another", new != id, &new);
    ctx.check("and the log says so", on_b.log().contains(&format!("it was {id} and is now {new}")), "it does not");
    ctx.check("the old key is kept", to.join("node.key.old").exists(), "it is not");
    on_a.wait_state(&new, "online", Duration::from_secs(15))?;
    on_b.wait_state(&id, "online", Duration::from_secs(15))?;
    on_b.stop()?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    ctx.check("it is made anew once", on_b.node_id()? == new, "it is made anew again");
    on_b.stop()?;
    on_a.stop()
}

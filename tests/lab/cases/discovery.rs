//! Machines find each other, fast, on every kind of link, and notice at once when one says goodbye.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::percentile;
use crate::needs::Need;
use crate::network::Cable;
use crate::peer::{Peernixd, Settings};
use crate::process::Process;
use crate::real_nix::{self, Generation};
use crate::store::Signed;
use crate::wait;

/// How often B is started.
const RUNS: usize = 20;
const LONG_RUNS: usize = 200;

/// From the start of B's program until both know each other.
const LIMIT: f64 = 1.0;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("discovery/under-a-second", under_a_second).alone(),
        Case::new("discovery/ipv6-only", ipv6_only),
        Case::new("discovery/late-interface", late_interface),
        Case::new("discovery/beside-avahi", beside_avahi).needing(Need::Avahi),
        Case::new("discovery/remembered", remembered),
    ]
}

/// Waits until both hold each other for online, and tells how long after the start of `b`'s program.
fn acquainted(a: &Peernixd<'_>, b: &Peernixd<'_>) -> Result<Duration> {
    let (id_a, id_b) = (a.node_id()?, b.node_id()?);
    let limit = Duration::from_secs(15);
    a.wait_state(&id_b, "online", limit)?;
    b.wait_state(&id_a, "online", limit)?;
    Ok(b.started().elapsed())
}

fn under_a_second(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let settings = Settings::new(ctx);
    let on_a = Peernixd::start(ctx, &a, &settings)?;
    let id_a = on_a.node_id()?;
    let mut meetings = Vec::new();
    let mut goodbyes = Vec::new();
    let runs = if ctx.long { LONG_RUNS } else { RUNS };
    for _ in 0..runs {
        // A machine that was never here before.
        let _ = std::fs::remove_dir_all(b.dir.join("state"));
        let on_b = Peernixd::start(ctx, &b, &settings)?;
        // --print-node-id takes its own moment: the id comes from A's list instead.
        let (id_b, _) = wait::until("A to know B", Duration::from_secs(15), || {
            let online = on_a.peers()?.into_iter().find(|peer| peer["state"] == "online");
            Ok(online.and_then(|peer| peer["id"].as_str().map(str::to_owned)))
        })?;
        on_b.wait_state(&id_a, "online", Duration::from_secs(15))?;
        meetings.push(on_b.started().elapsed());

        let start = Instant::now();
        on_b.process.signal(Signal::SIGTERM)?;
        wait::until_true("A to notice that B has gone", Duration::from_secs(15), || {
            Ok(on_a.state_of(&id_b)?.as_deref() != Some("online"))
        })?;
        goodbyes.push(start.elapsed());
        on_b.stop_after_sigterm()?;
    }
    ctx.note("runs", runs, "");
    ctx.measure("until both know each other, median", seconds(&mut meetings, 0.5), "s", None);
    ctx.measure("until both know each other, slowest", seconds(&mut meetings, 1.0), "s", LIMIT);
    ctx.measure("goodbye noticed, median", seconds(&mut goodbyes, 0.5), "s", None);
    ctx.measure("goodbye noticed, slowest", seconds(&mut goodbyes, 1.0), "s", 0.5);
    on_a.stop()
}

fn seconds(times: &mut [Duration], share: f64) -> f64 {
    percentile(times, share).as_secs_f64()
}

/// No IPv4 and no router: only the addresses that every IPv6 interface gives itself.
fn ipv6_only(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let cable = Cable { addresses: false, up: true };
    let (a, b) = (network.host_with("a", cable)?, network.host_with("b", cable)?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    ctx.measure("until both know each other", acquainted(&on_a, &on_b)?.as_secs_f64(), "s", LIMIT);
    let path = format!("/nix/store/{}", info.path);
    real_nix::realise(ctx, &b, Generation::Machine, "b", &path)?.must("over link-local IPv6")?;
    on_b.stop()?;
    on_a.stop()
}

/// B starts without a network, as a laptop does.
fn late_interface(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let b = network.host_with("b", Cable { addresses: false, up: false })?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    ctx.check("nobody is known without a network", on_b.peers()?.is_empty(), "somebody is");
    // Long enough that no search of the start is still under way.
    wait::pass(Duration::from_secs(2));
    let id_b = on_b.node_id()?;
    let up = Instant::now();
    b.sh(&format!("ip link set eth0 up; ip addr add {}/24 dev eth0", b.address()))?;
    on_a.wait_state(&id_b, "online", Duration::from_secs(20))?;
    on_b.wait_online(1, Duration::from_secs(20))?;
    ctx.measure("from the interface to knowing each other", up.elapsed().as_secs_f64(), "s", 3.0);

    // The cable is pulled and comes back: nothing for good.
    b.port.plug(false)?;
    let start = Instant::now();
    on_a.wait_gone(&id_b, Duration::from_secs(40))?;
    ctx.measure("until a pulled cable is noticed at the other end", start.elapsed().as_secs_f64(), "s", None);
    b.port.plug(true)?;
    let start = Instant::now();
    on_a.wait_state(&id_b, "online", Duration::from_secs(40))?;
    ctx.measure("from plugging in to knowing each other", start.elapsed().as_secs_f64(), "s", 5.0);
    on_b.stop()?;
    on_a.stop()
}

/// An avahi-daemon (and the bus it needs) on a host.
fn avahi(host: &Host) -> Result<[Process; 2]> {
    let bus = "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
               'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n\
               <busconfig><type>system</type><listen>unix:path=/run/host/tmp/bus</listen><auth>EXTERNAL</auth>\
               <policy context='default'><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/>\
               <allow user='*'/></policy></busconfig>\n";
    std::fs::write(host.dir.join("etc/bus.conf"), bus)?;
    let avahi = format!("[server]\nhost-name={}\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\n", host.name);
    std::fs::write(host.dir.join("etc/avahi.conf"), avahi)?;
    let mut command = host.command("dbus-daemon");
    command.args(["--config-file=/run/host/etc/bus.conf", "--nofork", "--nopidfile"]);
    let bus = Process::start(command, &host.logs.join(format!("{}.dbus.log", host.name)))?;
    let socket = host.dir.join("tmp/bus");
    wait::until_true("the bus", Duration::from_secs(5), || Ok(socket.exists()))?;
    host.sh("mkdir -p /run/avahi-daemon")?;
    let mut command = host.command("avahi-daemon");
    command
        .args(["-f", "/run/host/etc/avahi.conf", "--no-drop-root", "--no-chroot", "--no-rlimits", "--debug"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/host/tmp/bus");
    let avahi = Process::start(command, &host.logs.join(format!("{}.avahi.log", host.name)))?;
    wait::until_true("avahi-daemon", Duration::from_secs(10), || {
        Ok(avahi.output().contains("Server startup complete"))
    })
    .with_context(|| avahi.output())?;
    Ok([avahi, bus])
}

/// avahi-daemon has port 5353 on both hosts before us: we find each other, and it finds us.
fn beside_avahi(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let daemons = [avahi(&a)?, avahi(&b)?];
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    ctx.measure("until both know each other", acquainted(&on_a, &on_b)?.as_secs_f64(), "s", LIMIT);
    let id_b = on_b.node_id()?;
    let browse = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/host/tmp/bus avahi-browse -rtp _peernix._tcp";
    let (seen, _) = wait::until("avahi to resolve B", Duration::from_secs(15), || {
        let seen = a.sh(browse)?;
        Ok(seen.lines().find(|line| line.starts_with('=') && line.contains(&id_b)).map(str::to_owned))
    })?;
    ctx.check("avahi sees the port", seen.contains(";7650;"), &seen);
    ctx.check("avahi sees TXT id", seen.contains(&format!("id={id_b}")), &seen);
    for daemon in &daemons {
        let log = daemon[0].output();
        ctx.check("avahi has no conflict with us", !log.contains("conflict"), &log);
    }
    on_b.stop()?;
    let gone = wait::until_true("avahi to forget B", Duration::from_secs(5), || Ok(!a.sh(browse)?.contains(&id_b)))?;
    ctx.measure("until avahi has forgotten B after its goodbye", gone.as_secs_f64(), "s", None);
    on_a.stop()
}

/// A peer met once is found again without any announcement.
fn remembered(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    acquainted(&on_a, &on_b)?;
    let id_a = on_a.node_id()?;
    on_b.stop()?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("discovery.mdns", false))?;
    on_b.wait_state(&id_a, "online", Duration::from_secs(10))?;
    let known = on_b.started().elapsed();
    ctx.measure("until a remembered peer is online, without mDNS", known.as_secs_f64(), "s", LIMIT);
    on_b.stop()?;
    on_a.stop()
}

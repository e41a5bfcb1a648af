//! What leaves a machine: fair to everybody, within its limit, and nothing where the connection costs by the byte.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use peernix::control::Control;
use peernix::nix::PathInfo;

use super::Case;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::{HERE, Host};
use crate::http::{Client, gateway_get};
use crate::peer::{Peernixd, Settings};
use crate::process::Process;
use crate::store::Signed;
use crate::wait;

/// How much leaves, in bytes a second.
const LIMIT: u64 = 4_000_000;
/// For how long it is looked at.
const TIME: Duration = Duration::from_secs(10);
const LONG_TIME: Duration = Duration::from_secs(30);
/// How far a limit may be missed, in percent, either way.
const OFF_LIMIT: f64 = 5.0;
/// How much more one reader may get than another, who always wants more as well.
const UNFAIR_LIMIT: f64 = 1.5;
/// How long it may take until nothing leaves any more.
const PAUSE_LIMIT: f64 = 2.0;
/// How many streams the greedy one has.
const STREAMS: usize = 32;

/// Until another machine has heard that a source sends nothing, or sends again. What a gateway has found it remembers for some seconds.
const HEARD: Duration = Duration::from_secs(30);

/// Where the plain share listens.
const PORT: u16 = 5000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("uploads/fair-and-limited", fair_and_limited).quiet(),
        Case::new("uploads/metered", metered).early(),
        Case::new("downloads/limited", downloads_limited).quiet(),
    ]
}

/// A share on a plain port with one path of 24 MiB, and the target of its NAR.
fn sharing<'a>(ctx: &'a Ctx, host: &'a Host, settings: &Settings) -> Result<(Peernixd<'a>, &'a PathInfo, String)> {
    let set = ctx.world.pieces()?;
    let info = set.named("piece-24m")?;
    set.install_some(host, &[info], Signed::Yes)?;
    let on = Peernixd::start(ctx, host, &settings.clone().set("share.plain_listen", format!("[::]:{PORT}")))?;
    let target = format!("/nar/{}-{}.nar", info.path.hash(), info.nar_hash.to_nix32());
    Ok((on, info, target))
}

/// Reads on and on until the time is over, and counts.
fn read_on(from: &Host, at: &Host, target: &str, count: &AtomicU64, until: Instant) -> Result<()> {
    while Instant::now() < until {
        let mut client = Client::connect(at, &format!("{}:{PORT}", from.address()))?;
        let head = client.request("GET", target, &[])?;
        // Whoever has read enough goes away.
        let _ = client.body(&head, |_, bytes| {
            if Instant::now() >= until {
                bail!("the time is over");
            }
            count.fetch_add(bytes.len() as u64, Relaxed);
            Ok(())
        });
    }
    Ok(())
}

fn fair_and_limited(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b, c) = (network.host("a")?, network.host("b")?, network.host("c")?);
    let (on_a, _, target) = sharing(ctx, &a, &Settings::new(ctx).set("share.upload_limit", "4MB"))?;
    let time = if ctx.long { LONG_TIME } else { TIME };
    let (many, one) = (AtomicU64::new(0), AtomicU64::new(0));
    // What is free in the beginning, and what lies in the kernel's buffers, is no measure.
    let warm = Instant::now() + Duration::from_secs(1);
    let until = warm + time;
    let counted = std::thread::scope(|scope| -> Result<[u64; 2]> {
        let mut readers = Vec::new();
        for _ in 0..STREAMS {
            readers.push(scope.spawn(|| read_on(&a, &b, &target, &many, until)));
        }
        readers.push(scope.spawn(|| read_on(&a, &c, &target, &one, until)));
        wait::pass(warm - Instant::now());
        let before = [many.load(Relaxed), one.load(Relaxed)];
        wait::pass(until - Instant::now());
        let counted = [many.load(Relaxed) - before[0], one.load(Relaxed) - before[1]];
        for reader in readers {
            reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        Ok(counted)
    })?;
    let [many, one] = counted.map(|bytes| bytes as f64);
    ctx.measure("what 32 streams of one machine get", many / 1e6 / time.as_secs_f64(), "MB/s", None);
    ctx.measure("what one stream of another gets", one / 1e6 / time.as_secs_f64(), "MB/s", None);
    ctx.measure("the larger, as a multiple of the other", many.max(one) / many.min(one), "", UNFAIR_LIMIT);
    let off = ((many + one) / time.as_secs_f64() / LIMIT as f64 - 1.0).abs() * 100.0;
    ctx.measure("how far the limit is missed", off, "%", OFF_LIMIT);
    on_a.stop()
}

/// What comes keeps to its limit, and what is lifted is lifted for what is on its way.
fn downloads_limited(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-24m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("gateway.download_limit", "4MB"))?;
    on_b.wait_online(1, HEARD)?;
    let begun = Instant::now();
    let (head, _) = gateway_get(ctx, &b, &format!("/nar/{}-{}.nar", info.path.hash(), info.nar_hash.to_nix32()))?;
    ensure!(head.status == 200, "the answer is {}", head.status);
    let rate = info.nar_size as f64 / begun.elapsed().as_secs_f64();
    let off = (rate / LIMIT as f64 - 1.0).abs() * 100.0;
    ctx.measure("how far a limit of downloads is missed", off, "%", OFF_LIMIT);
    on_b.stop()?;
    on_a.stop()
}

/// What NetworkManager says, on a bus of the host's own. The real one needs udev and a network that it manages, which a namespace does not
/// have; this is the property that is read, by the name that it has.
struct NetworkManager {
    metered: u32,
}

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.metered
    }

    #[zbus(property)]
    fn primary_connection_type(&self) -> String {
        "802-3-ethernet".to_owned()
    }
}

/// A bus where programs of the host look for that of the system, with NetworkManager on it.
struct Bus {
    runtime: tokio::runtime::Runtime,
    connection: zbus::Connection,
    _daemon: Process,
}

impl Bus {
    fn start(host: &Host) -> Result<Self> {
        let config = format!(
            r#"<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<listen>unix:path={HERE}/tmp/bus</listen><auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/></policy></busconfig>"#
        );
        std::fs::write(host.dir.join("tmp/bus.conf"), config)?;
        host.sh("mkdir -p /run/dbus")?;
        let mut command = host.command("dbus-daemon");
        command.args([&format!("--config-file={HERE}/tmp/bus.conf"), "--nofork", "--nopidfile"]);
        let daemon = Process::start(command, &host.logs.join(format!("{}.bus.log", host.name)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = format!("unix:path={}", host.short.join("tmp/bus").display());
        let (connection, _) = wait::until("the bus to listen", Duration::from_secs(10), || {
            let builder = zbus::connection::Builder::address(address.as_str())
                .name("org.freedesktop.NetworkManager")
                .serve_at("/org/freedesktop/NetworkManager", NetworkManager { metered: 4 });
            Ok(runtime.block_on(builder.build()).ok())
        })?;
        Ok(Self { runtime, connection, _daemon: daemon })
    }

    fn says(&self, metered: u32) -> Result<()> {
        self.runtime.block_on(async {
            let object = self.connection.object_server();
            let manager = object.interface::<_, NetworkManager>("/org/freedesktop/NetworkManager").await?;
            let mut inner = manager.get_mut().await;
            inner.metered = metered;
            inner.metered_changed(manager.signal_emitter()).await?;
            anyhow::Ok(())
        })
    }
}

fn metered(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let bus = Bus::start(&a)?;
    let (on_a, info, target) = sharing(ctx, &a, &Settings::new(ctx).set("share.upload_limit", "2MB"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let at_a = Administrator::of(&on_a)?;
    ctx.check("nothing is paused", at_a.does(Control::status)?.uploads_paused.is_none(), "it is");
    let set = ctx.world.pieces()?;
    let other = set.named("piece-2m")?;
    set.install_some(&a, &[other], Signed::Yes)?;
    let narinfo = format!("/{}.narinfo", other.path.hash());
    let at_b = |what: &str, status: u16| {
        wait::until_true(what, HEARD, || Ok(gateway_get(ctx, &b, &narinfo)?.0.status == status)).map(drop)
    };
    at_b("the other machine to have a source", 200)?;

    let mut client = Client::connect(&b, &format!("{}:{PORT}", a.address()))?;
    let head = client.request("GET", &target, &[])?;
    let mut said = None;
    let body = client.body(&head, |offset, _| {
        if offset > info.nar_size / 8 && said.is_none() {
            said = Some(Instant::now());
            bus.says(1)?;
        }
        Ok(())
    })?;
    let stopped = said.context("it was too fast")?.elapsed();
    ctx.check("what was on its way is cut off", !body.complete, "it came to its end");
    ctx.measure("from the word that it is metered until nothing leaves", stopped.as_secs_f64(), "s", PAUSE_LIMIT);
    let why = at_a.does(Control::status)?.uploads_paused;
    ctx.check("the status says why", why.as_deref() == Some("the connection is metered"), &format!("{why:?}"));
    let sent = a.sent()?;
    let (head, _) = Client::connect(&b, &format!("{}:{PORT}", a.address()))?.get(&target)?;
    ctx.check("what is asked for meanwhile is not sent", head.status == 404, &head.status.to_string());
    wait::pass(Duration::from_millis(500));
    ctx.measure("what leaves meanwhile", (a.sent()? - sent) as f64 / 1e3, "kB", 100.0);

    at_b("the other machine to have no source", 404)?;
    let (head, _) = Client::connect(&b, &format!("{}:{PORT}", a.address()))?.get(&narinfo)?;
    ctx.check("nothing is promised meanwhile", head.status == 404, &head.status.to_string());

    bus.says(2)?;
    wait::until_true("the share to go on", Duration::from_secs(5), || {
        Ok(at_a.does(Control::status)?.uploads_paused.is_none())
    })?;
    let (head, body) = Client::connect(&b, &format!("{}:{PORT}", a.address()))?.time(&target)?;
    ctx.check("afterwards it is", head.status == 200 && body.hash == info.nar_hash, &head.status.to_string());
    at_b("the other machine to have a source again", 200)?;
    let nar = format!("/nar/{}-{}.nar", other.path.hash(), other.nar_hash.to_nix32());
    let (head, body) = Client::gateway(ctx, &b)?.time(&nar)?;
    ctx.check("it gets all of it", head.status == 200 && body.hash == other.nar_hash, &head.status.to_string());
    on_b.stop()?;
    on_a.stop()
}

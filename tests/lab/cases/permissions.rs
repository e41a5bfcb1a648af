//! Stores that cannot simply be read: as nobody, beside a writer, through the daemon only, or not there at all.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, gateway_get};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings, Start};
use crate::real_nix::{self, CLIENT_MAGIC, Generation};
use crate::store::Signed;

/// As `[share] plain_listen` says.
const PLAIN: &str = "127.0.0.1:5000";

const NOBODY: Start =
    Start { unprivileged: true, http_proxy: None, own_certificates: false, credentials: false, program: None };

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("permissions/store-missing", store_missing)];
    cases.extend(Generation::ALL.map(|generation| {
        let name = format!("permissions/beside-a-writer/nix-{}", generation.version());
        Case::new(name, move |ctx| beside_a_writer(ctx, generation)).needing(Need::Nix(generation))
    }));
    cases.extend(Generation::ALL.map(|generation| {
        let name = format!("permissions/database-unreadable/nix-{}", generation.version());
        Case::new(name, move |ctx| database_unreadable(ctx, generation)).needing(Need::Nix(generation))
    }));
    cases.extend(Generation::ALL.map(|generation| {
        let name = format!("permissions/daemon-protocol/nix-{}", generation.version());
        Case::new(name, move |ctx| daemon_protocol(ctx, generation)).needing(Need::Nix(generation))
    }));
    cases.push(Case::new("permissions/no-daemon", no_daemon));
    cases.push(Case::new("permissions/started-by-root", started_by_root));
    cases
}

/// A share on a plain port: what is in the store can be asked for without a second machine.
fn plain_share(ctx: &Ctx) -> Settings {
    Settings::new(ctx).set("share.plain_listen", "[::]:5000")
}

/// Fetches one path through a plain share and compares it.
fn fetch(host: &Host, info: &peernix::nix::PathInfo) -> Result<Duration> {
    let mut client = Client::connect(host, PLAIN)?;
    let (head, body) = client.get(&format!("/{}.narinfo", info.path.hash()))?;
    ensure!(head.status == 200, "narinfo of {}: {}", info.path, head.status);
    let text = String::from_utf8(body)?;
    ensure!(text.contains(&info.nar_hash.to_string()), "another NarHash than {}: {text}", info.nar_hash);
    let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap_or_default().to_owned();
    let (nar_head, nar) = client.time(&format!("/{url}"))?;
    ensure!(nar_head.status == 200 && nar.hash == info.nar_hash, "NAR of {}: {} bytes", info.path, nar.bytes);
    Ok(head.time)
}

/// As nobody, with a program that writes to the database all the time: new paths are seen at once.
fn beside_a_writer(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let set = ctx.world.many()?;
    let first: Vec<_> = set.paths.iter().take(20).collect();
    set.install_some(&a, &first, Signed::Yes)?;
    let daemon = real_nix::daemon(&a, generation)?;
    let on_a = Peernixd::start_as(ctx, &a, &plain_share(ctx), NOBODY)?;
    fetch(&a, first[0])?;
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        // Adds one path after the other: a transaction each time.
        let writer = scope.spawn(|| {
            let mut writes = 0;
            while !stop.load(Ordering::Relaxed) {
                a.sh(&format!("echo {writes} >/run/host/tmp/note; nix-store --add /run/host/tmp/note"))?;
                writes += 1;
            }
            anyhow::Ok(writes)
        });
        let mut slowest = Duration::ZERO;
        let result = (|| {
            for (number, info) in set.paths.iter().enumerate().skip(20).take(10) {
                set.install_some(&a, &[info], Signed::Yes)?;
                slowest = slowest.max(fetch(&a, info)?);
                slowest = slowest.max(fetch(&a, first[number % 20])?);
            }
            anyhow::Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let writes = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        result.map(|()| (slowest, writes))
    });
    let (slowest, writes) = outcome?;
    ctx.note("transactions of the writer meanwhile", writes?, "");
    ctx.measure("slowest narinfo beside it", slowest.as_secs_f64(), "s", 1.0);
    on_a.stop()?;
    drop(daemon);
    Ok(())
}

/// What the kernel says of a process: whose it is, and the capabilities that it has or could have again.
fn privileges(on: &Peernixd<'_>) -> Result<(String, Vec<String>)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", on.process.pid()))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim().to_owned()).with_context(|| format!("no {name}"))
    };
    let capabilities = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:", "CapBnd:"].map(field);
    Ok((field("Uid:")?, capabilities.into_iter().collect::<Result<_>>()?))
}

/// Root starts it by hand: it has no capability left, and is the user `peernix` where there is one.
fn started_by_root(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let nothing = |capabilities: &[String]| capabilities.iter().all(|set| set.trim_matches('0').is_empty());
    let on_a = Peernixd::start(ctx, &a, &plain_share(ctx))?;
    let (uid, capabilities) = privileges(&on_a)?;
    ctx.check("without a user of its own it stays root", uid.starts_with("0\t0"), &uid);
    ctx.check("it has no capability", nothing(&capabilities), &format!("{capabilities:?}"));
    fetch(&a, info)?;
    let id = on_a.node_id()?;
    on_a.stop()?;

    a.sh("for file in passwd group; do cp /etc/$file /run/host/tmp/$file; done
         echo 'peernix:x:4242:4242::/nonexistent:/bin/false' >>/run/host/tmp/passwd
         echo 'peernix:x:4242:' >>/run/host/tmp/group
         for file in passwd group; do mount --bind /run/host/tmp/$file /etc/$file; done")?;
    let on_a = Peernixd::start(ctx, &a, &plain_share(ctx))?;
    let (uid, capabilities) = privileges(&on_a)?;
    ctx.check("with one it is that user", uid.split_whitespace().all(|id| id == "4242"), &uid);
    ctx.check("it has no capability then either", nothing(&capabilities), &format!("{capabilities:?}"));
    ctx.check("it says so", on_a.log().contains("goes on as the user peernix"), &on_a.log());
    ctx.check("it has the identity that it had", on_a.node_id()? == id, "another one");
    fetch(&a, info)?;
    on_a.stop()
}

/// Nobody may read the database: the daemon is asked instead.
fn database_unreadable(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let infos = [set.named("piece-2m")?, set.named("with-reference")?];
    set.install_some(&a, &infos, Signed::Yes)?;
    let daemon = real_nix::daemon(&a, generation)?;
    std::fs::set_permissions(a.dir.join("nix/var/nix/db"), PermissionsExt::from_mode(0o700))?;
    let on_a = Peernixd::start_as(ctx, &a, &plain_share(ctx), NOBODY)?;
    for info in infos {
        fetch(&a, info)?;
    }
    // And another machine, by way of TLS and gateway.
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    real_nix::realise(ctx, &b, Generation::Machine, "b", &format!("/nix/store/{}", infos[0].path))?
        .must("via daemon")?;
    let log = on_a.log();
    let said = log.lines().find(|line| line.to_lowercase().contains("daemon"));
    ctx.check("the log says that the daemon is asked", said.is_some(), "no word about it");
    ctx.note("it says", said.unwrap_or_default(), "");
    on_b.stop()?;
    on_a.stop()?;
    drop(daemon);
    Ok(())
}

/// What a daemon of this Nix announces, and that we offer nothing that none of them speaks: whoever does finds out what the next
/// version is about when it is there.
fn daemon_protocol(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let piece = ctx.world.pieces()?.named("piece-2m")?;
    let mut newest = 0;
    for one in Generation::ALL.into_iter().filter(|one| *one == generation || one.lacking().is_none()) {
        let daemon = real_nix::daemon(&a, one)?;
        let mut stream = UnixStream::connect(a.short.join("nix/var/nix/daemon-socket/socket"))?;
        stream.write_all(&[CLIENT_MAGIC, NEWEST_EVER].map(u64::to_le_bytes).concat())?;
        let announced = second_number(&mut stream)?;
        newest = newest.max(announced);
        if one == generation {
            ctx.note("its daemon announces", version(announced), "");
        }
        drop(daemon);
        // So that the next one is not taken for there before it is.
        std::fs::remove_file(a.short.join("nix/var/nix/daemon-socket/socket"))?;
    }
    // In the place of a daemon, to hear what ours offers one.
    ctx.world.pieces()?.install_some(&b, &[piece], Signed::Yes)?;
    std::fs::set_permissions(b.dir.join("nix/var/nix/db"), PermissionsExt::from_mode(0o700))?;
    let place = b.short.join("nix/var/nix/daemon-socket");
    std::fs::create_dir_all(&place)?;
    let listener = UnixListener::bind(place.join("socket"))?;
    std::fs::set_permissions(place.join("socket"), PermissionsExt::from_mode(0o666))?;
    let heard = std::thread::spawn(move || second_number(&mut listener.accept()?.0));
    let on_b = Peernixd::start_as(ctx, &b, &plain_share(ctx), NOBODY)?;
    // Whatever it says: the daemon was asked for it.
    let (_answer, _) = Client::connect(&b, PLAIN)?.get(&format!("/{}.narinfo", piece.path.hash()))?;
    let offered = heard.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
    ctx.note("we offer", version(offered), "");
    ctx.check("no more than the newest of them speaks", offered <= newest, &version(newest));
    on_b.stop()
}

/// A version of the worker protocol that is above all to come.
const NEWEST_EVER: u64 = 0x01ff;

/// The version behind the magic number.
fn second_number(stream: &mut UnixStream) -> Result<u64> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut greeting = [[0; 8]; 2];
    for number in &mut greeting {
        stream.read_exact(number)?;
    }
    Ok(u64::from_le_bytes(greeting[1]))
}

fn version(number: u64) -> String {
    format!("{}.{}", number >> 8, number & 0xff)
}

/// The database is readable, but there is no daemon to take temporary roots from: it serves.
fn no_daemon(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let a = network.host("a")?;
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &plain_share(ctx))?;
    fetch(&a, info)?;
    let log = on_a.log();
    let said = log.lines().find(|line| line.to_lowercase().contains("daemon"));
    ctx.note("it says", said.unwrap_or_default(), "");
    on_a.stop()
}

/// No Nix on the machine: the gateway answers, nothing is shared, and the log says what is missing.
fn store_missing(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&b, &[info], Signed::Yes)?;
    std::fs::remove_dir_all(a.dir.join("nix/store"))?;
    std::fs::remove_dir_all(a.dir.join("nix/var"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    let start = Instant::now();
    let on_a = Peernixd::start(ctx, &a, &plain_share(ctx))?;
    ctx.measure("ready without a store", start.elapsed().as_secs_f64(), "s", 2.0);
    let (head, body) = gateway_get(ctx, &a, "/nix-cache-info")?;
    ctx.check("the gateway answers", head.status == 200, &String::from_utf8_lossy(&body));
    on_a.wait_online(1, Duration::from_secs(10))?;
    // What others have is still to be had.
    let (head, _) = gateway_get(ctx, &a, &format!("/{}.narinfo", info.path.hash()))?;
    ctx.check("the gateway fetches from peers", head.status == 200, &head.status.to_string());
    let (head, _) = Client::connect(&a, PLAIN)?.get(&format!("/{}.narinfo", info.path.hash()))?;
    ctx.check("the share has nothing", head.status == 404, &head.status.to_string());
    let log = on_a.log();
    let said = log.lines().find(|line| line.contains("/nix") && (line.contains("WARN") || line.contains("ERROR")));
    ctx.check("the log says what is missing", said.is_some(), "no warning that names a path");
    ctx.note("it says", said.unwrap_or_default(), "");
    on_a.stop()?;
    on_b.stop()
}

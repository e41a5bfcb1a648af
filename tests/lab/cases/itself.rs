//! The lab's own machinery: cables that can be cut, three Nixes that work, and a log reader that sees every failure. A lab that
//! could not notice a retry would prove nothing by seeing none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use peernix::nix::NarHash;
use sha2::{Digest, Sha256};

use super::Case;
use crate::byte_server::{End, Reply, Request, Servers};
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::GATEWAY;
use crate::internet::{cut, flat_cache};
use crate::liar::{FakePeer, Fault, Goods, Manner, SHARE_PORT};
use crate::needs::Need;
use crate::real_nix::{self, Generation};
use crate::tls;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("lab/cables", cables).needing(Need::Nft),
        Case::new("lab/store", store),
        Case::new("lab/fake-peer", fake_peer),
    ];
    cases.extend(Generation::ALL.map(|generation| {
        let name = format!("lab/nix-{}-sees-faults", generation.version());
        Case::new(name, move |ctx| faults_are_seen(ctx, generation)).needing(Need::Nix(generation))
    }));
    cases
}

/// Bytes that get from one host to another within a time.
fn transfer(from: &Host, to: &Host, bytes: usize, limit: Duration) -> Result<Option<Duration>> {
    let listener = from.enter(|| TcpListener::bind("0.0.0.0:9000").context("listening"))?;
    let address = format!("{}:9000", from.address()).parse()?;
    let start = Instant::now();
    let Ok(mut stream) = to.enter(|| Ok(TcpStream::connect_timeout(&address, limit)?)) else { return Ok(None) };
    std::thread::scope(|scope| {
        scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_write_timeout(Some(limit))?;
            Ok(stream.write_all(&vec![0; bytes])?)
        });
        stream.set_read_timeout(Some(limit))?;
        let mut buffer = vec![0; bytes];
        Ok(stream.read_exact(&mut buffer).is_ok().then(|| start.elapsed()))
    })
}

fn cables(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let short = Duration::from_millis(300);
    let free = transfer(&a, &b, 1 << 20, Duration::from_secs(5))?.context("nothing passes an intact cable")?;
    ctx.measure("1 MiB through the bridge", free.as_secs_f64(), "s", 1.0);
    let sent = a.sent()?;
    ctx.check("sent bytes are counted", sent > 1 << 20, &sent.to_string());
    a.slow(20)?;
    let slow = transfer(&a, &b, 1 << 20, Duration::from_secs(5))?.context("nothing passes a slow cable")?;
    // 8.4 Mbit less the 64 KiB of burst at 20 Mbit/s.
    ctx.check("20 Mbit/s are 20 Mbit/s", (0.3..0.7).contains(&slow.as_secs_f64()), &format!("{slow:?}"));
    a.fast()?;
    a.lose(100)?;
    ctx.check("what is lost does not arrive", transfer(&a, &b, 10, short)?.is_none(), "it did");
    a.sh("nft delete table inet lab")?;
    a.port.plug(false)?;
    ctx.check("unplugged, nothing passes", transfer(&a, &b, 10, short)?.is_none(), "it did");
    let carrier = a.sh("cat /sys/class/net/eth0/carrier || true")?;
    ctx.check("unplugged, the carrier is gone", carrier.trim() != "1", &carrier);
    a.port.plug(true)?;
    transfer(&a, &b, 10, Duration::from_secs(5))?.context("plugged in again, nothing passes")?;
    a.port.cut()?;
    ctx.check("cut off, nothing passes", transfer(&a, &b, 10, short)?.is_none(), "it did");
    ctx.check("cut off, the carrier stays", a.sh("cat /sys/class/net/eth0/carrier")?.trim() == "1", "it is gone");
    Ok(())
}

/// The generator's paths are what Nix holds them for, and the lab's signatures count.
fn store(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let host = network.host("a")?;
    let set = ctx.world.closure()?;
    let start = Instant::now();
    set.install(&host)?;
    ctx.measure("installing the closure on a host", start.elapsed().as_secs_f64(), "s", None);
    let bytes: u64 = set.paths.iter().map(|info| info.nar_size).sum();
    ctx.note("paths of the closure", set.paths.len(), "");
    ctx.measure("NARs of the closure", bytes as f64 / 1e6, "MB", None);
    real_nix::verify_store(&host, Generation::Machine)?;
    // Fails on a missing or wrong signature.
    host.sh("nix store verify --all --sigs-needed 1 --no-contents")?;
    let dump = format!("nix-store --dump /nix/store/{} | sha256sum", set.named("odd+names_2.0?-=")?.path);
    let theirs = host.sh(&dump)?;
    let ours = set.named("odd+names_2.0?-=")?.nar_hash;
    let ours: String = ours.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(theirs.starts_with(&ours), "our NAR of the odd names has {ours}, Nix's {theirs}");
    Ok(())
}

/// A fake peer without a lie is a good peer, and one with a lie is not.
fn fake_peer(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (host, other) = (network.host("a")?, network.host("b")?);
    let goods = Goods::of(ctx.world.pieces()?, "piece-2m")?;
    let info = goods.info.clone();
    let narinfo = format!("/{}.narinfo", info.path.hash());
    let nar = format!("/nar/{}-{}.nar", info.path.hash(), info.nar_hash.to_nix32());
    let node = tls::Node::new([3; 32])?;
    for (fault, right) in [(Fault::Honest, true), (Fault::FlippedBit, false)] {
        let peer = FakePeer::start(&host, 1, vec![goods.clone()], Manner::lying(fault))?;
        let address = (host.address(), SHARE_PORT);
        let stream = other.enter(|| Ok(TcpStream::connect((address.0.as_str(), address.1))?))?;
        let mut stream = node.connect(stream)?;
        let (status, hello) = tls::get(&mut stream, "/peernix/v1/hello")?;
        ensure!(status == 200 && String::from_utf8_lossy(&hello).contains(&peer.id.to_string()), "hello: {status}");
        let (status, text) = tls::get(&mut stream, &narinfo)?;
        let text = String::from_utf8(text)?;
        ensure!(status == 200 && text.contains("\nSig: lab-1:"), "narinfo: {status} {text}");
        let (status, content) = tls::get(&mut stream, &nar)?;
        let hash = NarHash::new(Sha256::digest(&content).into());
        ctx.check(&format!("{fault:?}: the NAR"), status == 200 && (hash == info.nar_hash) == right, &hash.to_string());
    }
    Ok(())
}

/// A cache in the gateway's place misbehaves, and the log reader has to notice.
fn faults_are_seen(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (maker, host) = (network.host("maker")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&maker, &[info], crate::store::Signed::Yes)?;
    let path = format!("/nix/store/{}", info.path);
    let dir = flat_cache(&maker, "cache", "none", std::slice::from_ref(&path))?;
    let step = Arc::new(AtomicUsize::new(0));
    let nars = Arc::clone(&step);
    let respond = move |request: &Request| {
        let file = dir.join(request.target.trim_start_matches('/'));
        let Ok(content) = std::fs::read(file) else { return Reply::new(404, "") };
        let honest = Reply::file(request, &content.into());
        if !request.target.starts_with("/nar/") {
            return honest;
        }
        match nars.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::new(503, ""),
            1 => cut(honest, 1 << 20, End::Close),
            _ => honest,
        }
    };
    let servers = Servers::new()?;
    let listener = host.enter(|| TcpListener::bind(GATEWAY).context("the gateway's place"))?;
    let asked = servers.plain(listener, Arc::new(respond))?;
    let args = ["nix-store", "--realise", path.as_str()];
    let run = real_nix::start(ctx, &host, generation, "b", &args, real_nix::Retries::Allowed)?;
    let run = run.finish_unjudged(Duration::from_secs(60))?.must("two faults that it survives")?;
    let count = |status: u16| run.statuses.get(&status).copied().unwrap_or_default();
    ctx.note("statuses seen", format!("{:?}", run.statuses), "");
    ctx.check("the 503 is seen", count(503) == 1, &format!("{:?}", run.statuses));
    ctx.check("the retries are seen", run.retries == 2, &run.retries.to_string());
    ctx.check("the rest is asked for by Range", asked.count(" from ") == 1, &format!("{:?}", asked.all()));
    real_nix::verify_store(&host, generation)?;
    ctx.check("the path is valid", real_nix::is_valid(&host, &path)?, "it is not");
    Ok(())
}

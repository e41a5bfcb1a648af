//! Many connections, much nonsense, large files: nothing breaks, nothing leaks, memory stays small.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use peernix::nix::PathInfo;

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::Client;
use crate::liar::SHARE_PORT;
use crate::peer::{Peernixd, Settings};
use crate::store::Signed;
use crate::world::SLIVERS;
use crate::{tls, wait};

/// Connections at once.
const CONNECTIONS: usize = 1000;

/// Connections from one address that may have 128.
const GREEDY: usize = 300;

/// Malformed requests in all.
const MALFORMED: usize = 100_000;
const LONG_MALFORMED: usize = 1_000_000;

/// What the daemon may occupy while it streams.
const RSS_LIMIT_MIB: f64 = 64.0;
/// The same without the pages of the program's file, which are more in a build for tests.
const OWN_MEMORY_LIMIT_MIB: f64 = 72.0;
/// With a thousand connections over TLS. Where libraries are not optimised either, each takes more: 66 to 76 MiB were seen.
const TLS_MEMORY_LIMIT_MIB: f64 = if cfg!(debug_assertions) { 90.0 } else { OWN_MEMORY_LIMIT_MIB };
/// By how much it may grow in a round of connections.
const GROWTH_LIMIT_MIB: f64 = 4.0;

/// Files and sockets that may come and go by themselves (mDNS, a database connection more).
const FILES_SLACK: usize = 8;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("load/1000-connections", connections).alone(),
        // Whoever got a place has two seconds to ask.
        Case::new("load/limits", limits).quiet(),
        Case::new("load/slow-line", slow_line).early(),
        Case::new("load/malformed-requests", malformed).quiet().limit(240),
        Case::new("load/memory-of-the-share", memory_of_the_share).quiet().limit(240),
        Case::new("load/memory-of-the-gateway", memory_of_the_gateway).quiet().limit(240),
    ]
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The share on a plain port as well, open to a thousand connections from one address.
fn open_share(ctx: &Ctx) -> Settings {
    Settings::new(ctx)
        .set("log.level", "info")
        .set("share.plain_listen", "[::]:5000")
        .set("share.max_connections", 4096)
        .set("limits.per_address", 4096)
}

/// Waits until the daemon has about as many files open as before.
fn files_back(ctx: &Ctx, peernixd: &Peernixd<'_>, before: usize) -> Result<()> {
    let closed = wait::until_true("all connections to be closed", Duration::from_secs(15), || {
        Ok(peernixd.open_files()? <= before + FILES_SLACK)
    });
    let now = peernixd.open_files()?;
    ctx.check("no file or socket is left open", closed.is_ok(), &format!("{before} before, {now} after"));
    Ok(())
}

fn connections(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &open_share(ctx))?;
    let target = format!("/{}.narinfo", info.path.hash());
    let node = tls::Node::new([3; 32])?;
    // Once each, so that what is made on first use is there.
    tls::get(&mut connect(&a, &b, 5000)?, &target)?;
    tls::get(&mut node.connect(connect(&a, &b, SHARE_PORT)?)?, &target)?;
    let files = on_a.open_files()?;
    let rss = on_a.rss()?;
    on_a.reset_peak()?;

    let start = Instant::now();
    let mut plain = (0..CONNECTIONS).map(|_| connect(&a, &b, 5000)).collect::<Result<Vec<_>>>()?;
    let statuses = all(&mut plain, &target);
    ctx.note("plain: answers", format!("{statuses:?}"), "");
    ctx.check("plain: all of them 200", statuses.get("200") == Some(&CONNECTIONS), &format!("{statuses:?}"));
    ctx.measure("plain: 1,000 connections with a request each", start.elapsed().as_secs_f64(), "s", None);
    ctx.measure("plain: own memory with 1,000 connections", mib(on_a.own_memory()?), "MiB", OWN_MEMORY_LIMIT_MIB);
    drop(plain);
    files_back(ctx, &on_a, files)?;

    let start = Instant::now();
    let multiplexed = node.multiplexed();
    let mut secret = (0..CONNECTIONS)
        .map(|_| multiplexed.connect(connect(&a, &b, SHARE_PORT)?))
        .collect::<Result<Vec<_>>>()
        .context("TLS")?;
    let answers: Vec<_> = secret.iter_mut().map(|stream| tls::get_multiplexed(stream, &target)).collect();
    let found = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
    let failed = answers.iter().find(|answer| !matches!(answer, Ok(200)));
    ctx.check("HTTP/2: all of them 200", found == CONNECTIONS, &format!("{found}, then {failed:?}"));
    ctx.measure("HTTP/2: 1,000 connections with a request each", start.elapsed().as_secs_f64(), "s", None);
    ctx.measure("HTTP/2: own memory with 1,000 connections", mib(on_a.own_memory()?), "MiB", OWN_MEMORY_LIMIT_MIB);
    drop(secret);
    files_back(ctx, &on_a, files)?;

    // Several times: what the first rounds leave in the allocator, a later one must find there. What is lost with every
    // connection is lost in every round.
    let (mut left, mut grown, mut own) = (Vec::new(), f64::INFINITY, Vec::new());
    for round in ["first", "second", "third", "fourth", "fifth"] {
        let start = Instant::now();
        let mut secret = (0..CONNECTIONS)
            .map(|_| node.connect(connect(&a, &b, SHARE_PORT)?))
            .collect::<Result<Vec<_>>>()
            .context("TLS")?;
        let statuses = all(&mut secret, &target);
        ctx.check(
            &format!("TLS, {round} round: all of them 200"),
            statuses.get("200") == Some(&CONNECTIONS),
            &format!("{statuses:?}"),
        );
        let what = format!("TLS, {round} round: 1,000 connections with a request each");
        ctx.measure(&what, start.elapsed().as_secs_f64(), "s", None);
        let memory = mib(on_a.own_memory()?);
        ctx.measure(&format!("TLS, {round} round: own memory with 1,000 connections"), memory, "MiB", None);
        own.push(memory);
        drop(secret);
        files_back(ctx, &on_a, files)?;
        left.push(mib(on_a.rss()?));
        if let [_, .., before, now] = left[..] {
            grown = now - before;
            if grown <= GROWTH_LIMIT_MIB {
                break;
            }
        }
    }
    // What the allocator has not given back of earlier rounds is counted as well, 45 to 77 MiB in one run: the least is what they need.
    let least = own.into_iter().fold(f64::INFINITY, f64::min);
    ctx.measure("TLS: own memory with 1,000 connections, the least", least, "MiB", TLS_MEMORY_LIMIT_MIB);
    ctx.measure("RSS grown in the last round", grown, "MiB", GROWTH_LIMIT_MIB);
    ctx.measure("RSS before", mib(rss), "MiB", None);
    ctx.measure("own memory afterwards", mib(on_a.own_memory()?), "MiB", None);
    on_a.stop()
}

fn connect(to: &Host, from: &Host, port: u16) -> Result<TcpStream> {
    let address = (to.address(), port);
    let stream = from.enter(|| TcpStream::connect((address.0.as_str(), address.1)).context("connecting"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// One request on every stream; how often each status or failure came.
fn all(streams: &mut [impl Read + Write], target: &str) -> BTreeMap<String, usize> {
    let mut statuses = BTreeMap::new();
    for stream in streams {
        let answer = match tls::get(stream, target) {
            Ok((status, _)) => status.to_string(),
            Err(error) => format!("{error:#}"),
        };
        *statuses.entry(answer).or_default() += 1;
    }
    statuses
}

/// The limits as delivered: one address cannot take all connections, the others are served meanwhile, and of the one nobody is
/// turned away: its next ones wait until one is idle. The journal says so once.
fn limits(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b, c) = (network.host("a")?, network.host("b")?, network.host("c")?);
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let settings = Settings::new(ctx).set("share.plain_listen", "[::]:5000").set("limits.header_timeout", "2s");
    let on_a = Peernixd::start(ctx, &a, &settings)?;
    let target = format!("/{}.narinfo", info.path.hash());
    let mut greedy = (0..GREEDY).map(|_| connect(&a, &b, 5000)).collect::<Result<Vec<_>>>()?;
    let (status, _) = tls::get(&mut connect(&a, &c, 5000)?, &target)?;
    ctx.check("another address is served meanwhile", status == 200, &status.to_string());
    let open = "peernix_http_connections{face=\"share\"} ";
    let metrics = on_a.metrics()?;
    let open = metrics.lines().find_map(|line| line.strip_prefix(open)).and_then(|count| count.parse::<usize>().ok());
    ctx.check("no more than 128 of them are open", open.is_some_and(|open| open <= 129), &format!("{open:?}"));
    let statuses = all(&mut greedy, &target);
    ctx.check("all of them are served", statuses.get("200") == Some(&GREEDY), &format!("{statuses:?}"));
    drop(greedy);
    let said = on_a.log().lines().filter(|line| line.contains("a connection has to wait")).count();
    ctx.check("the journal says that they wait", said >= 1, &said.to_string());
    // Somebody who never ends the head of a request is not waited for.
    let mut slow = connect(&a, &c, 5000)?;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n")?;
    let start = Instant::now();
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest);
    let _ = ended;
    ctx.measure("until an endless head is given up", start.elapsed().as_secs_f64(), "s", 4.0);
    on_a.stop()
}

/// A request that is wrong, and the statuses that say so; a closed connection always does.
struct Wrong {
    bytes: Vec<u8>,
    right: &'static [u16],
}

/// Many transfers at once from a peer that may send little: each gets next to nothing, and all of them come to their end.
fn slow_line(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.pieces()?;
    let slivers =
        (0..SLIVERS).map(|number| set.named(&format!("sliver-{number}"))).collect::<Result<Vec<&PathInfo>>>()?;
    set.install_some(&a, &slivers, Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &Settings::new(ctx).set("share.upload_limit", "64KiB"))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let b = &b;
        let readers = slivers.iter().map(|info| {
            scope.spawn(move || {
                let target = nar_target(ctx, b, &info.path.hash().to_string())?;
                Client::gateway(ctx, b)?.time(&target)
            })
        });
        for (reader, info) in readers.collect::<Vec<_>>().into_iter().zip(&slivers) {
            let (head, body) = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            ensure!(head.status == 200, "{}: {}", info.path, head.status);
            ensure!(body.hash == info.nar_hash, "{}: {} bytes", info.path, body.bytes);
        }
        Ok(())
    })?;
    ctx.measure("all of them at 64 KiB/s", start.elapsed().as_secs_f64(), "s", None);
    on_b.stop()?;
    on_a.stop()
}

fn wrong_requests(hash: &str) -> Vec<Wrong> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: lab\r\n\r\n").into_bytes();
    let with = |header: &str| format!("GET /{hash}.narinfo HTTP/1.1\r\nHost: lab\r\n{header}\r\n\r\n").into_bytes();
    let wrong = |bytes: Vec<u8>, right: &'static [u16]| Wrong { bytes, right };
    const NOT_HERE: &[u16] = &[400, 404];
    const BAD: &[u16] = &[400];
    let odd_targets = [
        "//",
        "/..",
        "/../../etc/passwd",
        "/nar/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/nar/",
        "/nar/x.nar",
        "/short.narinfo",
        "/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee.narinfo",
        "/ABCDFGHIJKLMNPQRSVWXYZ0123456789.narinfo",
        "/.narinfo",
        "/log/",
        "/log/../x",
        "/debuginfo/zz",
        "/realisations/x",
        "/build-trace-v2/x/y",
        "/peernix/v1/",
        "/peernix/v9/hello",
        "/%00",
        "/%zz",
        "/nix-cache/nix-cache/nix-cache-info",
        "http://elsewhere/nix-cache-info/x",
    ];
    let mut list: Vec<Wrong> = odd_targets.iter().map(|target| wrong(get(target), NOT_HERE)).collect();
    list.push(wrong(get(&format!("/{hash}.narinfo/x")), NOT_HERE));
    list.push(wrong(get(&format!("/nar/{hash}-{}.nar", "0".repeat(52))), NOT_HERE));
    list.push(wrong(get(&format!("/{}", "a".repeat(7000))), &[400, 404, 414]));
    list.push(wrong(get(&format!("/{}", "a".repeat(100_000))), &[400, 414, 431]));
    list.push(wrong(with(&format!("X-Long: {}", "x".repeat(100_000))), &[400, 431]));
    list.push(wrong(with(&"X-Many: y\r\n".repeat(500)), &[400, 431]));
    list.push(wrong(format!("POST /{hash}.narinfo HTTP/1.1\r\nHost: lab\r\n\r\n").into_bytes(), &[405, 404, 400]));
    list.push(wrong(b"PUT /x.narinfo HTTP/1.1\r\nHost: lab\r\nContent-Length: 3\r\n\r\nabc".into(), &[405, 404, 400]));
    list.push(wrong(b"BREW / HTTP/1.1\r\nHost: lab\r\n\r\n".into(), &[405, 404, 400]));
    list.push(wrong(b"\0\0\0\0\r\n\r\n".into(), BAD));
    list.push(wrong(b"GET\r\n\r\n".into(), BAD));
    list.push(wrong(b"GET / HTTP/9.9\r\n\r\n".into(), &[400, 505]));
    list.push(wrong(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n".into(), BAD));
    list.push(wrong(b"GET / HTTP/1.1\r\nno colon\r\n\r\n".into(), BAD));
    list.push(wrong(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".into(), BAD));
    list.push(wrong(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), BAD));
    list.push(wrong(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[400, 505]));
    list.push(wrong(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(10), BAD));
    list
}

/// Ranges of a NAR that make no sense, and what becomes of each.
fn odd_ranges(nar: &str, size: u64) -> Vec<Wrong> {
    let with = |range: String| format!("HEAD {nar} HTTP/1.1\r\nHost: lab\r\nRange: {range}\r\n\r\n").into_bytes();
    let wrong = |range: String, right: &'static [u16]| Wrong { bytes: with(range), right };
    // RFC 9110: a Range that is not understood is ignored; one outside of the content is 416. HEAD may ignore both.
    vec![
        wrong(format!("bytes={size}-"), &[416, 200]),
        wrong("bytes=99999999999999999999999-".into(), &[416, 200]),
        wrong("bytes=5-2".into(), &[200, 416]),
        wrong("bytes=-0".into(), &[416, 200]),
        wrong("bytes=0-1,5-9".into(), &[200, 206]),
        wrong("lines=1-2".into(), &[200]),
        wrong("bytes".into(), &[200]),
        wrong("bytes=a-b".into(), &[200]),
    ]
}

fn malformed(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    b.sh("echo 1024 65000 >/proc/sys/net/ipv4/ip_local_port_range")?;
    let set = ctx.world.pieces()?;
    let info = set.named("piece-2m")?;
    set.install_some(&a, &[info], Signed::Yes)?;
    let on_a = Peernixd::start(ctx, &a, &open_share(ctx))?;
    let hash = info.path.hash().to_string();
    let nar = format!("/nar/{hash}-{}.nar", info.nar_hash.to_nix32());
    let mut list = wrong_requests(&hash);
    list.extend(odd_ranges(&nar, info.nar_size));
    let round = |count: usize| -> Result<BTreeMap<String, usize>> {
        let threads = 4;
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..threads).map(|_| scope.spawn(|| b.enter(|| nonsense(&a, &list, count / threads)))).collect();
            let mut sum = BTreeMap::new();
            for worker in workers {
                let part: BTreeMap<String, usize> = worker.join().map_err(|_| anyhow::anyhow!("a panic"))??;
                for (answer, count) in part {
                    *sum.entry(answer).or_default() += count;
                }
            }
            Ok(sum)
        })
    };
    // A first round for everything that is made once.
    round(4000)?;
    wait::pass(Duration::from_secs(1));
    let (files, rss) = (on_a.open_files()?, on_a.rss()?);
    let total = if ctx.long { LONG_MALFORMED } else { MALFORMED };
    let start = Instant::now();
    let answers = round(total)?;
    let seconds = start.elapsed().as_secs_f64();
    ctx.note("answers", format!("{answers:?}"), "");
    ctx.measure("malformed requests", total as f64, "requests", None);
    ctx.measure("requests per second", total as f64 / seconds, "1/s", None);
    let wrong: Vec<&String> = answers.keys().filter(|answer| answer.contains("wrong")).collect();
    ctx.check("every answer is one of the right ones", wrong.is_empty(), &format!("{wrong:?}"));
    files_back(ctx, &on_a, files)?;
    let grown = mib(on_a.rss()?) - mib(rss);
    ctx.measure("RSS grown by", grown, "MiB", 4.0);

    // The same nonsense and noise at the TLS port.
    for seed in 0..300 {
        let mut stream = connect(&a, &b, SHARE_PORT)?;
        let _ = stream.write_all(&crate::world::noise(seed, 300));
    }
    let mut stream = tls::Node::new([3; 32])?.connect(connect(&a, &b, SHARE_PORT)?)?;
    let (status, _) = tls::get(&mut stream, &format!("/{hash}.narinfo"))?;
    ctx.check("afterwards it works", status == 200, &status.to_string());
    drop(stream);
    files_back(ctx, &on_a, files)?;
    on_a.stop()
}

/// Sends `count` of the requests, on one connection as long as it lasts, and counts what came back.
fn nonsense(to: &Host, list: &[Wrong], count: usize) -> Result<BTreeMap<String, usize>> {
    let address = format!("{}:5000", to.address());
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let mut stream: Option<TcpStream> = None;
    let mut buffer = vec![0; 64 << 10];
    for number in 0..count {
        let index = number % list.len();
        let wrong = &list[index];
        let open = match stream.take() {
            Some(open) => open,
            None => {
                let open = TcpStream::connect(&address)?;
                open.set_read_timeout(Some(Duration::from_secs(10)))?;
                open.set_nodelay(true)?;
                open
            }
        };
        let (answer, alive) = exchange(&open, &wrong.bytes, &mut buffer);
        let answer = match answer {
            Some(status) if wrong.right.contains(&status) => status.to_string(),
            Some(status) => {
                let request = String::from_utf8_lossy(&wrong.bytes[..wrong.bytes.len().min(60)]).into_owned();
                format!("wrong: {status} for {request:?}")
            }
            None => "closed".to_owned(),
        };
        *answers.entry(answer).or_default() += 1;
        stream = alive.then_some(open);
    }
    Ok(answers)
}

/// One request; its status if there was one, and whether the connection is good for another.
fn exchange(mut stream: &TcpStream, request: &[u8], buffer: &mut [u8]) -> (Option<u16>, bool) {
    // The other side may close while we are still sending.
    let sent = stream.write_all(request).is_ok();
    let mut text = Vec::new();
    loop {
        match stream.read(buffer) {
            Ok(count @ 1..) => text.extend_from_slice(&buffer[..count]),
            _ => return (status_of(&text), false),
        }
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
        let length = match request.starts_with(b"HEAD") {
            true => 0,
            false => {
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0)
            }
        };
        if text.len() >= end + 4 + length {
            return (status_of(&text), sent && !head.contains("connection: close"));
        }
    }
}

fn status_of(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text.get(9..12)?).ok()?.parse().ok()
}

/// Four readers of one NAR of 2 GiB at the share of another machine.
fn memory_of_the_share(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.huge()?;
    let info = set.named("huge")?;
    set.install(&a)?;
    let on_a = Peernixd::start(ctx, &a, &open_share(ctx))?;
    let address = format!("{}:5000", a.address());
    let target = format!("/nar/{}-{}.nar", info.path.hash(), info.nar_hash.to_nix32());
    ctx.measure("RSS before", mib(on_a.rss()?), "MiB", None);
    on_a.reset_peak()?;
    let start = Instant::now();
    four_readers(info, || Client::connect(&b, &address), &target)?;
    let seconds = start.elapsed().as_secs_f64();
    ctx.measure("peak RSS with four readers of 2 GiB", mib(on_a.peak_rss()?), "MiB", RSS_LIMIT_MIB);
    ctx.measure("all four together", info.nar_size as f64 * 4.0 / 1e6 / seconds, "MB/s", None);
    on_a.stop()
}

/// Four readers of one NAR of 2 GiB at a gateway that gets it from a peer.
fn memory_of_the_gateway(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let set = ctx.world.huge()?;
    let info = set.named("huge")?;
    set.install(&a)?;
    let on_a = Peernixd::start(ctx, &a, &open_share(ctx))?;
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("log.level", "info"))?;
    on_b.wait_online(1, Duration::from_secs(10))?;
    let target = nar_target(ctx, &b, &info.path.hash().to_string())?;
    on_a.reset_peak()?;
    on_b.reset_peak()?;
    let start = Instant::now();
    four_readers(info, || Client::gateway(ctx, &b), &target)?;
    let seconds = start.elapsed().as_secs_f64();
    ctx.measure("peak RSS of the gateway", mib(on_b.peak_rss()?), "MiB", RSS_LIMIT_MIB);
    ctx.measure("peak RSS of the sharing peer", mib(on_a.peak_rss()?), "MiB", RSS_LIMIT_MIB);
    ctx.measure("all four together", info.nar_size as f64 * 4.0 / 1e6 / seconds, "MB/s", None);
    ctx.measure("sent by the peer, for 2.1 GB of NAR", a.sent()? as f64 / 1e6, "MB", None);
    on_b.stop()?;
    on_a.stop()
}

fn four_readers(info: &PathInfo, connect: impl Fn() -> Result<Client> + Sync, target: &str) -> Result<()> {
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| connect()?.time(target))).collect();
        for reader in readers {
            let (head, body) = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
            ensure!(head.status == 200, "the NAR: {}", head.status);
            ensure!(body.complete && body.hash == info.nar_hash, "{} of {} bytes", body.bytes, info.nar_size);
        }
        Ok(())
    })
}

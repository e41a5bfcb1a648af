//! A machine with a predecessor on the same link: peerix, and the Peernix that is written in Go. They are played, byte for byte as they are documented: the
//! real ones need a Python web stack and nix-serve, or a Go toolchain and its modules, which are not among the packages that tests may use.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use peernix::nix::{NarHash, PathInfo, StoreDir};
use sha2::{Digest, Sha256};

use super::Case;
use crate::byte_server::{Asked, Framing, Reply, Servers};
use crate::ctx::Ctx;
use crate::host::Host;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{Generation, realise, verify_store};
use crate::store::Signed;
use crate::world::secret_key;

/// The port of peerix, UDP and TCP.
const PORT: u16 = 12304;
/// That of the Go peernix.
const GO_PORT: u16 = 9999;
/// How long it waits for an answer.
const WAIT: Duration = Duration::from_millis(50);

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("peerix/both-ways", both_ways).quiet(), Case::new("peerix/go-both-ways", go_both_ways).quiet()]
}

/// `local/nar/….nar` of a path.
fn nar_url(info: &PathInfo) -> String {
    let path = format!("/nix/store/{}", info.path);
    format!("local/nar/{}.nar", BASE64.encode(path.as_bytes()).replace('/', "_"))
}

/// A question, as it goes out.
fn question(id: u32, info: &PathInfo) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], info.path.hash().to_string().as_bytes()].concat()
}

/// The answer of one whose server listens on its usual port.
fn answer(id: &[u8], info: &PathInfo) -> Vec<u8> {
    let url = format!("local/{}.narinfo", info.path.hash());
    [&[1], id, &u32::from(PORT).to_be_bytes()[..], url.as_bytes()].concat()
}

/// The next datagram that is no question: those of one's own come back.
fn answered(socket: &UdpSocket, buffer: &mut [u8]) -> Result<(usize, std::net::SocketAddr)> {
    loop {
        let (length, from) = socket.recv_from(buffer).context("an answer")?;
        if buffer.first() != Some(&0) {
            return Ok((length, from));
        }
    }
}

/// A document of a server, as `GET` gives it.
fn get(host: &Host, address: &str, port: u16, target: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = host.enter(|| TcpStream::connect((address, port)).context("connecting"))?;
    write!(stream, "GET /{target} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("a status")?.parse()?;
    while !matches!(line.as_str(), "\r\n" | "") {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok((status, body))
}

/// Its server: a narinfo and a NAR, each at its target.
fn serve(
    servers: &Servers,
    listener: TcpListener,
    (narinfo_at, narinfo): (String, String),
    (nar_at, nar): (String, Vec<u8>),
) -> Result<Asked> {
    servers.plain(
        listener,
        std::sync::Arc::new(move |request| {
            if request.target == narinfo_at {
                Reply::new(200, narinfo.clone())
            } else if request.target == nar_at {
                Reply { framing: Framing::Chunked, ..Reply::new(200, nar.clone()) }
            } else {
                Reply::new(404, "Not found")
            }
        }),
    )
}

fn both_ways(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, old) = (network.host("a")?, network.host("old")?);
    let many = ctx.world.many()?;
    let (ours, theirs, unsigned) = (&many.paths[0], &many.paths[3], &many.paths[10]);
    many.install_some(&a, &many.closure_of([ours]), Signed::Yes)?;
    many.install_some(&old, &many.closure_of([theirs]), Signed::Yes)?;
    let settings = Settings::new(ctx).set("discovery.mdns", false).set("discovery.peerix", true);
    let on_a = Peernixd::start(ctx, &a, &settings)?;

    // It asks us.
    let socket = old.enter(|| UdpSocket::bind(("0.0.0.0", PORT)).context("binding"))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(10 * WAIT))?;
    let mut buffer = [0; 512];
    socket.send_to(&question(7, ours), ("10.77.0.255", PORT))?;
    let (length, from) = answered(&socket, &mut buffer)?;
    let expected = answer(&7_u32.to_be_bytes(), ours);
    ctx.check(
        "a question is answered as peerix does",
        buffer[..length] == expected && from.port() == PORT,
        &format!("{:?} from {from}", &buffer[..length]),
    );
    let (status, narinfo) = get(&old, &a.address(), PORT, &format!("local/{}.narinfo", ours.path.hash()))?;
    let text = String::from_utf8(narinfo)?;
    ensure!(status == 200, "its narinfo is {status}");
    let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).context("a URL")?;
    ctx.check("the narinfo has the URL that peerix asks for", url == nar_url(ours), url);
    ctx.check("and no compression", text.contains("\nCompression: none\n"), &text);
    let (status, nar) = get(&old, &a.address(), PORT, url)?;
    let hash = NarHash::new(Sha256::digest(&nar).into());
    ctx.check("the NAR is right", status == 200 && hash == ours.nar_hash, &format!("{status}, {} bytes", nar.len()));
    socket.send_to(&question(8, unsigned), ("10.77.0.255", PORT))?;
    let silent = answered(&socket, &mut buffer).is_err();
    ctx.check("what we do not have is met with silence", silent, "an answer came");

    // We ask it: what it has comes to Nix, here by the port that peerix had, and what it does not have costs a moment.
    let servers = Servers::new()?;
    let listener = old.enter(|| TcpListener::bind(("0.0.0.0", PORT)).context("binding"))?;
    let path = format!("/nix/store/{}", theirs.path);
    let dump = old.command("nix-store").args(["--dump", &path]).output()?.stdout;
    let references: Vec<String> = theirs.references.iter().map(ToString::to_string).collect();
    let narinfo = format!(
        "StorePath: {path}\nURL: {}\nCompression: none\nNarHash: {}\nNarSize: {}\nReferences: {}\nSig: {}\n",
        nar_url(theirs),
        theirs.nar_hash,
        theirs.nar_size,
        references.join(" "),
        secret_key()?.sign(theirs, &StoreDir::default())
    );
    let (narinfo_at, nar_at) = (format!("/local/{}.narinfo", theirs.path.hash()), format!("/{}", nar_url(theirs)));
    let asked = serve(&servers, listener, (narinfo_at, narinfo), (nar_at, dump))?;
    let (stop, theirs_hash) =
        (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), theirs.path.hash().to_string());
    let (ends, reply) = (std::sync::Arc::clone(&stop), theirs.clone());
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while !ends.load(std::sync::atomic::Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if buffer[0] == 0 && length == 37 && buffer[5..37] == *theirs_hash.as_bytes() {
                let _ = socket.send_to(&answer(&buffer[1..5], &reply), from);
            }
        }
    });
    let others: Vec<&PathInfo> =
        many.closure_of([theirs]).into_iter().filter(|info| info.path != theirs.path).collect();
    many.install_some(&a, &others, Signed::Yes)?;
    a.nix_conf(&[&format!("http://127.0.0.1:{PORT}")], &ctx.world.public_key())?;
    realise(ctx, &a, Generation::Machine, "from peerix", &path)?.must("what a machine with peerix has")?;
    verify_store(&a, Generation::Machine)?;
    ctx.check("it came from there", asked.count(&nar_url(theirs)) > 0, "its NAR was not asked for");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    answering.join().map_err(|_| anyhow::anyhow!("whoever answered panicked"))?;
    on_a.stop()
}

fn go_both_ways(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, old) = (network.host("a")?, network.host("old")?);
    let many = ctx.world.many()?;
    let (ours, theirs, unsigned) = (&many.paths[0], &many.paths[3], &many.paths[10]);
    many.install_some(&a, &many.closure_of([ours]), Signed::Yes)?;
    many.install_some(&old, &many.closure_of([theirs]), Signed::Yes)?;
    let settings = Settings::new(ctx).set("discovery.mdns", false).set("discovery.peerix", true);
    let on_a = Peernixd::start(ctx, &a, &settings)?;

    // It announces itself, and hears of us; what it asks is answered in its words.
    let socket = old.enter(|| UdpSocket::bind(("0.0.0.0", GO_PORT)).context("binding"))?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(10 * WAIT))?;
    let announce =
        format!(r#"{{"cmd":"announce","peernix_version":"2.0.0","platform":"amd64-linux","port":{GO_PORT}}}"#);
    let mut buffer = [0; 1024];
    let mut hear = |words: &str, to: &str| -> Result<String> {
        socket.send_to(words.as_bytes(), (to, GO_PORT))?;
        loop {
            let (length, from) = socket.recv_from(&mut buffer).with_context(|| format!("an answer to {words}"))?;
            // Its own broadcast comes back, and ours come by themselves.
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if from.ip().to_string() == a.address() && text.starts_with('{') == words.starts_with('{') {
                return Ok(text);
            }
        }
    };
    let heard = hear(&announce, "10.77.0.255")?;
    ctx.check("an announcement is answered with one", heard.starts_with("{\"cmd\":\"announce\""), &heard);
    let (hash, nar) = (ours.path.hash(), ours.nar_hash.to_nix32());
    let wrong = theirs.nar_hash.to_nix32();
    for (words, meant) in [
        (format!("has_path?{hash}"), "yes"),
        (format!("has_path?{}", unsigned.path.hash()), "not_found"),
        (format!("has_path_with_narhash?{hash}:{nar}"), "yes"),
        (format!("has_path_with_narhash?{hash}:{wrong}"), "narhash_mismatch"),
        (format!("has_path_with_narhash?{hash}"), "invalid_format"),
        ("ping".to_owned(), "pong"),
    ] {
        let heard = hear(&words, &a.address())?;
        ctx.check(&format!("{words}: {meant}"), heard == meant, &heard);
    }
    let (status, narinfo) = get(&old, &a.address(), GO_PORT, &format!("nix-cache/{hash}.narinfo"))?;
    let text = String::from_utf8(narinfo)?;
    ensure!(status == 200, "its narinfo is {status}");
    let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).context("a URL")?;
    ctx.check("the narinfo has a URL beside it", url == format!("{hash}-{nar}.nar"), url);
    let (status, content) = get(&old, &a.address(), GO_PORT, &format!("nix-cache/{url}"))?;
    let came = NarHash::new(Sha256::digest(&content).into());
    ctx.check(
        "the NAR is right",
        status == 200 && came == ours.nar_hash,
        &format!("{status}, {} bytes", content.len()),
    );

    // We ask it: what it has comes to Nix, here by the port that it had.
    let servers = Servers::new()?;
    let listener = old.enter(|| TcpListener::bind(("0.0.0.0", GO_PORT)).context("binding"))?;
    let path = format!("/nix/store/{}", theirs.path);
    let dump = old.command("nix-store").args(["--dump", &path]).output()?.stdout;
    let references: Vec<String> = theirs.references.iter().map(ToString::to_string).collect();
    let nar_url = format!("{}-{}.nar", theirs.path.hash(), theirs.nar_hash.to_nix32());
    let narinfo = format!(
        "StorePath: {path}\nURL: {nar_url}\nCompression: none\nFileHash: {0}\nFileSize: {1}\nNarHash: {0}\nNarSize: {1}\nReferences: {2}\nSig: {3}\n",
        theirs.nar_hash,
        theirs.nar_size,
        references.join(" "),
        secret_key()?.sign(theirs, &StoreDir::default())
    );
    let (narinfo_at, nar_at) = (format!("/nix-cache/{}.narinfo", theirs.path.hash()), format!("/nix-cache/{nar_url}"));
    let asked = serve(&servers, listener, (narinfo_at, narinfo), (nar_at, dump))?;
    let (stop, question) =
        (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), format!("has_path?{}", theirs.path.hash()));
    let ends = std::sync::Arc::clone(&stop);
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while !ends.load(std::sync::atomic::Ordering::Relaxed) {
            let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
            if buffer[..length].starts_with(b"has_path?") {
                let words: &[u8] = if buffer[..length] == *question.as_bytes() { b"yes" } else { b"not_found" };
                let _ = socket.send_to(words, from);
            }
        }
    });
    let others: Vec<&PathInfo> =
        many.closure_of([theirs]).into_iter().filter(|info| info.path != theirs.path).collect();
    many.install_some(&a, &others, Signed::Yes)?;
    a.nix_conf(&[&format!("http://127.0.0.1:{GO_PORT}/nix-cache")], &ctx.world.public_key())?;
    realise(ctx, &a, Generation::Machine, "from the Go peernix", &path)?
        .must("what a machine with the Go peernix has")?;
    verify_store(&a, Generation::Machine)?;
    ctx.check("it came from there", asked.count(&nar_url) > 0, "its NAR was not asked for");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    answering.join().map_err(|_| anyhow::anyhow!("whoever answered panicked"))?;
    on_a.stop()
}

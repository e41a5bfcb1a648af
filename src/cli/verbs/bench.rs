//! `peernixctl bench`: how fast the lines, the cache and Nix are, against what they should be.

use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Cell, Paint, Screen, Table, complain, latency, size};
use crate::cli::store_path;
use crate::control::{Control, PeerFilter, microseconds};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// What an answer from a machine on the same network may take.
pub(super) const PING_MAX: Duration = Duration::from_millis(1);
/// What a gigabit leaves for bytes, in bits a second.
pub(super) const LINE_MIN: u64 = 900_000_000;
/// What word of a path may take.
const HIT_MAX: Duration = Duration::from_millis(100);
/// What the first of all questions may take.
const INFO_MAX: Duration = Duration::from_millis(10);
/// What a small package may take to come.
const BUILD_MAX: Duration = Duration::from_secs(60);
/// How often the gateway is asked the same.
const ASKED: usize = 100;
/// How long it may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How many peers are measured if nobody says which.
const PEERS_MAX: usize = 16;

/// The arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The lines to peers: the time to an answer, and how much comes in some seconds
    Net {
        /// Which peers; left out: all that are online
        peer: Vec<String>,
    },
    /// The gateway: how long Nix waits for it
    Cache {
        /// A path that somebody has, to be asked for
        path: Option<String>,
    },
    /// Nix itself: how long a small package takes to come
    Build {
        /// What to realise, as `nix build` takes it
        #[arg(default_value = "nixpkgs#hello")]
        installable: String,
    },
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    /// Of what.
    pub(super) what: String,
    /// What of it.
    pub(super) figure: &'static str,
    /// In the unit.
    pub(super) value: u64,
    /// `µs` or `bit/s`.
    pub(super) unit: &'static str,
    /// The most it should be, or for a rate the least.
    pub(super) target: u64,
    /// Whether it is.
    pub(super) ok: bool,
}

impl Measured {
    /// A time, and what it may be.
    pub(super) fn time(what: impl Into<String>, figure: &'static str, took: Duration, most: Duration) -> Self {
        let (value, target) = (microseconds(took), microseconds(most));
        Self { what: what.into(), figure, value, unit: "µs", target, ok: value < target }
    }

    /// Bits a second, and what they should be.
    pub(super) fn rate(what: impl Into<String>, bytes_a_second: u64) -> Self {
        let value = bytes_a_second.saturating_mul(8);
        Self { what: what.into(), figure: "speed", value, unit: "bit/s", target: LINE_MIN, ok: value > LINE_MIN }
    }

    fn written(&self, value: u64) -> String {
        if self.unit == "µs" { latency(value) } else { format!("{} Mbit/s", value / 1_000_000) }
    }
}

pub(crate) async fn run(args: &Args, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let all = args.verb.is_none();
    let mut measured = Vec::new();
    if let Some(Verb::Net { peer }) = &args.verb {
        measured.extend(net(peer, control, screen).await?);
    } else if all {
        measured.extend(net(&[], control, screen).await?);
    }
    match &args.verb {
        Some(Verb::Cache { path }) => measured.extend(cache(path.as_deref(), control, local).await?),
        // What is on another machine's loopback is not on ours.
        None if local => measured.extend(cache(None, control, local).await?),
        Some(Verb::Build { installable }) => measured.push(build(installable).await?),
        _ => {}
    }
    screen.show(&measured, || shown(&measured, screen))?;
    if measured.iter().all(|one| one.ok) { Ok(()) } else { Err(VerbError::Ended(crate::cli::exit::FAILURE)) }
}

/// A table of what was measured.
pub(super) fn shown(measured: &[Measured], screen: &Screen) -> String {
    if measured.is_empty() {
        return "There is nothing to measure: no peer is online.\n".to_owned();
    }
    let mut table = Table::new(&["~WHAT", "FIGURE", ">MEASURED", ">TARGET", ""]);
    for one in measured {
        let sign = if one.unit == "µs" { "<" } else { ">" };
        let verdict = if one.ok { Cell::new("met").paint(Paint::Good) } else { Cell::new("missed").paint(Paint::Bad) };
        table.row(vec![
            Cell::new(&one.what),
            Cell::new(one.figure),
            Cell::new(one.written(one.value)),
            Cell::new(format!("{sign} {}", one.written(one.target))),
            verdict,
        ]);
    }
    screen.table(&table, "")
}

/// The lines, one after the other: two at once would measure each other.
pub(super) async fn net(peers: &[String], control: &dyn Control, screen: &Screen) -> Done<Vec<Measured>> {
    let mut wanted = peers.to_vec();
    if wanted.is_empty() {
        let online = PeerFilter { state: Some("online".to_owned()), ..PeerFilter::default() };
        let online = control.peers(online).await.doing("list the peers")?;
        wanted.extend(online.into_iter().take(PEERS_MAX).map(|peer| peer.id));
    }
    let mut measured = Vec::new();
    for peer in &wanted {
        let line = match control.measure_peer(peer).await {
            Ok(line) => line,
            // Of several the others count.
            Err(error) if wanted.len() > 1 => {
                complain(&format!("{}: {}", screen.short(peer), crate::cli::output::tame_lines(&error.to_string())));
                continue;
            }
            Err(error) => return Err(error).doing(format!("measure the line to {}", screen.short(peer))),
        };
        let name = if line.name.is_empty() { screen.short(&line.id) } else { line.name.clone() };
        measured.push(Measured::time(&name, "answer", Duration::from_micros(line.latency_usec), PING_MAX));
        measured.push(Measured::rate(&name, line.rate()));
        screen.note(&format!("{} came from {name} in {}.", size(line.bytes), latency(line.duration_usec)));
    }
    Ok(measured)
}

/// The gateway.
async fn cache(path: Option<&str>, control: &dyn Control, local: bool) -> Done<Vec<Measured>> {
    const DOING: &str = "measure the gateway";
    let status = control.status().await.doing("show the status")?;
    let url = status.listen.gateway.ok_or_else(|| VerbError::other(DOING, "it has none"))?;
    let host = url.trim_start_matches("http://").to_owned();
    let mut gateway = Gateway::connect(host.clone()).await.map_err(|reason| VerbError::other(DOING, reason))?;
    let failed = |reason: String| VerbError::other(DOING, reason);
    let mut measured = Vec::new();
    let what = format!("gateway {host}");
    let (_, info) = gateway.ask("/nix-cache-info", ASKED).await.map_err(failed)?;
    measured.push(Measured::time(&what, "cache info, p99", info, INFO_MAX));
    // What nobody has.
    let nothing = format!("/{}.narinfo", "0".repeat(32));
    let (_, miss) = gateway.ask(&nothing, ASKED).await.map_err(failed)?;
    measured.push(Measured::time(&what, "miss, p99", miss, HIT_MAX));
    if let Some(path) = path {
        let path = store_path::meant(path, local)?;
        let base = path.rsplit('/').next().unwrap_or(&path);
        let hash = base.split('-').next().unwrap_or(base).to_owned();
        let target = format!("/{hash}.narinfo");
        let (status, first) = gateway.ask(&target, 1).await.map_err(failed)?;
        if status != StatusCode::OK {
            return Err(VerbError::other(DOING, format!("nobody has {path} (`peernixctl query` tells who was asked)")));
        }
        measured.push(Measured::time(&what, "hit, the first", first, HIT_MAX));
        let (_, hit) = gateway.ask(&target, ASKED).await.map_err(failed)?;
        measured.push(Measured::time(&what, "hit, p99", hit, HIT_MAX));
    }
    Ok(measured)
}

/// One connection to it, as Nix keeps one.
struct Gateway {
    host: String,
    send: SendRequest<Empty<Bytes>>,
}

impl Gateway {
    async fn connect(host: String) -> Result<Self, String> {
        let stream = timeout(ANSWER_LIMIT, TcpStream::connect(&host)).await;
        let stream =
            stream.map_err(|_| format!("{host} does not answer"))?.map_err(|error| format!("{host}: {error}"))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (send, connection) = handshake.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { host, send })
    }

    /// Asks so often, and says how the last answer was and how long 99 of 100 took at most.
    async fn ask(&mut self, target: &str, often: usize) -> Result<(StatusCode, Duration), String> {
        let (mut times, mut status) = (Vec::with_capacity(often), StatusCode::OK);
        for _ in 0..often {
            let request = Request::get(target).header(HOST, &self.host).body(Empty::new());
            let request = request.map_err(|error| error.to_string())?;
            let begun = Instant::now();
            let answer = async {
                self.send.ready().await?;
                let answer = self.send.send_request(request).await?;
                let status = answer.status();
                answer.into_body().collect().await.map(|_| status)
            };
            let answer = timeout(ANSWER_LIMIT, answer).await.map_err(|_| format!("no answer to {target}"))?;
            status = answer.map_err(|error| error.to_string())?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok((status, times.get(times.len() * 99 / 100).or(times.last()).copied().unwrap_or_default()))
    }
}

/// What Nix says goes to stderr, as ever.
async fn build(installable: &str) -> Done<Measured> {
    let doing = || format!("realise {installable}");
    let begun = Instant::now();
    let nix = ["--extra-experimental-features", "nix-command flakes", "build", "--no-link", "--", installable];
    let status = Command::new("nix").args(nix).status().await.map_err(|error| VerbError::other(doing(), error))?;
    if !status.success() {
        return Err(VerbError::other(doing(), format!("nix ended with {status}")));
    }
    Ok(Measured::time(installable, "until it is here", begun.elapsed(), BUILD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_gateway_is_asked_again_and_again_over_one_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let status = if request.uri().path() == "/there" { 200 } else { 404 };
                hyper::Response::builder().status(status).body(http_body_util::Full::new(Bytes::from_static(b"x")))
            });
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
        });
        let mut gateway = Gateway::connect(host).await.unwrap();
        assert_eq!(gateway.ask("/there", 50).await.unwrap().0, StatusCode::OK);
        assert_eq!(gateway.ask("/nowhere", 1).await.unwrap().0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_is_measured_is_held_against_its_target() {
        let time = |micros| Measured::time("x", "answer", Duration::from_micros(micros), PING_MAX);
        assert!(time(999).ok && !time(1000).ok);
        let rate = |mbit: u64| Measured::rate("x", mbit * 1_000_000 / 8);
        assert!(!rate(900).ok && rate(901).ok);
        assert_eq!(rate(941).written(rate(941).value), "941 Mbit/s");
    }
}

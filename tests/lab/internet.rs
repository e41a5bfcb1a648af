//! "The Internet": an ordinary flat binary cache behind the bridge, and the ways in which it fails.

use parking_lot::Mutex;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::byte_server::{Asked, End, Reply, Request, Respond, Servers};
use crate::host::Host;
use crate::network::Network;
use crate::process::output;

/// How the cache behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// As it should.
    Fine,
    /// Every narinfo takes so long.
    SlowNarinfo(Duration),
    /// It takes requests and never answers.
    Silent,
    /// It answers everything with this status.
    Status(u16),
    /// Narinfos are fine, NARs get this status.
    NarStatus(u16),
    /// One NAR stops after so many bytes, and the connection stays; then all is well again.
    NarStallOnce(usize),
    /// NARs stop after so many bytes, and the connection closes. What is asked for from an offset is cut likewise.
    NarCut(usize),
}

/// A cache that is being served.
pub(crate) struct Internet {
    weather: Arc<Mutex<Weather>>,
    /// What was asked of it.
    pub(crate) asked: Asked,
    /// For configuration files.
    pub(crate) url: String,
    _servers: Servers,
}

impl Internet {
    /// Serves the flat cache in `dir`.
    pub(crate) fn start(network: &Network<'_>, port: u16, dir: &Path) -> Result<Self> {
        let address = format!("{}:{port}", network.outside_address());
        let listener = network.outside.enter(|| TcpListener::bind(&address).context("binding the cache"))?;
        let weather = Arc::new(Mutex::new(Weather::Fine));
        let servers = Servers::new()?;
        let (now, files) = (Arc::clone(&weather), dir.to_owned());
        let asked = servers.plain(
            listener,
            Arc::new(move |request| {
                let mut now = now.lock();
                let weather = *now;
                if matches!(weather, Weather::NarStallOnce(_)) && request.target.starts_with("/nar/") {
                    *now = Weather::Fine;
                }
                drop(now);
                respond(&files, request, weather)
            }),
        )?;
        Ok(Self { weather, asked, url: format!("http://{address}"), _servers: servers })
    }

    /// Changes how it behaves, from the next request on.
    pub(crate) fn turn(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }
}

fn respond(dir: &Path, request: &Request, weather: Weather) -> Reply {
    let path = request.target.trim_start_matches('/');
    let honest = || match std::fs::read(dir.join(path)) {
        Ok(content) if !path.contains("..") => Reply::file(request, &Bytes::from(content)),
        _ => Reply::new(404, "not here"),
    };
    let nar = path.starts_with("nar/");
    match weather {
        Weather::Silent => Reply { end: End::Stall, delay: Duration::from_secs(3600), ..Reply::new(200, "") },
        Weather::Status(status) => Reply::new(status, "the lab says no"),
        Weather::NarStatus(status) if nar => Reply::new(status, "the lab says no"),
        Weather::SlowNarinfo(delay) if path.ends_with(".narinfo") => Reply { delay, ..honest() },
        Weather::NarStallOnce(at) if nar => cut(honest(), at, End::Stall),
        Weather::NarCut(at) if nar => cut(honest(), at, End::Close),
        _ => honest(),
    }
}

/// The same answer, of which only the first bytes come.
pub(crate) fn cut(reply: Reply, at: usize, end: End) -> Reply {
    let whole = reply.body.len();
    Reply { claimed_length: Some(whole as u64), body: reply.body.slice(..at.min(whole)), end, ..reply }
}

/// Writes a flat cache of `paths` (and what they refer to) from a host's store, by the real Nix.
pub(crate) fn flat_cache(host: &Host, name: &str, compression: &str, paths: &[String]) -> Result<PathBuf> {
    let here = format!("{}/{name}", crate::host::HERE);
    output(
        host.command("nix").arg("copy").arg("--to").arg(format!("file://{here}?compression={compression}")).args(paths),
    )?;
    let dir = host.outside(&here);
    // As cache.nixos.org: without a priority Nix would ask it before the gateway.
    std::fs::write(dir.join("nix-cache-info"), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")?;
    Ok(dir)
}

/// What an honest cache would answer, made into what this one answers.
pub(crate) type Change = Arc<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

/// Answers from the flat cache in `dir`, each changed by `change`: real caches do not misbehave on command.
pub(crate) fn changed(dir: &Path, change: Change) -> Respond {
    let dir = dir.to_owned();
    Arc::new(move |request| change(request, respond(&dir, request, Weather::Fine)))
}

//! The face towards Nix: a binary cache on loopback that has whatever somebody in reach has.
//!
//! Nix aborts or stalls on 5xx, 408 and 429, and forgets about a cache that it cannot reach; so the answers here are 200,
//! 206, 304 and 404, whatever happens behind, and a body that cannot be finished ends its connection.

use super::reply::{self, Ranged, Send, keep, media};
use super::routes::NarName;
use super::{Body, Drain, Handler, HttpMetrics, Request, Route};
use crate::fetch::Fetcher;
use crate::metrics::{self, Metrics};
use crate::nix::cache_info::CacheInfo;
use crate::nix::{Compression, NarInfo, StoreDir, StoreHash};
use crate::peers::{Peers, State};
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Response};
use std::sync::Arc;

/// What the gateway says of itself and whom it asks.
pub struct Gateway {
    /// The room that gets paths.
    pub fetcher: Fetcher,
    /// The other machines, for those who want to see them.
    pub peers: Peers,
    /// The store directory of all paths.
    pub store_dir: StoreDir,
    /// The priority in `nix-cache-info`; Nix asks lower numbers first.
    pub priority: i32,
    /// Whether new lookups are answered with "not found", so that Nix goes to its next substituter.
    pub drain: Arc<Drain>,
    /// The counters of fetching.
    pub metrics: Arc<Metrics>,
    /// The counters of the faces, by name.
    pub http_metrics: Vec<(&'static str, Arc<HttpMetrics>)>,
}

/// What `/health` says.
#[derive(serde::Serialize)]
struct Health {
    state: &'static str,
    version: &'static str,
    peers_known: usize,
    peers_online: usize,
    transfers: usize,
}

impl Handler for Gateway {
    async fn answer(&self, request: Request) -> Response<Body> {
        // What is for this machine's eyes, wherever the administrator has the gateway listen.
        let local = request.caller.address.ip().is_loopback();
        let Request { route, head, headers, .. } = request;
        match route {
            route if self.drain.refuses(&route) => reply::not_found(),
            Route::Health | Route::Metrics | Route::Peers if !local => reply::not_found(),
            Route::Index => reply::text(self.index(&headers)),
            Route::CacheInfo => reply::ok(media::CACHE_INFO, keep::NEVER, self.cache_info()),
            Route::NarInfo(hash) => self.narinfo(hash).await,
            Route::Nar(name) => self.nar(name, &headers, head).await,
            Route::Listing(_) | Route::Realisation(_) | Route::BuildTrace(_) | Route::DebugInfo(_) => {
                self.document(&route, media::JSON).await
            }
            Route::Log(_) => self.document(&route, media::TEXT).await,
            Route::Health => reply::json(&self.health()),
            Route::Version => reply::text(concat!("peernix ", env!("CARGO_PKG_VERSION"), "\n")),
            Route::Metrics => reply::text(self.metrics()),
            Route::Peers => reply::json(&self.peers.snapshot()),
            // Between peers, on the share.
            Route::Hello => reply::not_found(),
        }
    }
}

impl Gateway {
    fn index(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7649");
        format!(
            "This is the gateway of Peernix {}, a binary cache that has what the machines around it have.\n\n\
             Nix uses it with this line in nix.conf:\n\n    extra-substituters = http://{host}\n\n\
             /peers lists the machines, /metrics the counters.\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn cache_info(&self) -> String {
        let (store_dir, priority) = (self.store_dir.clone(), Some(self.priority));
        CacheInfo { store_dir, want_mass_query: true, priority }.render()
    }

    async fn narinfo(&self, hash: StoreHash) -> Response<Body> {
        let Some(resolution) = self.fetcher.narinfo(hash).await else { return reply::not_found() };
        // Whoever has it in whatever form: from here it comes as it is, so that any source can go on where another stopped.
        let (info, compression) = (resolution.info.clone(), Compression::None);
        let (nar_hash, file_size) = (Some(info.nar_hash), Some(info.nar_size));
        let url = NarName { hash, nar_hash, compression: Compression::None }.to_string();
        let narinfo = NarInfo { info, url, compression, file_hash: None, file_size, extra: vec![] };
        reply::ok(media::NARINFO, keep::NEVER, narinfo.render(&self.store_dir))
    }

    async fn nar(&self, name: NarName, headers: &HeaderMap, head: bool) -> Response<Body> {
        // The oldest URL form does not say which NAR; no narinfo of ours ever had it.
        let NarName { hash, nar_hash: Some(nar_hash), compression: Compression::None } = name else {
            return reply::not_found();
        };
        let Some(nar) = self.fetcher.open(hash, nar_hash).await else { return reply::not_found() };
        let (length, etag) = (nar.size(), format!("\"{}\"", nar_hash.to_nix32()));
        match (Ranged { etag: &etag, media: media::NAR, keep: keep::FOREVER, length }).begin(headers, head) {
            Send::Head(response) => response,
            // A part that ends before the end cannot be verified in time; whoever asks for one gets the whole.
            Send::Bytes(_, part) if part.end < length => match nar.read(0).await {
                Some(body) => reply::ok(media::NAR, keep::FOREVER, Body::stream(Some(length), body)),
                None => reply::not_found(),
            },
            Send::Bytes(response, part) => match nar.read(part.start).await {
                Some(body) => response.map(|_| Body::stream(Some(part.end - part.start), body)),
                None => reply::not_found(),
            },
        }
    }

    /// What no signature covers comes from the upstreams alone.
    async fn document(&self, route: &Route, media: HeaderValue) -> Response<Body> {
        match self.fetcher.document(route.to_string().trim_start_matches('/')).await {
            Some(document) => reply::ok(media, keep::NEVER, document),
            None => reply::not_found(),
        }
    }

    fn health(&self) -> Health {
        let peers = self.peers.snapshot();
        Health {
            state: if self.drain.is_on() { "draining" } else { "running" },
            version: env!("CARGO_PKG_VERSION"),
            peers_known: peers.len(),
            peers_online: peers.iter().filter(|peer| peer.state == State::Online).count(),
            transfers: self.fetcher.transfers_running(),
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        self.metrics.render(&mut text);
        let faces: Vec<_> = self.http_metrics.iter().map(|(name, metrics)| (*name, metrics.as_ref())).collect();
        metrics::render_http(&faces, &mut text);
        let Health { peers_known, peers_online, transfers, .. } = self.health();
        metrics::render_gauge("peernix_peers_known", "Peers in the table.", peers_known as u64, &mut text);
        metrics::render_gauge("peernix_peers_online", "Peers that answer.", peers_online as u64, &mut text);
        metrics::render_gauge("peernix_transfers", "Transfers under way.", transfers as u64, &mut text);
        text
    }
}

//! The face towards Nix: a binary cache on loopback that has whatever somebody in reach has.
//!
//! Nix aborts or stalls on 5xx, 408 and 429, and forgets about a cache that it cannot reach; so the answers here are 200,
//! 206, 304 and 404, whatever happens behind, and a body that cannot be finished ends its connection.

mod documents;
mod nar;
mod narinfo;
mod pages;
mod status;

use super::drain::Drain;
use super::protocol::body::Body;
use super::protocol::reply::{self, keep, media};
use super::protocol::routes::Route;
use super::server::listener::{Handler, Request};
use crate::fetch::Fetcher;
use crate::metrics::{Exposition, GaugeNow};
use crate::nix::StoreDir;
use crate::nix::trace::TraceId;
use crate::peers::Peers;
use hyper::header::HOST;
use hyper::{HeaderMap, Response};
pub use pages::{Asked, Pages};
use status::Health;
use std::sync::Arc;
use tokio::task::spawn_blocking;

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
    /// What `/metrics` tells of what is counted.
    pub exposition: Arc<Exposition>,
    /// What it tells beside that.
    pub gauges: Box<dyn Fn() -> Vec<GaugeNow> + Send + Sync>,
    /// What people see.
    pub pages: Arc<dyn Pages>,
}

/// Where we are for who does not say by which name it reached us, as HTTP/1.0 may.
const USUAL_HOST: &str = "127.0.0.1:7649";

impl Handler for Gateway {
    async fn answer(&self, request: Request) -> Response<Body> {
        // What is for this machine's eyes, wherever the administrator has the gateway listen.
        let local = request.caller.address.ip().is_loopback();
        let Request { route, head, headers, .. } = request;
        match route {
            route if self.drain.refuses(&route) => reply::not_found(),
            Route::Health | Route::Metrics | Route::Peers | Route::Page(_) if !local => reply::not_found(),
            // What it says of other machines is for this one; that it is here everybody sees.
            Route::Index if !local => reply::text(status::index(host(&headers))),
            Route::Index if reply::wants_html(&headers) => self.pages.answer(Asked::Page(host(&headers))).await,
            Route::Index => self.pages.answer(Asked::Text(host(&headers))).await,
            Route::Page(part) => self.pages.answer(Asked::Part(part)).await,
            Route::CacheInfo => {
                let cache_info = status::cache_info(self.store_dir.clone(), self.priority);
                reply::ok(media::CACHE_INFO, keep::NEVER, cache_info)
            }
            Route::NarInfo(hash) => narinfo::narinfo(&self.fetcher, &self.store_dir, hash).await,
            Route::Nar(name) => nar::nar(&self.fetcher, name, &headers, head, local).await,
            Route::Listing(_) | Route::DebugInfo(_) => documents::document(&self.fetcher, &route, media::JSON).await,
            Route::Realisation(ref id) => {
                documents::trace(&self.fetcher, &route, TraceId::Realisation(id.clone())).await
            }
            Route::BuildTrace(ref key) => {
                documents::trace(&self.fetcher, &route, TraceId::BuildTrace(key.clone())).await
            }
            Route::Log(_) => documents::document(&self.fetcher, &route, media::TEXT).await,
            Route::Health => reply::json(&self.health()),
            Route::Version => reply::version(),
            Route::Metrics => self.metrics().await,
            Route::Peers => reply::json(&self.peers.snapshot()),
            // Between peers, on the share.
            Route::Hello
            | Route::PeerixNarInfo(_)
            | Route::PeerIndex(..)
            | Route::NarInfos
            | Route::Holders
            | Route::Claim
            | Route::Fleet
            | Route::Pair
            | Route::Partial(_)
            | Route::UpstreamNarInfo(..)
            | Route::Pieces(_)
            | Route::Patch(_)
            | Route::Copies
            | Route::Measure(_) => reply::not_found(),
        }
    }
}

impl Gateway {
    /// What is counted, and of the process what the kernel says of it: in files.
    async fn metrics(&self) -> Response<Body> {
        let (exposition, now) = (Arc::clone(&self.exposition), (self.gauges)());
        // It fails only when the program is being stopped.
        spawn_blocking(move || exposition.text(&now)).await.map_or_else(|_| reply::not_found(), reply::text)
    }

    fn health(&self) -> Health {
        Health::now(&self.fetcher, &self.peers, &self.drain)
    }
}

/// By which name the caller reached us.
fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(USUAL_HOST)
}

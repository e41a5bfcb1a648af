//! What the gateway says of itself and of the service behind it.

use crate::fetch::Fetcher;
use crate::http::drain::Drain;
use crate::index::Index;
use crate::metrics::{self, HttpMetrics, Metrics};
use crate::nix::StoreDir;
use crate::nix::cache_info::CacheInfo;
use crate::peers::{Peers, State};
use hyper::HeaderMap;
use hyper::header::HOST;
use std::sync::Arc;
use std::time::SystemTime;

/// `/`.
pub(super) fn index(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7649");
    format!(
        "This is the gateway of Peernix {}, a binary cache that has what the machines around it have.\n\n\
         Nix uses it with this line in nix.conf:\n\n    extra-substituters = http://{host}\n\n\
         /peers lists the machines, /metrics the counters.\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// `/nix-cache-info`.
pub(super) fn cache_info(store_dir: StoreDir, priority: i32) -> String {
    CacheInfo { store_dir, want_mass_query: true, priority: Some(priority) }.render()
}

/// What `/health` says.
#[derive(serde::Serialize)]
pub(super) struct Health {
    state: &'static str,
    version: &'static str,
    peers_known: usize,
    peers_online: usize,
    transfers: usize,
}

impl Health {
    pub(super) fn now(fetcher: &Fetcher, peers: &Peers, drain: &Drain) -> Self {
        let peers = peers.snapshot();
        Self {
            state: if drain.is_on() { "draining" } else { "running" },
            version: env!("CARGO_PKG_VERSION"),
            peers_known: peers.len(),
            peers_online: peers.iter().filter(|peer| peer.state == State::Online).count(),
            transfers: fetcher.transfers_running(),
        }
    }
}

/// A number of now: its name, what it is, and its value.
pub(super) type Gauge = (&'static str, &'static str, u64);

/// The numbers of now that `/metrics` has beside the counters.
pub(super) fn gauges(health: &Health, index: &Index) -> [Gauge; 7] {
    let Health { peers_known, peers_online, transfers, .. } = health;
    let indexes = index.status();
    let entries = indexes.iter().map(|index| index.entries).sum();
    let last = indexes.iter().map(|status| status.updated).max();
    let last = last.and_then(|last| index.when(last).duration_since(SystemTime::UNIX_EPOCH).ok());
    [
        ("peernix_peers_known", "Peers in the table.", *peers_known as u64),
        ("peernix_peers_online", "Peers that answer.", *peers_online as u64),
        ("peernix_transfers", "Transfers under way.", *transfers as u64),
        ("peernix_index_peers", "Peers whose index is known.", indexes.len() as u64),
        ("peernix_index_entries", "Entries in the indexes of peers, all together.", entries),
        (
            "peernix_index_updated_timestamp_seconds",
            "When a peer last told what it has, in seconds since 1970; 0 before the first.",
            last.map_or(0, |last| last.as_secs()),
        ),
        ("peernix_index_offered", "Paths that peers are told.", index.offered() as u64),
    ]
}

/// `/metrics`: the counters of fetching, those of the listeners by name, and a few numbers of now.
pub(super) fn metrics(
    counters: &Metrics,
    http: &[(&'static str, Arc<HttpMetrics>)],
    started: SystemTime,
    gauges: &[Gauge],
) -> String {
    let mut text = String::with_capacity(8 * 1024);
    counters.render(&mut text);
    let http: Vec<_> = http.iter().map(|(name, metrics)| (*name, metrics.as_ref())).collect();
    metrics::render_http(&http, &mut text);
    metrics::render_process(started, &mut text);
    for (name, help, value) in gauges {
        metrics::render_gauge(name, help, *value, &mut text);
    }
    text
}

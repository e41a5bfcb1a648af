//! What the gateway says of itself and of the service behind it.

use crate::fetch::Fetcher;
use crate::http::drain::Drain;
use crate::nix::StoreDir;
use crate::nix::cache_info::CacheInfo;
use crate::peers::{Peers, State};

/// `/`, for other machines.
pub(super) fn index(host: &str) -> String {
    format!(
        "This is the gateway of Peernix {}, a binary cache that has what the machines around it have.\n\n\
         Nix uses it with this line in nix.conf:\n\n    extra-substituters = http://{host}\n",
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

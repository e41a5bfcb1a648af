//! What the share says of itself.

use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::server::listener::Request;
use crate::index::Index;
use crate::nix::StoreDir;
use crate::nix::cache_info::CacheInfo;
use crate::peers::{IndexState, NodeId, Peers, hello};
use crate::store::Store;
use hyper::Response;
use tokio::task::spawn_blocking;

/// The priority of the share as an ordinary cache: before cache.nixos.org (40), behind our own gateway (10).
const PRIORITY: i32 = 30;

/// `/`, to anyone.
pub(super) const INDEX: &str = "Peernix: a binary cache with what this machine's Nix store shares.\n\n\
     To use it, add its address to nix.conf:\n\n\
     \x20   extra-substituters = http://THIS-HOST:PORT\n\n\
     Only signed paths are here; Nix accepts those whose key is in its trusted-public-keys.\n";
/// `/`, to a peer.
pub(super) const INDEX_FOR_PEERS: &str = "Peernix: this port is for other machines with Peernix.\n";

/// `/nix-cache-info`.
pub(super) fn cache_info(store_dir: &StoreDir) -> Response<Body> {
    let cache_info = CacheInfo { store_dir: store_dir.clone(), want_mass_query: true, priority: Some(PRIORITY) };
    reply::ok(media::CACHE_INFO, keep::SHORT, cache_info.render())
}

/// `/health`.
pub(super) async fn health(store: &Store) -> Response<Body> {
    let state = if store.check().await.is_ok() { "ready" } else { "no store" };
    reply::json(&serde_json::json!({ "state": state }))
}

/// `/peernix/v1/hello`: the peer `node` greets, and is greeted.
pub fn hello(peers: &Peers, node: NodeId, request: &Request) -> Response<Body> {
    if let Some(port) = hello::share_port(&request.headers) {
        peers.introduced(node, request.caller.address, port);
    }
    if let Some(state) = hello::index_state(&request.headers) {
        peers.told_index(node, state);
    }
    // A hundred machines greet each other all day: what they have heard already need not be said again.
    let (body, etag) = peers.hello_response();
    reply::tagged_json(&request.headers, etag, body)
}

/// `/peernix/v1/index`: what changed since the state that the peer `node` knows; `None` if nothing is told.
pub(super) async fn index(
    peers: &Peers,
    index: &Index,
    node: NodeId,
    known: Option<IndexState>,
) -> Option<Response<Body>> {
    let index = index.clone();
    // Thousands of entries may have to be merged. It fails only when the program is being stopped.
    let answer = spawn_blocking(move || index.answer(known)).await.ok()??;
    peers.asked_for_index(node);
    Some(reply::ok(media::BYTES, keep::NEVER, answer))
}

//! What the share says of itself.

use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::server::listener::Request;
use crate::index::{Index, Whose};
use crate::nix::cache_info::CacheInfo;
use crate::nix::{StoreDir, StoreHash};
use crate::peers::fleet::pairing::PairingError;
use crate::peers::holders::{HOLDERS_MAX, Holder};
use crate::peers::{IndexState, NodeId, Peers, hello, holders, narinfo_batch};
use crate::resilience::LogThrottle;
use crate::store::Store;
use hyper::Response;
use tokio::task::spawn_blocking;

/// Times in which a machine that wants to join does not know the code.
static NOT_PAIRED: LogThrottle = LogThrottle::new();

/// The priority of the share as an ordinary cache: before cache.nixos.org (40), behind our own gateway (10).
const PRIORITY: i32 = 30;

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
        peers.introduced(node, request.caller.address, port, hello::site(&request.headers));
    }
    if let Some(state) = hello::index_state(&request.headers) {
        peers.told_index(node, state);
    }
    if let Some(state) = hello::union_state(&request.headers) {
        peers.told_union(node, state);
    }
    peers.told_weight(node, hello::weight(&request.headers));
    peers.told_revocations(node, hello::revocations(&request.headers));
    // A hundred machines greet each other all day: what they have heard already need not be said again.
    let (body, etag) = peers.hello_response();
    reply::tagged_json(&request.headers, etag, body)
}

/// `/peernix/v1/fleet`: what this machine knows of its fleet; `None` if it belongs to none.
pub(super) fn fleet(peers: &Peers, node: NodeId) -> Option<Response<Body>> {
    peers.fleet().document(node).map(|document| reply::ok(media::JSON, keep::NEVER, document))
}

/// `/peernix/v1/pair`: the machine `node` wants to join; `None` if nobody invites it, or it does not know the code.
pub(super) async fn pair(peers: &Peers, node: NodeId, body: &[u8]) -> Option<Response<Body>> {
    let answer = peers.fleet().pair(node, body).await;
    let failed = |error: &PairingError| {
        // Anybody may ask where nobody is invited.
        let level = if *error == PairingError::NoInvitation { log::Level::Debug } else { NOT_PAIRED.level() };
        log::log!(level, peer:% = node, reason:% = error; "a machine could not join the fleet: {error}");
    };
    answer.inspect_err(failed).ok().map(|reply| reply::json(&reply))
}

/// `/peernix/v1/index`: what changed since the state that the peer `node` knows; `None` if nothing is told.
pub async fn index(
    peers: &Peers,
    index: &Index,
    node: NodeId,
    whose: Whose,
    known: Option<IndexState>,
) -> Option<Response<Body>> {
    let index = index.clone();
    // Thousands of entries may have to be merged. It fails only when the program is being stopped.
    let answer = spawn_blocking(move || match whose {
        Whose::ItsOwn => index.answer(known),
        Whose::Everybodys => index.answer_union(known),
    });
    let answer = answer.await.ok()??;
    match whose {
        Whose::ItsOwn => peers.asked_for_index(node),
        Whose::Everybodys => peers.asked_for_union(node),
    }
    Some(reply::ok(media::BYTES, keep::NEVER, answer))
}

/// `/peernix/v1/holders`: who has the paths that the peer `node` asks for; `None` if this machine does not relay.
pub async fn holders(peers: &Peers, index: &Index, node: NodeId, body: &[u8]) -> Option<Response<Body>> {
    let Ok(hashes) = narinfo_batch::parse_request(body) else { return Some(reply::bad_request()) };
    let (index, peers) = (index.clone(), peers.clone());
    // A look into a thousand sets for each path.
    let named = spawn_blocking(move || {
        let holder = |id: NodeId| {
            let addresses = peers.get(id).map(|peer| peer.addresses()).unwrap_or_default();
            Holder { id, addresses }
        };
        let of = |hash: StoreHash| {
            let holders = index.holders(hash, HOLDERS_MAX + 1)?;
            Some(holders.into_iter().filter(|id| *id != node).map(holder).collect::<Vec<Holder>>())
        };
        hashes.into_iter().map(of).collect::<Option<Vec<_>>>()
    });
    Some(reply::ok(media::BYTES, keep::NEVER, holders::answer(&named.await.ok()??)))
}

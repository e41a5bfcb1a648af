//! What the service did, since somebody last wanted it counted anew.

use super::controller::Controller;
use crate::control::types::{
    ClaimCounts, Face, IndexCounts, Lookups, PieceCounts, Resources, SourceBytes, SourceKind, Statistics, Transfer,
    TransferCounts, timestamp,
};
use crate::fetch::{Running, SourceName};
use crate::metrics::{self, Snapshot};

/// How many sources are told; the table of peers may be longer.
const SOURCES_MAX: usize = 256;
/// How many transfers are told.
const TRANSFERS_MAX: usize = 256;

/// How bytes from each upstream are named in a [`Snapshot`], before the host.
const BY_UPSTREAM: &str = "fetched_upstream_bytes.";

/// Counts from now on.
pub(super) fn reset(controller: &Controller) {
    controller.0.parts.statistics.reset();
    controller.0.parts.peers.reset_bytes();
}

/// What was counted since the last reset.
pub(super) async fn read(controller: &Controller) -> Statistics {
    let parts = &controller.0.parts;
    let (counted, since) = parts.statistics.since_reset();
    let count = |name: &str| counted.get(name);
    let lookups = Lookups {
        peer: count("lookups_peer"),
        upstream: count("lookups_upstream"),
        absent: count("lookups_absent"),
        unknown: count("lookups_unknown"),
        remembered: count("lookups_remembered"),
    };
    let answered = lookups.peer + lookups.upstream;
    // Far below where a float cannot tell numbers apart.
    #[allow(clippy::cast_precision_loss)]
    let hit_rate = (answered > 0).then(|| lookups.peer as f64 / answered as f64);
    let faces = parts.faces.iter().map(|(name, metrics)| Face {
        name: (*name).to_owned(),
        requests: counted.under(&format!("{name}.requests.")).map(|(_, requests)| requests).sum(),
        bytes_served: count(&format!("{name}.bytes_sent")),
        connections: metrics.connections_now.get(),
    });
    Statistics {
        since_timestamp: timestamp(since),
        faces: faces.collect(),
        lookups,
        hit_rate,
        transfers: TransferCounts {
            started: count("transfers_started"),
            completed: count("transfers_completed"),
            failed: count("transfers_failed"),
            joined: count("transfers_joined"),
            failed_over: count("transfers_failed_over"),
        },
        index: index(controller, &counted),
        claims: ClaimCounts {
            granted: count("claims_granted"),
            taken_over: count("claims_taken_over"),
            followed: count("claims_followed"),
            alone: count("claims_alone"),
            site_downloaded_bytes: count("site_downloaded_bytes"),
            site_unique_bytes: count("site_unique_bytes"),
        },
        pieces: PieceCounts {
            right: count("pieces_right"),
            twice: count("pieces_twice"),
            wrong: count("pieces_wrong"),
        },
        bytes_from_peers: count("fetched_peer_bytes"),
        nar_bytes_from_peers: count("fetched_peer_nar_bytes"),
        bytes_from_upstreams: count("fetched_upstream_bytes"),
        sources: sources(controller, &counted),
        verification_failures: count("verification_failures"),
        peers_banned: count("peers_banned"),
        resources: resources(controller).await,
    }
}

/// The transfers under way, the oldest first.
pub(super) fn transfers(controller: &Controller) -> Vec<Transfer> {
    let running = controller.0.parts.fetcher.transfers_now(TRANSFERS_MAX);
    running.iter().map(|running| under_way(controller, running)).collect()
}

/// A transfer under way, with the names of peers where they have one.
pub(super) fn under_way(controller: &Controller, running: &Running) -> Transfer {
    let parts = &controller.0.parts;
    let from = |source: &SourceName| match source {
        SourceName::Peer(id) => parts
            .peers
            .get(*id)
            .map(|peer| peer.name())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| id.to_string()),
        other => other.to_string(),
    };
    Transfer {
        id: running.id,
        path: parts.store.dir().join(&running.path),
        size: running.size,
        bytes: running.bytes,
        from: running.sources.iter().map(from).collect(),
        start_timestamp: timestamp(running.began),
        waiting: running.has_waited && running.bytes == 0,
    }
}

/// What the service takes of the machine now.
async fn resources(controller: &Controller) -> Resources {
    let store = controller.0.parts.store.clone();
    let look = move || Resources {
        memory_bytes: metrics::resident_memory(),
        disk_free_bytes: store.free().ok(),
        disk_bytes: store.disk_size().ok(),
    };
    // It fails only when the program is being stopped.
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// What peers tell of what they have.
fn index(controller: &Controller, counted: &Snapshot) -> IndexCounts {
    let index = &controller.0.parts.index;
    let status = index.status();
    IndexCounts {
        peers: status.len() as u64,
        entries: status.iter().map(|peer| peer.entries).sum(),
        offered: index.offered() as u64,
        updated_timestamp: status.iter().map(|peer| peer.updated).max().map(|last| timestamp(index.when(last))),
        updates: counted.get("index_updates"),
        saved_requests: counted.get("index_saved"),
        wrong_claims: counted.get("index_wrong_claims"),
    }
}

/// Where bytes came from, the most first.
fn sources(controller: &Controller, counted: &Snapshot) -> Vec<SourceBytes> {
    let peers = controller.0.parts.peers.snapshot().into_iter().map(|peer| {
        let source = peer.id.to_string();
        SourceBytes {
            kind: SourceKind::Peer,
            bytes: peer.bytes_in,
            name: (!peer.name.is_empty()).then_some(peer.name),
            source,
        }
    });
    let upstreams = counted.under(BY_UPSTREAM).map(|(host, bytes)| SourceBytes {
        kind: SourceKind::Upstream,
        source: host.to_owned(),
        name: None,
        bytes,
    });
    let mut sources: Vec<SourceBytes> = peers.chain(upstreams).filter(|source| source.bytes > 0).collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.bytes));
    sources.truncate(SOURCES_MAX);
    sources
}

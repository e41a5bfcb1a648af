//! The other machines.

use super::Controller;
use crate::control::types::{Blocked, Peer, PeerFilter};
use crate::control::{ControlError, ErrorKind, Outcome};
use crate::peers::{Added, NodeId, PeerStatus, PeersError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest reason of a block that is taken, in bytes.
const REASON_MAX: usize = 200;

/// Microseconds in a second.
const USEC: u64 = 1_000_000;

pub(super) fn list(controller: &Controller, filter: &PeerFilter) -> Outcome<Vec<Peer>> {
    const STATES: [&str; 5] = ["discovered", "online", "suspect", "offline", "blocked"];
    if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
        let what = format!("'{}' is none of {}", state.escape_default(), STATES.join(", "));
        return Err(ControlError::new(ErrorKind::InvalidArgument, what));
    }
    let id = filter.id.as_deref().map(|id| find(controller, id)).transpose()?;
    let matches = |peer: &PeerStatus| {
        id.is_none_or(|id| id == peer.id) && filter.state.as_deref().is_none_or(|state| peer.state.to_string() == state)
    };
    Ok(controller.0.parts.peers.snapshot().into_iter().filter(matches).map(peer).collect())
}

pub(super) fn one(controller: &Controller, name: &str) -> Outcome<Peer> {
    let id = find(controller, name)?;
    let peers = &controller.0.parts.peers;
    let status = peers.get(id).map(|peer| peer.status()).or_else(|| {
        // A block is kept of those too that are not in the table.
        peers.snapshot().into_iter().find(|peer| peer.id == id)
    });
    status.map(peer).ok_or_else(|| {
        ControlError::new(ErrorKind::NoSuchPeer, format!("there is no peer '{}'", name.escape_default()))
    })
}

pub(super) async fn add(controller: &Controller, uri: &str) -> Outcome<bool> {
    Ok(controller.0.parts.peers.add(uri, None).await? == Added::New)
}

pub(super) async fn forget(controller: &Controller, name: &str) -> Outcome<bool> {
    let id = find(controller, name)?;
    Ok(controller.0.parts.peers.forget(id).await?)
}

pub(super) async fn block(controller: &Controller, name: &str, reason: &str) -> Outcome<bool> {
    if reason.len() > REASON_MAX {
        let what = format!("a reason has at most {REASON_MAX} bytes");
        return Err(ControlError::new(ErrorKind::InvalidArgument, what));
    }
    // One that was never seen may be blocked as well, by its whole id.
    let id = match name.parse() {
        Ok(id) => id,
        Err(_) => find(controller, name)?,
    };
    Ok(controller.0.parts.peers.block(id, reason).await?)
}

pub(super) async fn unblock(controller: &Controller, name: &str) -> Outcome<bool> {
    let id = find(controller, name)?;
    Ok(controller.0.parts.peers.unblock(id).await?)
}

pub(super) async fn ping(controller: &Controller, name: &str) -> Outcome<Duration> {
    let id = find(controller, name)?;
    Ok(controller.0.parts.peers.ping(id).await?)
}

fn find(controller: &Controller, name: &str) -> Outcome<NodeId> {
    Ok(controller.0.parts.peers.resolve(name)?)
}

/// A peer, as it is shown.
fn peer(status: PeerStatus) -> Peer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let blocked = match (status.block, status.ban) {
        (Some(block), _) => Some(Blocked { reason: block.reason, until_timestamp: None }),
        (None, Some(ban)) => Some(Blocked { reason: ban.reason, until_timestamp: Some((now + ban.seconds) * USEC) }),
        (None, None) => None,
    };
    Peer {
        id: status.id.to_string(),
        name: status.name,
        version: status.version,
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        source: status.source.to_string(),
        state: status.state.to_string(),
        audience: if status.admission == "enrolled" { "enrolled" } else { "anyone" }.to_owned(),
        added: status.added,
        blocked,
        first_seen_timestamp: status.first_seen.map(|seconds| seconds * USEC),
        last_seen_timestamp: status.last_seen.map(|seconds| seconds * USEC),
        latency_usec: status.latency_us,
        throughput: status.throughput,
        bytes_in: status.bytes_in,
        bytes_out: status.bytes_out,
        failures: status.failures,
        score: status.score,
    }
}

impl From<PeersError> for ControlError {
    fn from(error: PeersError) -> Self {
        let kind = match &error {
            PeersError::NoSuchPeer(_) => ErrorKind::NoSuchPeer,
            PeersError::Ambiguous { .. } => ErrorKind::AmbiguousPeer,
            PeersError::FixedPeer(_) | PeersError::Ourselves => ErrorKind::InvalidUri,
            PeersError::Link(_) => ErrorKind::PeerUnreachable,
            PeersError::Name => ErrorKind::InvalidArgument,
            PeersError::TooMany { .. } => ErrorKind::LimitExceeded,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, error)
    }
}

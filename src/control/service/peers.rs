//! The other machines.

use super::controller::Controller;
use crate::control::types::{Blocked, Measurement, Peer, PeerFilter, microseconds, timestamp};
use crate::control::{ControlError, ErrorKind, Outcome};
use crate::peers::{Added, LinkError, Measured, NodeId, PeerStatus, PeersError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest reason of a block that is taken, in bytes.
const REASON_MAX: usize = 200;

/// The state of a peer with which there is nothing to do.
const BLOCKED: &str = "blocked";

/// Microseconds in a second.
const USEC: u64 = 1_000_000;

pub(super) fn list(controller: &Controller, filter: &PeerFilter) -> Outcome<Vec<Peer>> {
    const STATES: [&str; 6] = ["discovered", "online", "resting", "suspect", "offline", BLOCKED];
    if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
        let what = format!("'{}' is none of {}", state.escape_default(), STATES.join(", "));
        return Err(ControlError::new(ErrorKind::InvalidArgument, what));
    }
    let id = filter.id.as_deref().map(|id| find(controller, id)).transpose()?;
    let matches = |peer: &PeerStatus| {
        id.is_none_or(|id| id == peer.id) && filter.state.as_deref().is_none_or(|state| peer.state.to_string() == state)
    };
    let strangers = strangers(controller).filter(|stranger| {
        id.is_none_or(|id| id.to_string() == stranger.id)
            && filter.state.as_deref().is_none_or(|state| state == BLOCKED)
    });
    Ok(controller
        .0
        .parts
        .peers
        .snapshot()
        .into_iter()
        .filter(matches)
        .map(|status| peer(controller, status))
        .chain(strangers)
        .collect())
}

pub(super) fn one(controller: &Controller, name: &str) -> Outcome<Peer> {
    let id = find(controller, name)?;
    let peers = &controller.0.parts.peers;
    let known = peers.get(id).map(|known| peer(controller, known.status()));
    known.or_else(|| strangers(controller).find(|stranger| stranger.id == id.to_string())).ok_or_else(|| {
        ControlError::new(ErrorKind::NoSuchPeer, format!("there is no peer '{}'", name.escape_default()))
    })
}

/// Those who are blocked and not in the table, because nothing would be done with them anyway: no members of the fleet.
fn strangers(controller: &Controller) -> impl Iterator<Item = Peer> {
    let peers = &controller.0.parts.peers;
    let blocked = peers.blocked().into_iter().filter(|(id, _)| peers.get(*id).is_none());
    blocked.map(|(id, block)| Peer {
        id: id.to_string(),
        name: String::new(),
        version: String::new(),
        addresses: Vec::new(),
        source: "remembered".to_owned(),
        state: BLOCKED.to_owned(),
        audience: "anyone".to_owned(),
        added: false,
        blocked: Some(Blocked { reason: block.reason, until_timestamp: None }),
        refused: None,
        first_seen_timestamp: None,
        last_seen_timestamp: None,
        latency_usec: None,
        throughput: None,
        bytes_in: 0,
        bytes_out: 0,
        failures: 0,
        score: 0.0,
        index_entries: None,
        index_timestamp: None,
        index_wrong_claims: 0,
    })
}

pub(super) async fn add(controller: &Controller, uri: &str) -> Outcome<bool> {
    Ok(controller.0.parts.peers.add(uri).await? == Added::New)
}

pub(super) async fn forget(controller: &Controller, name: &str) -> Outcome<bool> {
    match find(controller, name) {
        Ok(id) => Ok(controller.0.parts.peers.forget(id).await?),
        // One that was added and never answered has no id, and is named as it was added.
        Err(error) => match controller.0.parts.peers.forget_address(name).await {
            Err(PeersError::FixedPeer(_)) => Err(error),
            forgotten => Ok(forgotten?),
        },
    }
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
    let busy = |_| ControlError::new(ErrorKind::Busy, "enough peers are being pinged at the moment");
    let _turn = controller.0.pings.try_acquire().map_err(busy)?;
    Ok(controller.0.parts.peers.ping(id).await?)
}

pub(super) async fn measure(controller: &Controller, name: &str) -> Outcome<Measurement> {
    let id = find(controller, name)?;
    let busy = |_| ControlError::new(ErrorKind::Busy, "another line is being measured at the moment");
    let _turn = controller.0.measuring.try_acquire().map_err(busy)?;
    let peers = &controller.0.parts.peers;
    let Measured { latency, bytes, took } = peers.measure(id).await?;
    let name = peers.get(id).map(|peer| peer.name()).unwrap_or_default();
    let (latency_usec, duration_usec) = (microseconds(latency), microseconds(took));
    Ok(Measurement { id: id.to_string(), name, latency_usec, bytes, duration_usec })
}

fn find(controller: &Controller, name: &str) -> Outcome<NodeId> {
    Ok(controller.0.parts.peers.resolve(name)?)
}

/// A peer, as it is shown.
fn peer(controller: &Controller, status: PeerStatus) -> Peer {
    let index = controller.0.parts.index.status_of(status.id);
    let told = index.as_ref().filter(|index| !index.ignored);
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
        refused: status.trouble,
        first_seen_timestamp: status.first_seen.map(|seconds| seconds * USEC),
        last_seen_timestamp: status.last_seen.map(|seconds| seconds * USEC),
        latency_usec: status.latency_us,
        throughput: status.throughput,
        bytes_in: status.bytes_in,
        bytes_out: status.bytes_out,
        failures: status.failures,
        score: status.score,
        index_entries: told.map(|index| index.entries),
        index_timestamp: told.map(|told| timestamp(controller.0.parts.index.when(told.updated))),
        index_wrong_claims: index.map_or(0, |index| index.wrong_claims),
    }
}

impl From<PeersError> for ControlError {
    fn from(error: PeersError) -> Self {
        let kind = match &error {
            PeersError::NoSuchPeer(_) => ErrorKind::NoSuchPeer,
            PeersError::Ambiguous { .. } => ErrorKind::AmbiguousPeer,
            PeersError::FixedPeer(_) | PeersError::Ourselves => ErrorKind::InvalidUri,
            // Not that it does not answer: nobody would hear the answer.
            PeersError::Link(LinkError::NotAdmitted(_)) | PeersError::Configured(_) => ErrorKind::InvalidArgument,
            PeersError::Link(_) => ErrorKind::PeerUnreachable,
            PeersError::TooMany { .. } => ErrorKind::LimitExceeded,
            PeersError::TooOld(_) => ErrorKind::NotSupported,
            PeersError::NotMeasured(..) => ErrorKind::Busy,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, error)
    }
}

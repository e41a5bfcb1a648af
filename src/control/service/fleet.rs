//! The fleet of this machine.

use super::Controller;
use crate::control::types::{Enrolment, Finding, FleetStatus, Invitation, Member, Revoked, microseconds, timestamp};
use crate::control::{ControlError, ErrorKind, Event, EventKind, Outcome};
use crate::peers::fleet::pairing::Code;
use crate::peers::fleet::{self, Fleet, FleetError, Membership};
use crate::peers::{Admission, NodeId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds in a second.
const USEC: u64 = 1_000_000;

pub(super) fn status(controller: &Controller) -> FleetStatus {
    let peers = &controller.0.parts.peers;
    let view = peers.fleet().view();
    let revoked = view.revoked.into_iter();
    FleetStatus {
        mode: match peers.admission() {
            Admission::Open => "open",
            Admission::Static(_) => "static",
            Admission::Fleet(_) => "fleet",
        }
        .to_owned(),
        public_key: view.fleet.map(|fleet| fleet.to_string()),
        has_key: view.has_key,
        membership: view.ours.map(member),
        problem: view.refusal.map(|refusal| refusal.to_string()),
        members: view.members.into_iter().map(member).collect(),
        revoked: revoked
            .map(|(id, since)| Revoked { id: id.to_string(), since_timestamp: since.saturating_mul(USEC) })
            .collect(),
    }
}

/// How long before the end of a membership that should have been renewed by then.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What is wrong with this machine's membership, where that matters.
pub(super) fn problem(controller: &Controller) -> Option<(Finding, String)> {
    let peers = &controller.0.parts.peers;
    peers.admission().fleet()?;
    let view = peers.fleet().view();
    match (view.fleet, view.refusal) {
        (None, _) => Some((
            Finding::FleetMissing,
            "Nobody is let in: [fleet] mode is \"fleet\", and this machine belongs to none (`peernixctl fleet init` founds one, `peernixctl fleet join CODE` joins one)."
                .to_owned(),
        )),
        (Some(_), Some(refusal)) => Some((Finding::FleetRefused, format!(
            "The other members of the fleet do not let this machine in: {refusal} (`peernixctl fleet invite` on the machine that has the fleet key, then `peernixctl fleet join CODE` here)."
        ))),
        (Some(_), None) => view.ours.and_then(|ours| ends_soon(&ours, SystemTime::now())),
    }
}

fn ends_soon(ours: &Membership, now: SystemTime) -> Option<(Finding, String)> {
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(ours.not_after))?;
    let left = end.duration_since(now).ok()?;
    (left < ENDS_SOON).then(|| {
        let end = humantime::format_rfc3339_seconds(end);
        let text = format!(
            "The membership of this machine in the fleet ends on {end}: it is renewed when this machine meets the one that has the fleet key, or by `peernixctl fleet enroll` there."
        );
        (Finding::FleetEnds, text)
    })
}

fn member(of: Membership) -> Member {
    Member {
        id: of.node.to_string(),
        name: of.name,
        site: of.site,
        roles: of.roles,
        expires_timestamp: of.not_after.saturating_mul(USEC),
    }
}

fn fleet(controller: &Controller) -> &Fleet {
    controller.0.parts.peers.fleet()
}

pub(super) async fn init(controller: &Controller, site: &str) -> Outcome<FleetStatus> {
    let id = fleet(controller).init(site).await?;
    tell(controller, None, "founded", Some(id.to_string()));
    Ok(status(controller))
}

pub(super) fn invite(controller: &Controller) -> Outcome<Invitation> {
    let invited = fleet(controller).invite()?;
    let end = timestamp(SystemTime::now()) + microseconds(invited.life);
    Ok(Invitation { code: invited.code.to_string(), expires_timestamp: end })
}

/// By a code, or by a membership that was carried here.
pub(super) async fn join(controller: &Controller, by: &str, address: Option<&str>) -> Outcome<FleetStatus> {
    let invalid = |what| ControlError::new(ErrorKind::InvalidArgument, what);
    let joined = if by.contains('.') {
        if address.is_some() {
            return Err(invalid("a membership is not fetched from anywhere: leave the address out".to_owned()));
        }
        fleet(controller).accept(by).await?
    } else {
        let code: Code = by.parse().map_err(invalid)?;
        controller.0.parts.peers.join_fleet(&code, address).await?
    };
    tell(controller, None, "joined", Some(joined.fleet.to_string()));
    Ok(status(controller))
}

pub(super) async fn enroll(controller: &Controller, wanted: Enrolment) -> Outcome<String> {
    // Names are what machines give themselves; who gets a membership is told by what it cannot choose.
    let id: NodeId = wanted.id.parse().map_err(|_| {
        let what = format!("'{}' is no node id: enrol a machine by what `peernixctl status` shows there", wanted.id);
        ControlError::new(ErrorKind::InvalidArgument, what)
    })?;
    let enrolment = fleet::Enrolment {
        name: wanted.name.unwrap_or_default(),
        site: wanted.site.unwrap_or_default(),
        roles: wanted.roles,
        valid: wanted.valid_usec.map(Duration::from_micros),
    };
    let token = fleet(controller).enroll(id, &enrolment).await?;
    tell(controller, Some(id), "enrolled", Some(enrolment.name).filter(|name| !name.is_empty()));
    Ok(token)
}

pub(super) async fn revoke(controller: &Controller, member: &str) -> Outcome<bool> {
    let id = node(controller, member)?;
    let done = fleet(controller).revoke(id).await?;
    if done {
        tell(controller, Some(id), "revoked", None);
    }
    Ok(done)
}

/// A machine by its id, which need not be known, or as peers are named, or by its name in the fleet.
fn node(controller: &Controller, name: &str) -> Outcome<NodeId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let members = fleet(controller).view().members;
    let mut called = members.iter().filter(|member| member.name == name);
    match (called.next(), called.next()) {
        (Some(one), None) => Ok(one.node),
        (Some(one), Some(other)) => {
            let what = format!("'{name}' is ambiguous: {} and {} are called so, give the id", one.node, other.node);
            Err(ControlError::new(ErrorKind::InvalidArgument, what))
        }
        (None, _) => Ok(controller.0.parts.peers.resolve(name)?),
    }
}

fn tell(controller: &Controller, id: Option<NodeId>, how: &str, message: Option<String>) {
    let (peer, to) = (id.map(|id| id.to_string()), Some(how.to_owned()));
    controller.tell(Event { peer, to, message, ..Event::new(EventKind::FleetChanged) });
}

impl From<FleetError> for ControlError {
    fn from(error: FleetError) -> Self {
        let kind = match error {
            FleetError::Peers(error) => return error.into(),
            FleetError::NoKey => ErrorKind::NoFleetKey,
            FleetError::AlreadyIn(_) | FleetError::OtherFleet { .. } => ErrorKind::OtherFleet,
            FleetError::Pairing(_) | FleetError::NobodyInvites { .. } | FleetError::DoesNotInvite { .. } => {
                ErrorKind::PairingFailed
            }
            FleetError::Unreachable { .. } => ErrorKind::PeerUnreachable,
            FleetError::Argument(_) | FleetError::Membership(_) => ErrorKind::InvalidArgument,
            FleetError::TooMany => ErrorKind::LimitExceeded,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use crate::peers::fleet::FleetKey;

    #[test]
    fn a_membership_that_ends_within_two_weeks_is_told() {
        let day = Duration::from_secs(86_400);
        let now = UNIX_EPOCH + 20_000 * day;
        let ends = |days: u64| {
            let (fleet, node) = (FleetKey::from_seed([1; 32]).id(), NodeKey::from_seed([2; 32]).id());
            let not_after = days * day.as_secs();
            let (name, site, roles) = Default::default();
            ends_soon(&Membership { fleet, node, name, site, roles, not_after, is_final: false }, now)
        };
        assert_eq!(ends(20_014), None);
        let (finding, text) = ends(20_013).unwrap();
        assert!(finding == Finding::FleetEnds && text.contains("2024-10-17T00:00:00Z"), "{text}");
        assert_eq!(ends(19_999), None, "that is told otherwise");
    }
}

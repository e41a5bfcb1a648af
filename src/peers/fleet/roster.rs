//! Who is a member now: what machines showed, held against what was revoked and against the clock. Without any input or output.

use super::membership::{Membership, seconds};
use super::revocations::{REVOKED_MAX, Revocations};
use super::signed::{FleetId, NotSigned};
use crate::peers::identity::NodeId;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most members that are remembered, as many as a relay knows machines.
const MEMBERS_MAX: usize = 16 * 1024;

/// Why a machine is not let in. In words that fit both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The one who refuses belongs to no fleet yet.
    NoFleet,
    /// Nothing was shown.
    NothingShown,
    /// What was shown is no membership.
    Malformed,
    /// It is of another fleet.
    OtherFleet(FleetId),
    /// The fleet key did not sign it.
    Forged,
    /// It is another machine's.
    OfAnother(NodeId),
    /// It ended then, in seconds since 1970.
    Over(u64),
    /// It was revoked then, in seconds since 1970.
    Revoked(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFleet => f.write_str("this machine belongs to no fleet yet"),
            Self::NothingShown => f.write_str("no membership of the fleet was shown"),
            Self::Malformed => f.write_str("what was shown is not a membership"),
            Self::OtherFleet(fleet) => write!(f, "the membership is of the fleet {fleet}"),
            Self::Forged => f.write_str("the fleet key did not sign the membership"),
            Self::OfAnother(node) => write!(f, "the membership is that of the machine {node}"),
            Self::Over(when) => write!(f, "the membership ended on {}", date(*when)),
            Self::Revoked(when) => write!(f, "the membership was revoked on {}", date(*when)),
        }
    }
}

fn date(seconds: u64) -> String {
    // Far beyond the times that can be written, and a calendar is not worth an error.
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(253_402_300_799))).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}

impl From<NotSigned> for Refusal {
    fn from(why: NotSigned) -> Self {
        match why {
            NotSigned::Malformed => Self::Malformed,
            NotSigned::OtherFleet(fleet) => Self::OtherFleet(fleet),
            NotSigned::Forged => Self::Forged,
        }
    }
}

/// What is known of a fleet.
#[derive(Debug)]
pub(super) struct Roster {
    fleet: FleetId,
    members: HashMap<NodeId, Membership>,
    revocations: Revocations,
}

impl Roster {
    pub(super) fn new(fleet: FleetId) -> Self {
        Self { fleet, members: HashMap::new(), revocations: Revocations::none(fleet) }
    }

    pub(super) const fn fleet(&self) -> FleetId {
        self.fleet
    }

    pub(super) const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// All who have shown a membership, also those that it does not help any more.
    pub(super) fn members(&self) -> impl Iterator<Item = &Membership> {
        self.members.values()
    }

    /// `node`, whose identity is proved, shows a membership that the fleet key signed: it is a member from now on. If that does not help it,
    /// it is what it was before.
    pub(super) fn shows(&mut self, node: NodeId, shown: Membership, now: SystemTime) -> Result<(), Refusal> {
        if shown.fleet != self.fleet {
            return Err(Refusal::OtherFleet(shown.fleet));
        }
        if shown.node != node {
            return Err(Refusal::OfAnother(shown.node));
        }
        self.judge(&shown, now)?;
        if self.members.len() >= MEMBERS_MAX && !self.members.contains_key(&node) {
            self.members.retain(|_, member| !member.is_over(now));
        }
        if self.members.len() < MEMBERS_MAX || self.members.contains_key(&node) {
            self.members.insert(node, shown);
        }
        Ok(())
    }

    /// Whether `node` is a member by what it has shown, and why not. Takes nanoseconds.
    pub(super) fn standing(&self, node: NodeId, now: SystemTime) -> Result<&Membership, Refusal> {
        match self.members.get(&node) {
            Some(member) => self.judge(member, now).map(|()| member),
            None => Err(self.revoked(node).unwrap_or(Refusal::NothingShown)),
        }
    }

    /// That `node` was revoked, if so.
    pub(super) fn revoked(&self, node: NodeId) -> Option<Refusal> {
        self.revocations.nodes.get(&node).map(|since| Refusal::Revoked(*since))
    }

    fn judge(&self, member: &Membership, now: SystemTime) -> Result<(), Refusal> {
        if let Some(revoked) = self.revoked(member.node) {
            return Err(revoked);
        }
        if member.is_over(now) { Err(Refusal::Over(member.not_after)) } else { Ok(()) }
    }

    /// Takes over a list of revocations if it is newer than the one that is known; whether it was.
    pub(super) fn adopt(&mut self, told: Revocations) -> bool {
        let is_newer = told.fleet == self.fleet && told.serial > self.revocations.serial;
        if is_newer {
            self.revocations = told;
        }
        is_newer
    }

    /// The list as it is with `node` on it; `None` if it is on it already, or there is no room.
    pub(super) fn with(&self, node: NodeId, now: SystemTime) -> Option<Revocations> {
        let mut next = self.next(now);
        (next.nodes.len() < REVOKED_MAX && next.nodes.insert(node, seconds(now)).is_none()).then_some(next)
    }

    /// The list as it is without `node`; `None` if it is not on it.
    pub(super) fn without(&self, node: NodeId, now: SystemTime) -> Option<Revocations> {
        let mut next = self.next(now);
        next.nodes.remove(&node).map(|_| next)
    }

    fn next(&self, now: SystemTime) -> Revocations {
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let serial = self.revocations.serial.saturating_add(1).max(time);
        Revocations { serial, ..self.revocations.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::signed::FleetKey;
    use super::*;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn node(seed: u8) -> NodeId {
        NodeKey::from_seed([seed; 32]).id()
    }

    fn member(fleet: FleetId, seed: u8) -> Membership {
        let (name, site, roles) = (format!("m{seed}"), String::new(), Vec::new());
        Membership { fleet, node: node(seed), name, site, roles, not_after: NOW + 100, is_final: false }
    }

    /// As the rooms do it: read, and then shown.
    fn shows(roster: &mut Roster, node: NodeId, token: &str, now: SystemTime) -> Result<(), Refusal> {
        let shown = Membership::open(token, Some(roster.fleet()))?;
        roster.shows(node, shown, now)
    }

    fn adopt(roster: &mut Roster, token: &str) -> Result<bool, NotSigned> {
        let told = Revocations::open(token, roster.fleet())?;
        Ok(roster.adopt(told))
    }

    #[test]
    fn who_shows_its_own_membership_is_a_member_until_it_ends() {
        let key = FleetKey::from_seed([1; 32]);
        let mut roster = Roster::new(key.id());
        assert_eq!(roster.standing(node(2), at(NOW)), Err(Refusal::NothingShown));
        let token = member(key.id(), 2).to_token(&key);
        assert!(token.len() <= super::super::MEMBERSHIP_MAX);
        assert_eq!(shows(&mut roster, node(3), &token, at(NOW)), Err(Refusal::OfAnother(node(2))));
        shows(&mut roster, node(2), &token, at(NOW)).unwrap();
        assert_eq!(roster.standing(node(2), at(NOW + 99)).unwrap().name, "m2");
        assert_eq!(roster.standing(node(2), at(NOW + 100)), Err(Refusal::Over(NOW + 100)));
        assert_eq!(shows(&mut roster, node(2), &token, at(NOW + 100)), Err(Refusal::Over(NOW + 100)));
        assert!(Refusal::Over(NOW).to_string().ends_with("2027-01-15T08:00:00Z"), "{}", Refusal::Over(NOW));
    }

    #[test]
    fn what_others_signed_says_nothing() {
        let (key, other) = (FleetKey::from_seed([1; 32]), FleetKey::from_seed([9; 32]));
        let mut roster = Roster::new(key.id());
        let theirs = member(other.id(), 2).to_token(&other);
        assert_eq!(shows(&mut roster, node(2), &theirs, at(NOW)), Err(Refusal::OtherFleet(other.id())));
        let forged = member(key.id(), 2).to_token(&other);
        assert_eq!(shows(&mut roster, node(2), &forged, at(NOW)), Err(Refusal::Forged));
        // A text of the other kind, by the right key.
        let list = key.sign(&Revocations::none(key.id()));
        assert_eq!(shows(&mut roster, node(2), &list, at(NOW)), Err(Refusal::Malformed));
        assert_eq!(adopt(&mut roster, &member(key.id(), 2).to_token(&key)), Err(NotSigned::Malformed));
        let disturbing = Membership { name: "a\u{1b}[2J".to_owned(), ..member(key.id(), 2) };
        assert_eq!(shows(&mut roster, node(2), &disturbing.to_token(&key), at(NOW)), Err(Refusal::Malformed));
    }

    #[test]
    fn who_was_revoked_is_out_until_the_list_says_otherwise() {
        let key = FleetKey::from_seed([1; 32]);
        let mut roster = Roster::new(key.id());
        let token = member(key.id(), 2).to_token(&key);
        shows(&mut roster, node(2), &token, at(NOW)).unwrap();
        let first = roster.with(node(2), at(NOW)).unwrap();
        assert_eq!(adopt(&mut roster, &key.sign(&first)), Ok(true));
        assert_eq!(adopt(&mut roster, &key.sign(&first)), Ok(false), "it is known");
        for standing in [roster.standing(node(2), at(NOW)).map(|_| ()), shows(&mut roster, node(2), &token, at(NOW))] {
            assert_eq!(standing, Err(Refusal::Revoked(NOW)));
        }
        assert_eq!(roster.with(node(2), at(NOW)), None);
        let second = roster.without(node(2), at(NOW)).unwrap();
        assert_eq!(adopt(&mut roster, &key.sign(&second)), Ok(true));
        // The older list comes late, from a machine that was away.
        assert_eq!(adopt(&mut roster, &key.sign(&first)), Ok(false));
        assert!(roster.standing(node(2), at(NOW)).is_ok());
    }

    #[test]
    fn a_full_list_fits_into_what_is_read() {
        let key = FleetKey::from_seed([1; 32]);
        let mut full = Revocations::none(key.id());
        let mut seed = 0_u64;
        while full.nodes.len() < REVOKED_MAX {
            seed += 1;
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            full.nodes.insert(NodeKey::from_seed(bytes).id(), u64::MAX);
        }
        full.serial = u64::MAX;
        let token = key.sign(&full);
        assert!(token.len() <= super::super::revocations::TOKEN_MAX, "{}", token.len());
        assert_eq!(adopt(&mut Roster::new(key.id()), &token), Ok(true));
    }

    proptest! {
        /// In whatever order lists arrive, the newest counts.
        #[test]
        fn the_newest_list_wins(order in Just((1..6_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let key = FleetKey::from_seed([1; 32]);
            let mut roster = Roster::new(key.id());
            for serial in order {
                let seed = u8::try_from(serial).unwrap();
                let list = Revocations { serial, nodes: [(node(seed), NOW)].into(), ..Revocations::none(key.id()) };
                adopt(&mut roster, &key.sign(&list)).unwrap();
            }
            prop_assert_eq!(roster.revoked(node(5)), Some(Refusal::Revoked(NOW)));
            prop_assert_eq!(roster.revocations().nodes.len(), 1);
        }

        #[test]
        fn no_text_makes_a_member(token in "[A-Za-z0-9_.-]{0,200}") {
            let mut roster = Roster::new(FleetKey::from_seed([1; 32]).id());
            prop_assert!(shows(&mut roster, node(2), &token, at(NOW)).is_err());
            prop_assert!(adopt(&mut roster, &token).is_err());
        }
    }
}

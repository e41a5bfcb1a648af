//! Who may speak with this machine, and as what.

use super::fleet::{Fleet, Refusal, Role};
use super::identity::NodeId;
use std::collections::BTreeSet;

/// Which machines are let in, in both directions: by TLS where their keys are listed; with a fleet by what they show in their first
/// greeting, before anything else is answered or asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Admission {
    /// Any key. Connections are encrypted and peers are told apart, but what they may see is what anyone may see.
    #[default]
    Open,
    /// The keys that the administrator listed, and no other.
    Static(BTreeSet<NodeId>),
    /// The members of a fleet.
    Fleet(Fleet),
}

/// What the share policy knows about who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Someone on the network.
    Anyone,
    /// A machine that the administrator named.
    Enrolled,
}

impl Admission {
    /// Whether connections to and from `id` are allowed. Whether a machine is a member of the fleet is to be seen on the connection.
    #[must_use]
    pub fn admits(&self, id: NodeId) -> bool {
        match self {
            Self::Open | Self::Fleet(_) => true,
            Self::Static(nodes) => nodes.contains(&id),
        }
    }

    /// Why `id`, whose identity is proved, may do no more than greet us and join us; `None` if it may.
    #[must_use]
    pub fn refusal(&self, id: NodeId) -> Option<Refusal> {
        match self {
            Self::Fleet(fleet) => fleet.standing(id).err(),
            Self::Open | Self::Static(_) => None,
        }
    }

    /// The fleet whose members are let in, if it is one.
    #[must_use]
    pub const fn fleet(&self) -> Option<&Fleet> {
        match self {
            Self::Fleet(fleet) => Some(fleet),
            Self::Open | Self::Static(_) => None,
        }
    }

    /// Whether `id`, which is let in, may do that for others: in a fleet its membership says so.
    #[must_use]
    pub fn allows(&self, id: NodeId, role: Role) -> bool {
        self.fleet().is_none_or(|fleet| fleet.may(id, role))
    }

    /// As whom `id`, whose identity TLS has proved, is served.
    #[must_use]
    pub fn audience(&self, id: NodeId) -> Audience {
        match self {
            Self::Static(nodes) if nodes.contains(&id) => Audience::Enrolled,
            Self::Fleet(fleet) if fleet.standing(id).is_ok() => Audience::Enrolled,
            Self::Open | Self::Static(_) | Self::Fleet(_) => Audience::Anyone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    #[test]
    fn only_listed_keys_are_enrolled() {
        let [listed, other] = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]).id());
        let fixed = Admission::Static([listed].into());
        assert_eq!((fixed.admits(listed), fixed.audience(listed)), (true, Audience::Enrolled));
        assert_eq!((fixed.admits(other), fixed.audience(other)), (false, Audience::Anyone));
        assert_eq!((Admission::Open.admits(other), Admission::Open.audience(other)), (true, Audience::Anyone));
        assert!(!Admission::Static(BTreeSet::new()).admits(other));
    }
}

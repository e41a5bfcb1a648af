//! Who may speak with this machine, and as what.

use super::identity::NodeId;
use std::collections::BTreeSet;

/// Which node keys are let in: by TLS, in both directions, before a byte of HTTP is exchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Admission {
    /// Any key. Connections are encrypted and peers are told apart, but what they may see is what anyone may see.
    #[default]
    Open,
    /// The keys that the administrator listed, and no other.
    Static(BTreeSet<NodeId>),
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
    /// Whether connections to and from `id` are allowed.
    #[must_use]
    pub fn admits(&self, id: NodeId) -> bool {
        match self {
            Self::Open => true,
            Self::Static(nodes) => nodes.contains(&id),
        }
    }

    /// As whom `id`, whose identity TLS has proved, is served.
    #[must_use]
    pub fn audience(&self, id: NodeId) -> Audience {
        match self {
            Self::Static(nodes) if nodes.contains(&id) => Audience::Enrolled,
            Self::Open | Self::Static(_) => Audience::Anyone,
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

//! Past one room: above so many machines not everybody knows everybody. Four of them, the relays, know what all have; the others know what
//! the relays have between them, and ask a relay who has what. Who relays is decided here, by each machine for itself and by all alike:
//! pure state, without a clock.

use super::identity::NodeId;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// With more machines than this, itself included, a machine leaves it to relays to know them all,
pub const RELAYED_ABOVE: usize = 128;
/// and with fewer than this no longer: what is in between changes nothing.
pub const MESHED_BELOW: usize = 96;
/// How many relays there are.
pub const RELAYS: usize = 4;
/// How often a relay is greeted by those it relays for, each time on a connection of its own: nobody keeps one to each of a thousand.
pub const GREETING_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two looks at one peer where relays tell what it has: each is a connection.
pub const LOOK_GAP: Duration = Duration::from_secs(2);
/// How long a machine that a relay knows may say nothing.
pub const SILENT: Duration = Duration::from_secs(4 * 60);
/// What a relay tells is another no more often than this,
pub const UNION_GAP: Duration = Duration::from_secs(2);
/// and with many machines less often, by this for each: a relay greets all it relays for.
pub const UNION_GAP_EACH: Duration = Duration::from_millis(5);
/// How many machines are asked at once whether they relay.
const TRIED_MAX: usize = 8;

/// How many machines a machine knows that leaves it to relays to know all: those that are first in line to relay.
pub const KNOWN_MAX: usize = 512;

/// A machine, as one that may relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// Whether it has proved that it is there: others are not counted.
    pub is_proved: bool,
    /// Whether it relays, in its own words; `None`: it has not been asked.
    pub is_willing: Option<bool>,
}

/// Who knows whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Layout {
    /// Everybody knows everybody.
    #[default]
    Mesh,
    /// All know the relays.
    Relayed {
        /// Who they are, the first choice of all machines first; fewer than [`RELAYS`] while they are looked for.
        relays: Vec<NodeId>,
        /// Who is asked whether it is one.
        tried: Vec<NodeId>,
        /// Whether this machine is one.
        is_relay: bool,
    },
}

impl Layout {
    /// How it is, after it was `before`, with this machine (`us`) and the `others` that are there.
    #[must_use]
    pub fn of(before: &Self, us: Member, others: impl Iterator<Item = Member>) -> Self {
        let mut members: Vec<Member> = others.collect();
        members.push(us);
        let most = if *before == Self::Mesh { RELAYED_ABOVE } else { MESHED_BELOW - 1 };
        if members.iter().filter(|member| member.is_proved).count() <= most {
            return Self::Mesh;
        }
        members.sort_by_cached_key(|member| std::cmp::Reverse(place(member.id)));
        let (mut relays, mut tried) = (Vec::new(), Vec::new());
        for member in members {
            match member.is_willing {
                Some(true) => relays.push(member.id),
                None if tried.len() < TRIED_MAX => tried.push(member.id),
                Some(false) | None => {}
            }
            if relays.len() == RELAYS {
                break;
            }
        }
        if relays.is_empty() && tried.is_empty() {
            // Nobody relays: as well as it goes without.
            return Self::Mesh;
        }
        let is_relay = relays.contains(&us.id);
        Self::Relayed { relays, tried, is_relay }
    }

    /// Whether this machine leaves `id` alone until it needs it.
    #[must_use]
    pub fn rests(&self, id: NodeId) -> bool {
        match self {
            Self::Mesh => false,
            Self::Relayed { relays, tried, .. } => !relays.contains(&id) && !tried.contains(&id),
        }
    }

    /// Whether this machine relays.
    #[must_use]
    pub const fn is_relay(&self) -> bool {
        matches!(self, Self::Relayed { is_relay: true, .. })
    }

    /// Whether this machine knows the others by relays only.
    #[must_use]
    pub const fn is_leaf(&self) -> bool {
        matches!(self, Self::Relayed { is_relay: false, .. })
    }

    /// In words, for the journal.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Mesh => "every peer is greeted".to_owned(),
            Self::Relayed { relays, is_relay, .. } => {
                let (count, we) = (relays.len(), if *is_relay { ", this machine among them" } else { "" });
                format!("so many peers: {count} relay what all have{we}")
            }
        }
    }

    /// The relays in the order in which `us` turns to them: each machine has its own, so that all relays have as much to do.
    #[must_use]
    pub fn preferred(&self, us: NodeId) -> Vec<NodeId> {
        let Self::Relayed { relays, .. } = self else { return Vec::new() };
        let mut relays = relays.clone();
        relays.sort_by_cached_key(|relay| std::cmp::Reverse(weight(&[b"leaf", relay.as_bytes(), us.as_bytes()])));
        relays
    }
}

/// The place of a machine in line to relay: the highest is first.
pub(super) fn place(id: NodeId) -> [u8; 32] {
    weight(&[b"relay", id.as_bytes()])
}

/// Rendezvous hashing of a word, of what it is about and of a machine: the highest wins, and one that comes or goes changes nothing among the
/// others.
pub(crate) fn weight(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn id(number: usize) -> NodeId {
        static IDS: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
            let seed = |number: u64| std::array::from_fn(|place| number.to_le_bytes()[place % 8]);
            (0..1000).map(|number| NodeId::of(&SigningKey::from_bytes(&seed(number)).verifying_key())).collect()
        });
        IDS[number]
    }

    fn members(numbers: impl Iterator<Item = usize>, willing: impl Fn(usize) -> Option<bool>) -> Vec<Member> {
        numbers.map(|number| Member { id: id(number), is_proved: true, is_willing: willing(number) }).collect()
    }

    fn layout(before: &Layout, members: &[Member], us: usize) -> Layout {
        let us = id(us);
        let (we, others): (Vec<Member>, Vec<Member>) = members.iter().partition(|member| member.id == us);
        Layout::of(before, we[0], others.into_iter())
    }

    #[test]
    fn a_room_has_no_relays_and_between_two_numbers_nothing_changes() {
        let willing = |_| Some(true);
        let at = |before: &Layout, count| layout(before, &members(0..count, willing), 0);
        assert_eq!(at(&Layout::Mesh, 128), Layout::Mesh);
        let relayed = at(&Layout::Mesh, 129);
        assert!(matches!(&relayed, Layout::Relayed { relays, tried, .. } if relays.len() == 4 && tried.is_empty()));
        assert_ne!(at(&relayed, 96), Layout::Mesh);
        assert_eq!(at(&relayed, 95), Layout::Mesh);
    }

    #[test]
    fn who_is_only_announced_does_not_count() {
        let mut all = members(0..500, |_| Some(true));
        all[128..].iter_mut().for_each(|member| member.is_proved = false);
        assert_eq!(layout(&Layout::Mesh, &all, 0), Layout::Mesh);
        all[200].is_proved = true;
        assert_ne!(layout(&Layout::Mesh, &all, 0), Layout::Mesh);
    }

    #[test]
    fn nobody_relays_who_does_not_want_to() {
        assert_eq!(layout(&Layout::Mesh, &members(0..500, |_| Some(false)), 0), Layout::Mesh);
        let few = members(0..500, |number| Some(number >= 498));
        let Layout::Relayed { relays, is_relay, .. } = layout(&Layout::Mesh, &few, 0) else { panic!("not relayed") };
        assert_eq!((relays.len(), is_relay), (2, false));
        assert!(layout(&Layout::Mesh, &few, 499).is_relay());
    }

    #[test]
    fn some_are_asked_at_a_time_until_four_are_found() {
        let nobody_asked = members(0..1000, |_| None);
        let Layout::Relayed { relays, tried, .. } = layout(&Layout::Mesh, &nobody_asked, 0) else {
            panic!("not relayed")
        };
        assert_eq!((relays.len(), tried.len()), (0, 8));
        // A fifth of them relay.
        let relays_in_truth = |number: usize| number.is_multiple_of(5);
        let mut known: Vec<Option<bool>> = vec![None; 1000];
        for round in 0.. {
            assert!(round < 20, "it does not end");
            let Layout::Relayed { relays, tried, .. } =
                layout(&Layout::Mesh, &members(0..1000, |number| known[number]), 0)
            else {
                panic!("not relayed")
            };
            if tried.is_empty() {
                assert_eq!(relays.len(), 4);
                break;
            }
            for (number, known) in known.iter_mut().enumerate() {
                if tried.contains(&id(number)) {
                    *known = Some(relays_in_truth(number));
                }
            }
        }
    }

    #[test]
    fn all_relays_have_about_as_many_leaves() {
        let all = members(0..1000, |_| Some(true));
        let layout = layout(&Layout::Mesh, &all, 0);
        let mut leaves = std::collections::HashMap::new();
        for member in &all {
            *leaves.entry(layout.preferred(member.id)[0]).or_insert(0) += 1;
        }
        assert_eq!(leaves.len(), 4);
        assert!(leaves.values().all(|count| (200..300).contains(count)), "{leaves:?}");
    }

    proptest! {
        /// All who know the same machines have the same relays; one that goes and is none changes none, and one that is leaves three.
        #[test]
        fn all_agree(
            willing in proptest::collection::vec(proptest::option::weighted(0.9, any::<bool>()), 129..300),
            gone in any::<prop::sample::Index>(),
        ) {
            let all = members(0..willing.len(), |number| willing[number]);
            let first = layout(&Layout::Mesh, &all, 0);
            let Layout::Relayed { relays, tried, .. } = &first else { return Ok(()) };
            for us in [1, willing.len() - 1] {
                let Layout::Relayed { relays: others, tried: asked, is_relay } = layout(&Layout::Mesh, &all, us) else {
                    return Err(TestCaseError::fail("not relayed"));
                };
                prop_assert_eq!((&others, &asked), (relays, tried));
                prop_assert_eq!(is_relay, relays.contains(&id(us)));
            }
            let gone = 1 + gone.index(willing.len() - 1);
            let rest: Vec<Member> = all.iter().filter(|member| member.id != id(gone)).copied().collect();
            let Layout::Relayed { relays: after, .. } = layout(&first, &rest, 0) else {
                return Err(TestCaseError::fail("not relayed any more"));
            };
            let stayed = relays.iter().filter(|relay| after.contains(relay)).count();
            prop_assert_eq!(stayed, relays.len() - usize::from(relays.contains(&id(gone))));
        }
    }
}

//! Which machine is the directory of a NAR: all who know the same machines agree without a word.

use crate::nix::{NarHash, StoreHash};
use crate::peers::NodeId;
use crate::peers::relays::weight;
use std::cmp::Reverse;

/// The machines in the order in which they are the directory of `nar`: the second is it when the first is gone. Rendezvous hashing, so
/// that a machine that comes or goes changes nothing among the others.
#[must_use]
pub fn order(nar: &NarHash, mut machines: Vec<NodeId>) -> Vec<NodeId> {
    machines.sort_by_cached_key(|id| Reverse(weight(&[b"claim", nar.as_bytes(), id.as_bytes()])));
    machines
}

/// The machine that asks an upstream for the narinfo of `hash` in the place of all.
#[must_use]
pub fn asks(upstream: &[u8; 20], hash: &StoreHash, machines: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    machines.max_by_key(|id| weight(&[b"narinfo", upstream, hash.as_bytes(), id.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use std::collections::HashMap;

    fn ids(count: u8) -> Vec<NodeId> {
        (0..count).map(|seed| NodeId::of(&SigningKey::from_bytes(&[seed; 32]).verifying_key())).collect()
    }

    #[test]
    fn all_agree_and_who_goes_changes_only_its_own() {
        let all = ids(10);
        let backwards: Vec<NodeId> = all.iter().rev().copied().collect();
        let mut first: HashMap<NodeId, usize> = HashMap::new();
        for number in 0..=255 {
            let nar = NarHash::new([number; 32]);
            let order_of = order(&nar, all.clone());
            assert_eq!(order_of, order(&nar, backwards.clone()));
            let gone = order_of[0];
            *first.entry(gone).or_default() += 1;
            let rest: Vec<NodeId> = all.iter().copied().filter(|id| *id != gone).collect();
            assert_eq!(order(&nar, rest), order_of[1..]);
        }
        assert!(first.len() == 10 && first.values().all(|count| *count > 8), "{first:?}");
    }

    #[test]
    fn one_of_all_asks_for_a_narinfo_and_each_for_some() {
        let all = ids(10);
        let mut counts: HashMap<NodeId, usize> = HashMap::new();
        for number in 0..=255 {
            let of = |machines: &[NodeId]| asks(&[1; 20], &StoreHash::new([number; 20]), machines.iter().copied());
            let asks = of(&all).unwrap();
            *counts.entry(asks).or_default() += 1;
            let backwards: Vec<NodeId> = all.iter().rev().copied().collect();
            let others: Vec<NodeId> = all.iter().copied().filter(|id| *id != asks).collect();
            assert_eq!(of(&backwards), Some(asks));
            assert!(of(&others).is_some_and(|next| next != asks));
        }
        assert!(counts.len() == 10 && counts.values().all(|count| *count > 8), "{counts:?}");
    }
}

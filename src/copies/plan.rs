//! Who is asked to hold what: decisions alone, by what is wanted, who is there, and what they said.
//!
//! * A path that is wanted in *n* copies is held by *n* − 1 others. They are chosen by free disk, and among those with about as much by
//!   rendezvous hashing, so that paths are spread and asking again asks the same.
//! * Who holds one and is not seen for a while is given up for another; when it comes back it is told that it need not hold it any more.
//! * Who refuses is not asked for that path for a while.

use crate::nix::StorePath;
use crate::peers::NodeId;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// How long who refused a path is not asked for it, in seconds.
const REFUSED: u64 = 600;
/// How often who holds a path is asked whether it does, in seconds.
const CONFIRM: u64 = 60;
/// How many refusals are remembered.
const REFUSALS_MAX: usize = 65_536;

/// What is wanted on several machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which path.
    pub path: StorePath,
    /// The size of its NAR, in bytes.
    pub size: u64,
    /// On how many machines, this one included.
    pub copies: u32,
}

/// A machine that may hold copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// Whether it is there.
    pub is_online: bool,
}

/// Where a machine stands with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It was asked.
    Asked,
    /// It is fetching it.
    Coming,
    /// It holds it, as it said at this time (seconds since 1970).
    Held(u64),
}

/// One who holds a path, or will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Where it stands.
    pub holding: Holding,
    /// When it was last there, in seconds since 1970.
    pub seen: u64,
}

/// What is to be said to one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// Hold these.
    pub hold: Vec<Want>,
    /// These no more.
    pub release: Vec<StorePath>,
}

/// What a machine said of the paths that it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// How many bytes are free there.
    pub free: u64,
    /// It holds these.
    pub held: Vec<StorePath>,
    /// It is fetching these.
    pub coming: Vec<StorePath>,
}

/// Who holds what of this machine's paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path.
    pub(super) holders: BTreeMap<StorePath, BTreeMap<NodeId, Holder>>,
    /// Who may still hold what it need not hold any more.
    pub(super) spare: BTreeMap<NodeId, BTreeSet<StorePath>>,
    /// Until when who is not asked for what.
    refusals: BTreeMap<(NodeId, StorePath), u64>,
    /// How much is free where, as they said last.
    free: BTreeMap<NodeId, u64>,
}

impl Plan {
    /// Takes in what is wanted by whom it could be had `now` (seconds since 1970), and says whom to ask for what. Who was not seen for
    /// `replace_after` seconds is replaced.
    pub fn ask(&mut self, wants: &[Want], members: &[Member], replace_after: u64, now: u64) -> BTreeMap<NodeId, Ask> {
        self.refusals.retain(|_, until| *until > now);
        let online: BTreeSet<NodeId> =
            members.iter().filter(|member| member.is_online).map(|member| member.id).collect();
        let wanted: BTreeSet<&StorePath> = wants.iter().map(|want| &want.path).collect();
        let over: Vec<StorePath> = self.holders.keys().filter(|path| !wanted.contains(path)).cloned().collect();
        for path in over {
            let holders = self.holders.remove(&path).unwrap_or_default();
            for id in holders.into_keys() {
                self.spare.entry(id).or_default().insert(path.clone());
            }
        }
        let mut asks: BTreeMap<NodeId, Ask> = BTreeMap::new();
        for want in wants {
            self.place(want, &online, replace_after, now);
            let holders = self.holders.get(&want.path).into_iter().flatten();
            for (id, holder) in holders.filter(|(id, _)| online.contains(id)) {
                let is_sure = matches!(holder.holding, Holding::Held(since) if now.saturating_sub(since) < CONFIRM);
                if !is_sure {
                    asks.entry(*id).or_default().hold.push(want.clone());
                }
            }
        }
        for (id, paths) in self.spare.iter().filter(|(id, _)| online.contains(id)) {
            asks.entry(*id).or_default().release.extend(paths.iter().cloned());
        }
        asks
    }

    /// Chooses who holds a path, beside those who do.
    fn place(&mut self, want: &Want, online: &BTreeSet<NodeId>, replace_after: u64, now: u64) {
        let holders = self.holders.entry(want.path.clone()).or_default();
        for (id, holder) in holders.iter_mut() {
            if online.contains(id) {
                holder.seen = now;
            }
        }
        let others = usize::try_from(want.copies.saturating_sub(1)).unwrap_or(usize::MAX);
        let is_gone = |holder: &Holder| now.saturating_sub(holder.seen) >= replace_after;
        let mut gone: Vec<NodeId> = holders.iter().filter(|(_, holder)| is_gone(holder)).map(|(id, _)| *id).collect();
        // Who holds too many is asked to let go of them: those first that do not have it yet.
        let staying = holders.len() - gone.len();
        if staying > others {
            let mut rest: Vec<(bool, NodeId)> = holders
                .iter()
                .filter(|(id, _)| !gone.contains(id))
                .map(|(id, holder)| (matches!(holder.holding, Holding::Held(_)), *id))
                .collect();
            rest.sort_unstable();
            gone.extend(rest.into_iter().take(staying - others).map(|(_, id)| id));
        }
        for id in &gone {
            holders.remove(id);
            self.spare.entry(*id).or_default().insert(want.path.clone());
        }
        let missing = others.saturating_sub(holders.len());
        let mut able: Vec<NodeId> = online
            .iter()
            .filter(|id| !holders.contains_key(id) && !self.refusals.contains_key(&(**id, want.path.clone())))
            .copied()
            .collect();
        able.sort_by_cached_key(|id| std::cmp::Reverse(rank(&want.path, *id, self.free.get(id).copied())));
        for id in able.into_iter().take(missing) {
            holders.insert(id, Holder { holding: Holding::Asked, seen: now });
            if let Some(spare) = self.spare.get_mut(&id) {
                spare.remove(&want.path);
            }
        }
        if holders.is_empty() {
            self.holders.remove(&want.path);
        }
        self.spare.retain(|_, paths| !paths.is_empty());
    }

    /// Takes in what a machine said to `ask`.
    pub fn answered(&mut self, id: NodeId, ask: &Ask, said: &Said, now: u64) {
        self.free.insert(id, said.free);
        for want in &ask.hold {
            let Some(holders) = self.holders.get_mut(&want.path) else { continue };
            let holding = match () {
                () if said.held.contains(&want.path) => Holding::Held(now),
                () if said.coming.contains(&want.path) => Holding::Coming,
                () => {
                    holders.remove(&id);
                    if self.refusals.len() < REFUSALS_MAX {
                        self.refusals.insert((id, want.path.clone()), now.saturating_add(REFUSED));
                    }
                    continue;
                }
            };
            if let Some(holder) = holders.get_mut(&id) {
                *holder = Holder { holding, seen: now };
            }
        }
        if let Some(spare) = self.spare.get_mut(&id) {
            spare.retain(|path| !ask.release.contains(path));
        }
        self.spare.retain(|_, paths| !paths.is_empty());
    }

    /// Who holds `path`, or is about to.
    pub fn of(&self, path: &StorePath) -> impl Iterator<Item = (NodeId, Holder)> + '_ {
        self.holders.get(path).into_iter().flatten().map(|(id, holder)| (*id, *holder))
    }

    /// Whether somebody else holds `path`, as far as is known.
    #[must_use]
    pub fn is_elsewhere(&self, path: &StorePath) -> bool {
        self.of(path).any(|(_, holder)| matches!(holder.holding, Holding::Held(_)))
    }

    /// Whether something is wanted that is not held as often as it should be.
    #[must_use]
    pub fn lacks(&self, want: &Want) -> bool {
        let held = self.of(&want.path).filter(|(_, holder)| matches!(holder.holding, Holding::Held(_))).count();
        u32::try_from(held).unwrap_or(u32::MAX) < want.copies.saturating_sub(1)
    }
}

/// How well a machine would hold a path: by how often its free disk can be halved, of equals by chance, the same each time. One of which
/// nothing is known yet counts as the best, so that it is asked.
fn rank(path: &StorePath, id: NodeId, free: Option<u64>) -> (u32, [u8; 32]) {
    let size = free.map_or(u32::MAX, |free| free.checked_ilog2().unwrap_or_default());
    let chance = Sha256::new().chain_update(path.hash().as_bytes()).chain_update(id.as_bytes()).finalize();
    (size, chance.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreHash;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;
    const START: u64 = 1_800_000_000;

    fn node(number: u8) -> NodeId {
        NodeKey::from_seed([number; 32]).id()
    }

    fn want(number: u8, copies: u32) -> Want {
        Want { path: StorePath::new(StoreHash::new([number; 20]), "built").unwrap(), size: 1000, copies }
    }

    fn members(there: &[u8]) -> Vec<Member> {
        (1..=5).map(|number| Member { id: node(number), is_online: there.contains(&number) }).collect()
    }

    /// Asks, and has all who are asked hold everything.
    fn settle(plan: &mut Plan, wants: &[Want], members: &[Member], now: u64) -> BTreeMap<NodeId, Ask> {
        let asks = plan.ask(wants, members, HOUR, now);
        for (id, ask) in &asks {
            let held = ask.hold.iter().map(|want| want.path.clone()).collect();
            plan.answered(*id, ask, &Said { free: 1 << 40, held, coming: vec![] }, now);
        }
        asks
    }

    #[test]
    fn as_many_hold_it_as_should_and_they_are_asked_again_now_and_then() {
        let (mut plan, wants, all) = (Plan::default(), [want(1, 3)], members(&[1, 2, 3, 4, 5]));
        assert_eq!(settle(&mut plan, &wants, &all, START).len(), 2);
        assert!(!plan.lacks(&wants[0]) && plan.is_elsewhere(&wants[0].path));
        assert!(settle(&mut plan, &wants, &all, START + CONFIRM - 1).is_empty());
        assert_eq!(settle(&mut plan, &wants, &all, START + CONFIRM).len(), 2);
    }

    #[test]
    fn who_leaves_is_replaced_after_an_hour_and_released_when_it_is_back() {
        let (mut plan, wants) = (Plan::default(), [want(1, 2)]);
        let asked = settle(&mut plan, &wants, &members(&[1, 2, 3]), START);
        let first = *asked.keys().next().unwrap();
        let rest: Vec<u8> = [1, 2, 3].into_iter().filter(|number| node(*number) != first).collect();
        assert!(settle(&mut plan, &wants, &members(&rest), START + HOUR - 1).is_empty(), "it may come back");
        let asked = settle(&mut plan, &wants, &members(&rest), START + HOUR);
        assert!(asked.len() == 1 && !asked.contains_key(&first));
        assert!(!plan.lacks(&wants[0]));
        let asked = settle(&mut plan, &wants, &members(&[1, 2, 3]), START + HOUR + 1);
        assert_eq!(asked.get(&first).unwrap().release, [wants[0].path.clone()]);
        assert!(settle(&mut plan, &wants, &members(&[1, 2, 3]), START + HOUR + 2).is_empty());
    }

    #[test]
    fn who_refuses_is_passed_over_for_a_while() {
        let (mut plan, wants, all) = (Plan::default(), [want(1, 2)], members(&[1, 2]));
        let asks = plan.ask(&wants, &all, HOUR, START);
        let (first, ask) = asks.iter().next().unwrap();
        plan.answered(*first, ask, &Said::default(), START);
        let asks = plan.ask(&wants, &all, HOUR, START + 1);
        let (second, ask) = asks.iter().next().unwrap();
        assert_ne!(first, second);
        plan.answered(*second, ask, &Said::default(), START + 1);
        assert!(plan.ask(&wants, &all, HOUR, START + 2).is_empty(), "nobody is left");
        assert!(!plan.ask(&wants, &all, HOUR, START + REFUSED).is_empty());
    }

    #[test]
    fn who_has_much_room_is_asked_before_who_has_little() {
        let (mut plan, all) = (Plan::default(), members(&[1, 2, 3]));
        for number in 1..=3_u8 {
            let free = if number == 2 { 1 << 40 } else { 1 << 30 };
            plan.answered(node(number), &Ask::default(), &Said { free, ..Said::default() }, START);
        }
        for number in 1..20 {
            assert!(plan.ask(&[want(number, 2)], &all, HOUR, START).contains_key(&node(2)));
        }
    }

    #[test]
    fn what_is_wanted_no_more_or_less_often_is_released() {
        let (mut plan, all) = (Plan::default(), members(&[1, 2, 3, 4, 5]));
        settle(&mut plan, &[want(1, 4)], &all, START);
        let asked = settle(&mut plan, &[want(1, 2)], &all, START + 1);
        assert_eq!(asked.values().map(|ask| ask.release.len()).sum::<usize>(), 2);
        let asked = settle(&mut plan, &[], &all, START + 2);
        assert_eq!(asked.values().map(|ask| ask.release.len()).sum::<usize>(), 1);
        assert!(plan.holders.is_empty() && plan.spare.is_empty());
    }

    proptest! {
        /// Machines come and go, refuse and forget, wants change: nobody is asked both to hold and to release a path, nobody holds more often
        /// than wanted, and once all are there and willing, everything is held.
        #[test]
        fn whatever_happens_it_settles(
            steps in proptest::collection::vec((any::<u8>(), any::<u8>(), 0..5000_u64, any::<bool>()), 1..40)
        ) {
            let (mut plan, mut now) = (Plan::default(), START);
            for (there, wanted, time, is_willing) in steps {
                now += time;
                let online: Vec<u8> = (1..=5).filter(|number| there & (1 << number) != 0).collect();
                let wants: Vec<Want> = (0..8).filter(|bit| wanted & (1 << bit) != 0).map(|bit| want(bit, u32::from(bit % 4))).collect();
                let asks = plan.ask(&wants, &members(&online), HOUR, now);
                for (id, ask) in &asks {
                    prop_assert!(ask.hold.iter().all(|want| !ask.release.contains(&want.path)));
                    prop_assert!(online.iter().any(|number| node(*number) == *id));
                    let held = if is_willing { ask.hold.iter().map(|want| want.path.clone()).collect() } else { vec![] };
                    plan.answered(*id, ask, &Said { free: 0, held, coming: vec![] }, now);
                }
                for want in &wants {
                    prop_assert!(plan.of(&want.path).count() <= usize::try_from(want.copies.saturating_sub(1)).unwrap());
                }
            }
            let wants: Vec<Want> = (0..8).map(|bit| want(bit, 3)).collect();
            for _ in 0..3 {
                now += REFUSED.max(HOUR);
                settle(&mut plan, &wants, &members(&[1, 2, 3, 4, 5]), now);
            }
            prop_assert!(wants.iter().all(|want| !plan.lacks(want)));
            prop_assert!(plan.spare.is_empty());
        }
    }
}

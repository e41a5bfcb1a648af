//! What this machine offers, and how that changed: from which every peer is told what it does not know yet.

use super::entries::without;
use super::entry::{Entry, Salt};
use super::update::{self, Update};
use crate::peers::IndexState;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// How many changes are remembered; whoever knows an older state is told everything.
const CHANGES_MAX: usize = 64;
/// How many entries all of those have together: 256 KiB. More than that is no shorter than everything.
const CHANGED_MAX: usize = 256 * 1024 / 6;

/// What changed at once.
struct Change {
    added: Vec<Entry>,
    removed: Vec<Entry>,
}

impl Change {
    fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }
}

/// The log of this machine's own set.
pub struct Log {
    state: IndexState,
    salt: Salt,
    entries: Vec<Entry>,
    /// The last ones; the last of all led to `state`.
    changes: VecDeque<Change>,
    /// What was told last, which others will ask as well: everything, and what changed since a state.
    snapshot: Option<Bytes>,
    since: Option<(u64, Bytes)>,
}

impl Log {
    /// An empty one; `epoch` is at random.
    #[must_use]
    pub const fn new(epoch: u64, salt: Salt) -> Self {
        let state = IndexState { epoch, seq: 0 };
        Self { state, salt, entries: Vec::new(), changes: VecDeque::new(), snapshot: None, since: None }
    }

    /// The state that it is in.
    #[must_use]
    pub const fn state(&self) -> IndexState {
        self.state
    }

    /// What its entries are made with.
    #[must_use]
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// Its entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// These are the entries now, in order and without repetition. Whether that changes anything.
    pub fn set(&mut self, entries: Vec<Entry>) -> bool {
        let missing = |of: &[Entry], others: &[Entry]| without(of.iter().copied(), others.iter().copied()).collect();
        let change = Change { added: missing(&entries, &self.entries), removed: missing(&self.entries, &entries) };
        if change.len() == 0 {
            return false;
        }
        self.entries = entries;
        self.state.seq += 1;
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_MAX || self.changes.iter().map(Change::len).sum::<usize>() > CHANGED_MAX {
            self.changes.pop_front();
        }
        (self.snapshot, self.since) = (None, None);
        true
    }

    /// What to tell somebody who knows this state; `None`: who knows nothing.
    pub fn answer(&mut self, known: Option<IndexState>) -> Bytes {
        let missed = known.filter(|known| known.epoch == self.state.epoch);
        let missed = missed.and_then(|known| self.state.seq.checked_sub(known.seq));
        let missed = missed.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= self.changes.len());
        match missed {
            Some(count) => self.changes_of(count),
            None => self.everything(),
        }
    }

    fn everything(&mut self) -> Bytes {
        let Self { state, salt, entries, snapshot, .. } = self;
        snapshot.get_or_insert_with(|| update::snapshot(*state, *salt, entries)).clone()
    }

    /// What the last `count` changes made together.
    fn changes_of(&mut self, count: usize) -> Bytes {
        let first = self.state.seq - count as u64;
        if let Some((since, told)) = &self.since
            && *since == first
        {
            return told.clone();
        }
        // Whether it was there before the first of them, and whether it is there now.
        let mut changed: BTreeMap<Entry, (bool, bool)> = BTreeMap::new();
        for change in self.changes.range(self.changes.len() - count..) {
            for (entries, is_there) in [(&change.added, true), (&change.removed, false)] {
                for entry in entries {
                    changed.entry(*entry).or_insert((!is_there, is_there)).1 = is_there;
                }
            }
        }
        let of = |wanted: (bool, bool)| -> Vec<Entry> {
            changed.iter().filter(|(_, was_is)| **was_is == wanted).map(|(entry, _)| *entry).collect()
        };
        let update = Update::Changes { state: self.state, added: of((false, true)), removed: of((true, false)) };
        let told = update.to_bytes();
        self.since = Some((first, told.clone()));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::view::Set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        numbers.into_iter().collect::<BTreeSet<u64>>().into_iter().filter_map(Entry::new).collect()
    }

    #[test]
    fn nothing_changes_without_a_change() {
        let mut log = Log::new(7, Salt::OPEN);
        assert!(!log.set(vec![]) && log.is_empty());
        assert!(log.set(entries([1, 2])) && !log.set(entries([1, 2])));
        assert_eq!((log.state(), log.len()), (IndexState { epoch: 7, seq: 1 }, 2));
    }

    #[test]
    fn who_is_too_far_behind_is_told_everything() {
        let mut log = Log::new(7, Salt::OPEN);
        for number in 0..=CHANGES_MAX as u64 {
            log.set(entries([number]));
        }
        let is_snapshot = |bytes: Bytes| matches!(Update::parse(&bytes), Ok(Update::Snapshot { .. }));
        let mut at = |epoch, seq| is_snapshot(log.answer(Some(IndexState { epoch, seq })));
        assert!(at(7, 0) && !at(7, 1) && !at(7, 65) && at(7, 66) && at(8, 65));
        assert!(log.set(entries(0..CHANGED_MAX as u64 + 2)));
        assert!(is_snapshot(log.answer(Some(IndexState { epoch: 7, seq: 65 }))), "that is no shorter");
    }

    #[test]
    fn what_came_and_went_is_not_told() {
        let mut log = Log::new(7, Salt::OPEN);
        for numbers in [&[1, 2][..], &[2, 3], &[1, 2]] {
            log.set(entries(numbers.iter().copied()));
        }
        let told = Update::parse(&log.answer(Some(IndexState { epoch: 7, seq: 1 })));
        assert_eq!(told, Ok(Update::Changes { state: log.state(), added: vec![], removed: vec![] }));
    }

    proptest! {
        /// Whoever follows a log, at whatever states it asks, has what the log has.
        #[test]
        fn who_follows_has_the_same(
            states in proptest::collection::vec((proptest::collection::btree_set(0..40u64, 0..20), any::<bool>()), 1..90),
        ) {
            let mut log = Log::new(7, Salt::OPEN);
            let mut follower: Option<Set> = None;
            for (numbers, asks) in states {
                log.set(entries(numbers.iter().copied()));
                if asks {
                    let known = follower.as_ref().map(Set::state);
                    let update = Update::parse(&log.answer(known)).unwrap();
                    follower = Some(Set::updated(follower.as_ref(), update).unwrap());
                    let set = follower.as_ref().unwrap();
                    prop_assert_eq!(set.state(), log.state());
                    for number in 0..40 {
                        prop_assert_eq!(set.has(Entry::new(number).unwrap()), numbers.contains(&number));
                    }
                }
            }
        }
    }
}

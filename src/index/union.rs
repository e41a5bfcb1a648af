//! What several machines have between them, as a relay tells it: how many have each entry, and the log of those that somebody has.

use super::entry::Entry;
use super::log::Log;
use super::set::ENTRIES_MAX;
use std::collections::HashMap;

/// The union of many sets.
pub struct Union {
    log: Log,
    /// How many have it; never 0.
    holders: HashMap<Entry, u32>,
    /// The log does not say what `holders` does.
    is_stale: bool,
}

impl Union {
    /// Of no sets; `log` is empty.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self { log, holders: HashMap::new(), is_stale: false }
    }

    /// Of no sets again; the log goes on.
    pub fn clear(&mut self) {
        self.holders.clear();
        self.is_stale = true;
    }

    /// One machine's set is another than before; both are in order.
    pub fn replace(&mut self, before: impl Iterator<Item = Entry>, after: impl Iterator<Item = Entry>) {
        let (mut before, mut after) = (before.peekable(), after.peekable());
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => return,
                (Some(one), Some(other)) if one == other => {
                    before.next();
                    after.next();
                }
                (Some(one), other) if other.is_none_or(|other| one < other) => {
                    self.lost(*one);
                    before.next();
                }
                (_, other) => {
                    other.into_iter().for_each(|other| self.gained(*other));
                    after.next();
                }
            }
        }
    }

    fn gained(&mut self, entry: Entry) {
        let count = self.holders.entry(entry).or_default();
        *count += 1;
        self.is_stale |= *count == 1;
    }

    fn lost(&mut self, entry: Entry) {
        let Some(count) = self.holders.get_mut(&entry) else { return };
        *count -= 1;
        if *count == 0 {
            self.holders.remove(&entry);
            self.is_stale = true;
        }
    }

    /// Whether there is something that the log does not say yet.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Has the log say what is so now. Takes as long as the union is large. Whether that changes anything.
    pub fn cut(&mut self) -> bool {
        if !std::mem::take(&mut self.is_stale) {
            return false;
        }
        // What does not fit into an answer is left out, and of that first what one machine alone claims.
        let least = u32::from(self.holders.len() > ENTRIES_MAX) + 1;
        let held = self.holders.iter().filter(|(_, count)| **count >= least);
        let mut entries: Vec<Entry> = held.map(|(entry, _)| *entry).collect();
        entries.sort_unstable();
        entries.truncate(ENTRIES_MAX);
        self.log.set(entries)
    }

    /// The log.
    pub const fn log(&mut self) -> &mut Log {
        &mut self.log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::entry::Salt;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_that_claims_everything_hides_nothing_that_two_have() {
        let mut union = Union::new(Log::new(7, Salt::OPEN));
        let entries = |numbers: std::ops::Range<u64>| numbers.filter_map(Entry::new);
        for _ in 0..2 {
            union.replace(std::iter::empty(), entries(0..100));
        }
        union.replace(std::iter::empty(), entries(100..200));
        union.replace(std::iter::empty(), entries(1 << 40..(1 << 40) + ENTRIES_MAX as u64));
        assert!(union.cut());
        assert!(union.log().entries().iter().copied().eq(entries(0..100)));
        union.replace(entries(1 << 40..(1 << 40) + ENTRIES_MAX as u64), std::iter::empty());
        assert!(union.cut());
        assert!(union.log().entries().iter().copied().eq(entries(0..200)));
    }

    proptest! {
        /// It is what the sets are together, whatever changes in which of them.
        #[test]
        fn it_is_the_union_of_the_sets(
            changes in proptest::collection::vec((0..4usize, proptest::collection::btree_set(0..30u64, 0..12)), 0..40),
        ) {
            let mut union = Union::new(Log::new(7, Salt::OPEN));
            let mut sets: [BTreeSet<u64>; 4] = Default::default();
            let entries = |set: &BTreeSet<u64>| set.iter().filter_map(|number| Entry::new(*number)).collect::<Vec<_>>();
            for (whose, set) in changes {
                let before: BTreeSet<u64> = sets.iter().flatten().copied().collect();
                union.replace(entries(&sets[whose]).into_iter(), entries(&set).into_iter());
                sets[whose] = set;
                let all: BTreeSet<u64> = sets.iter().flatten().copied().collect();
                prop_assert_eq!(union.cut(), before != all);
                prop_assert_eq!(union.log().entries(), &entries(&all)[..]);
                prop_assert!(!union.is_stale());
            }
        }
    }
}

//! What several machines have between them, as a relay tells it: how many have each entry, and the log of those that somebody has.

use super::entry::Entry;
use super::log::Log;
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
        let mut entries: Vec<Entry> = self.holders.keys().copied().collect();
        entries.sort_unstable();
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

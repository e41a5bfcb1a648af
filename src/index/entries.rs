//! Many sets of entries in little memory: machines of one kind have most of their paths in common.
//!
//! A set is what it has more and less than another one, its base, which others share. One that is like no base is kept whole, and is a base for
//! others if there is a place.

use super::entry::Entry;
use std::iter::Peekable;
use std::sync::Arc;

/// How many bases there are: kinds of machines.
const BASES_MAX: usize = 8;
/// A set with fewer entries is no base: it is not worth it.
const BASE_MIN: usize = 64;

/// A set of entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    /// In order, as are the others.
    base: Arc<Vec<Entry>>,
    /// What it has that its base has not.
    more: Vec<Entry>,
    /// What of its base it has not.
    less: Vec<Entry>,
}

impl Entries {
    /// These, which are in order and without repetition.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { more: entries, ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.base.len() + self.more.len() - self.less.len()
    }

    /// How many of them take memory here, and not in a base.
    pub(crate) fn kept(&self) -> usize {
        self.more.len() + self.less.len()
    }

    /// Whether this one is among them.
    pub(crate) fn has(&self, entry: Entry) -> bool {
        let is_in = |entries: &[Entry]| position(entries, entry).is_ok();
        is_in(&self.more) || (is_in(&self.base) && !is_in(&self.less))
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        let base = without(self.base.iter().copied(), self.less.iter().copied());
        union(base, self.more.iter().copied())
    }

    /// The same with what was added and without what was removed. What is removed and was not there, or added and was, is no matter. Takes as
    /// long as the differences are many.
    pub(crate) fn changed(&self, added: &[Entry], removed: &[Entry]) -> Self {
        let (mut more, mut back) = (Vec::new(), Vec::new());
        for entry in added {
            let place = if position(&self.base, *entry).is_ok() { &mut back } else { &mut more };
            place.push(*entry);
        }
        let gone: Vec<Entry> = without(removed.iter().copied(), added.iter().copied()).collect();
        let lost = gone.iter().copied().filter(|entry| position(&self.base, *entry).is_ok());
        let less = without(union(self.less.iter().copied(), lost), back.into_iter()).collect();
        let more = without(union(self.more.iter().copied(), more.into_iter()), gone.iter().copied()).collect();
        Self { base: Arc::clone(&self.base), more, less }
    }
}

/// What sets are told by.
#[derive(Debug, Clone, Default)]
pub struct Bases(Vec<Arc<Vec<Entry>>>);

impl Bases {
    /// The same set by the base that it is most like, if it has half of its entries from there. Takes as long as all of them are large.
    pub(crate) fn shrink(&self, entries: Entries) -> Entries {
        if entries.kept() <= entries.len() / 2 {
            return entries;
        }
        let apart = |base: &&Arc<Vec<Entry>>| {
            without(base.iter().copied(), entries.iter()).count()
                + without(entries.iter(), base.iter().copied()).count()
        };
        let best = self.0.iter().map(|base| (apart(&base), base)).min_by_key(|(apart, _)| *apart);
        match best {
            Some((apart, base)) if apart <= entries.len() / 2 => Entries {
                base: Arc::clone(base),
                more: without(entries.iter(), base.iter().copied()).collect(),
                less: without(base.iter().copied(), entries.iter()).collect(),
            },
            // Its base is no help any more.
            _ if !entries.base.is_empty() => Entries::new(entries.iter().collect()),
            _ => entries,
        }
    }

    /// Has others told by this set, if there is a place and it is whole.
    pub(crate) fn adopt(&mut self, entries: &mut Entries) {
        if !entries.base.is_empty() || entries.more.len() < BASE_MIN {
            return;
        }
        if self.0.len() < BASES_MAX {
            entries.base = Arc::new(std::mem::take(&mut entries.more));
            self.0.push(Arc::clone(&entries.base));
        }
    }

    /// Drops those that no set is told by any more.
    pub(crate) fn prune(&mut self) {
        self.0.retain(|base| Arc::strong_count(base) > 1);
    }

    /// How many entries they have.
    pub(crate) fn kept(&self) -> usize {
        self.0.iter().map(|base| base.len()).sum()
    }
}

/// Where `entry` is or would be. Begins where it should be if entries are spread evenly, and doubles the steps away from there: what is
/// spread otherwise takes no longer than a binary search would, but for a factor.
fn position(entries: &[Entry], entry: Entry) -> Result<usize, usize> {
    if entries.is_empty() {
        return Err(0);
    }
    // Below the length: the value is below 2^48.
    let guess = usize::try_from((u128::from(entry.number()) * entries.len() as u128) >> 48).unwrap_or_default();
    let mut step = 16;
    let (mut low, mut high) = (guess, guess);
    while low > 0 && entries[low] > entry {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 16;
    while high < entries.len() && entries[high] < entry {
        high = (high + step).min(entries.len());
        step *= 2;
    }
    let high = (high + 1).min(entries.len());
    match entries[low..high].binary_search(&entry) {
        Ok(place) => Ok(low + place),
        Err(place) => Err(low + place),
    }
}

/// What is in either, in order; both are in order.
fn union(one: impl Iterator<Item = Entry>, other: impl Iterator<Item = Entry>) -> impl Iterator<Item = Entry> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if a == b => {
            other.next();
            one.next()
        }
        (Some(a), Some(b)) if b < a => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

/// What of `entries` is not among `others`, in order; both are in order.
pub(crate) fn without(
    entries: impl Iterator<Item = Entry>,
    others: impl Iterator<Item = Entry>,
) -> impl Iterator<Item = Entry> {
    let mut others: Peekable<_> = others.peekable();
    entries.filter(move |entry| {
        while others.next_if(|other| other < entry).is_some() {}
        others.peek() != Some(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sorted(numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        numbers.into_iter().collect::<BTreeSet<u64>>().into_iter().filter_map(Entry::new).collect()
    }

    #[test]
    fn machines_of_one_kind_take_the_memory_of_one() {
        let mut bases = Bases::default();
        let mut sets = Vec::new();
        for machine in 0..100 {
            let own = 1_000_000 * (machine + 1);
            let mut set = bases.shrink(Entries::new(sorted((0..1000).chain(own..own + 10))));
            bases.adopt(&mut set);
            assert_eq!(set.len(), 1010);
            sets.push(set);
        }
        let kept: usize = sets.iter().map(Entries::kept).sum();
        assert_eq!((bases.0.len(), bases.kept()), (1, 1010));
        assert_eq!(kept, 99 * 20);
        // Another kind is another base, and one that nobody is told by any more makes room.
        let mut other = bases.shrink(Entries::new(sorted(5_000..6_000)));
        bases.adopt(&mut other);
        assert_eq!((bases.0.len(), other.kept()), (2, 0));
        drop(sets);
        bases.prune();
        let mut third = bases.shrink(Entries::new(sorted(7_000..8_000)));
        bases.adopt(&mut third);
        assert_eq!(bases.0.len(), 2);
        let mut all = Vec::new();
        for machine in 10..30 {
            let mut set = bases.shrink(Entries::new(sorted(machine * 10_000..machine * 10_000 + 100)));
            bases.adopt(&mut set);
            all.push(set);
        }
        assert_eq!(bases.0.len(), BASES_MAX);
        assert!(all.iter().all(|set| set.len() == 100));
    }

    proptest! {
        #[test]
        fn an_entry_is_found_wherever_it_is(
            numbers in proptest::collection::btree_set(prop_oneof![0..1u64 << 48, 0..1000u64, (1u64 << 48) - 1000..1 << 48], 0..300),
            others in proptest::collection::vec(prop_oneof![0..1u64 << 48, 0..1000u64], 0..50),
        ) {
            let entries: Vec<Entry> = numbers.iter().copied().filter_map(Entry::new).collect();
            for number in numbers.iter().chain(&others) {
                let entry = Entry::new(*number).unwrap();
                prop_assert_eq!(position(&entries, entry), entries.binary_search(&entry));
            }
        }

        /// Whatever it is told by, and however it changes, a set is what it is.
        #[test]
        fn a_set_is_the_same_by_any_base(
            bases in proptest::collection::vec(proptest::collection::btree_set(0..60u64, 0..60), 0..4),
            first in proptest::collection::btree_set(0..60u64, 0..60),
            changes in proptest::collection::vec(
                (proptest::collection::btree_set(0..60u64, 0..9), proptest::collection::btree_set(0..60u64, 0..9)),
                0..12,
            ),
        ) {
            let bases = Bases(bases.into_iter().map(|base| Arc::new(sorted(base))).collect());
            let mut expected = first;
            let mut set = bases.shrink(Entries::new(sorted(expected.clone())));
            for (added, removed) in changes {
                set = bases.shrink(set.changed(&sorted(added.clone()), &sorted(removed.clone())));
                expected = expected.difference(&removed).chain(&added).copied().collect();
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), sorted(expected.clone()));
                prop_assert_eq!(set.len(), expected.len());
                for number in 0..60 {
                    prop_assert_eq!(set.has(Entry::new(number).unwrap()), expected.contains(&number));
                }
            }
        }
    }
}

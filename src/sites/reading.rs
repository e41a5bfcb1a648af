//! What is made of what a site tells, message by message, in whatever order they come: a decision without any input or output.

use super::envelope;
use super::error::SiteError;
use super::message::{self, CHANGES_KEPT, Kind, Meta, PARTS_MAX, Slot, digest, parse_change};
use crate::index::{IndexError, Set, UPDATE_MAX, Update};
use crate::peers::{IndexState, NodeId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest part of a snapshot, or change, in bytes.
const MESSAGE_MAX: usize = 512 * 1024;

/// What is known of one site's index so far.
#[derive(Default)]
pub(super) struct Reading {
    /// Parts of snapshots that were not put together yet.
    parts: [Vec<Option<Bytes>>; 2],
    /// Changes that do not follow yet, by the state before them.
    changes: BTreeMap<u64, (u64, Bytes)>,
    meta: Option<(NodeId, u64, Meta)>,
    set: Option<Arc<Set>>,
}

impl Reading {
    /// Takes in what is under a key; whether the set may be another now, see [`Self::advance`].
    ///
    /// # Errors
    /// It makes no sense; nothing is changed by it.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        (from, serial): (NodeId, u64),
        payload: Bytes,
    ) -> Result<bool, SiteError> {
        match kind {
            Kind::Part(..) | Kind::Change(_) if payload.len() > MESSAGE_MAX => {
                Err(SiteError::Malformed("it is too long"))
            }
            Kind::Part(slot, number) => {
                let parts = &mut self.parts[slot as usize];
                if number >= parts.len() {
                    parts.resize(number + 1, None);
                }
                parts[number] = Some(payload);
                Ok(false)
            }
            Kind::Change(_) => {
                let (since, update) = parse_change(payload)?;
                self.changes.insert(since.seq, (since.epoch, update));
                while self.changes.len() as u64 > CHANGES_KEPT {
                    self.changes.pop_first();
                }
                Ok(self.set.is_some())
            }
            Kind::Meta => {
                let meta = Meta::parse(&payload)?;
                meta.states()?;
                // Told again by somebody who kept it, or by one who lost the lease meanwhile.
                let is_old = self.meta.as_ref().is_some_and(|(_, known, _)| serial < *known);
                if !is_old {
                    self.meta = Some((from, serial, meta));
                }
                Ok(!is_old)
            }
        }
    }

    /// How much of what was told is kept until it is put together, in bytes.
    pub(super) fn weight(&self) -> usize {
        let parts: usize = self.parts.iter().flatten().flatten().map(Bytes::len).sum();
        parts + self.changes.values().map(|(_, update)| update.len()).sum::<usize>()
    }

    /// Who speaks for the site, what that machine is called, and how many machines it has.
    pub(super) fn gateway(&self) -> Option<(NodeId, &str, u64)> {
        self.meta.as_ref().map(|(from, _, meta)| (*from, meta.name.as_str(), meta.machines))
    }

    /// The set, as far as it is known.
    pub(super) fn set(&self) -> Option<&Arc<Set>> {
        self.set.as_ref()
    }

    /// Whether something is missing that was told.
    pub(super) fn is_behind(&self) -> bool {
        let told = self.meta.as_ref().and_then(|(_, _, meta)| meta.states().ok());
        told.is_some_and(|(told, _)| self.set.as_ref().map(|set| set.state()) != Some(told))
    }

    /// Brings the set up to date with what was taken in; takes as long as the set is large.
    ///
    /// # Errors
    /// What was told makes no sense. The set is forgotten then.
    pub(super) fn advance(&mut self) -> Result<(), SiteError> {
        let Some((_, _, meta)) = &self.meta else { return Ok(()) };
        let (state, snapshot) = meta.states()?;
        let known = self.set.as_ref().map(|set| set.state());
        // Changes lead there, or the snapshot does.
        let leads = |from: IndexState| self.leads(from, state);
        if known != Some(state)
            && !known.is_some_and(leads)
            && let Some(all) = self.snapshot(meta)
        {
            self.set = None;
            let update = Update::parse(&all)?;
            if !update.is_all() {
                return Err(IndexError::State.into());
            }
            let set = Set::updated(None, update)?;
            if set.state() != snapshot {
                return Err(IndexError::State.into());
            }
            self.set = Some(Arc::new(set));
            self.parts = Default::default();
        }
        while let Some(set) = self.set.clone() {
            let at = set.state();
            if at == state {
                break;
            }
            let Some((_, update)) = self.changes.get(&at.seq).filter(|(epoch, _)| *epoch == at.epoch) else { break };
            let next = Update::parse(update).and_then(|update| Set::updated(Some(&set), update));
            let next = next.inspect_err(|_| self.set = None)?;
            if next.state().seq <= at.seq {
                self.set = None;
                return Err(IndexError::State.into());
            }
            self.set = Some(Arc::new(next));
        }
        let at = self.set.as_ref().map(|set| set.state());
        if let Some(at) = at {
            self.changes.retain(|seq, (epoch, _)| *epoch != at.epoch || *seq >= at.seq);
        }
        Ok(())
    }

    /// Whether there is a change that follows `from`, of the same epoch as `to`.
    fn leads(&self, from: IndexState, to: IndexState) -> bool {
        from.epoch == to.epoch && self.changes.get(&from.seq).is_some_and(|(epoch, _)| *epoch == from.epoch)
    }

    /// The snapshot that `meta` tells of, if all of it is there.
    fn snapshot(&self, meta: &Meta) -> Option<Vec<u8>> {
        let parts = self.parts[meta.slot as usize].get(..meta.parts.min(PARTS_MAX))?;
        let length: usize = parts.iter().flatten().map(Bytes::len).sum();
        if length > UPDATE_MAX {
            return None;
        }
        let mut all = Vec::with_capacity(length);
        for part in parts {
            all.extend_from_slice(part.as_ref()?);
        }
        (digest(&all) == meta.digest).then_some(all)
    }
}

/// Reads bytes in each of the ways in which this room reads those of strangers: for the fuzzer, which finds out whether any of them panics.
#[doc(hidden)]
pub fn read_anything(bytes: &[u8]) {
    let all = Bytes::copy_from_slice(bytes);
    let _ = envelope::open(&all, "place");
    let _ = (message::parse_answer(all.clone()), message::parse_request(bytes), message::Node::parse(bytes));
    let _ = message::Part::parse_request(bytes);
    let _ = std::str::from_utf8(bytes).map(Kind::of);
    let Ok(from) = NodeId::from_bytes(ANYBODY) else { return };
    let mut reading = Reading::default();
    // A message for each kind, its length before it.
    let mut rest = all;
    for (serial, kind) in (0..).zip([Kind::Part(Slot::A, 0), Kind::Part(Slot::A, 1), Kind::Meta, Kind::Change(0)]) {
        let length = rest.first().map_or(0, |length| usize::from(*length)).min(rest.len());
        let payload = rest.split_to(length);
        let _ = reading.take(kind, (from, serial), payload);
        let _ = reading.advance();
    }
}

/// The public key of the first test vector of RFC 8032.
const ANYBODY: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

/// The places of `parts` are those of the slots.
const _: () = assert!(Slot::A as usize == 0 && Slot::B as usize == 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Entry;
    use crate::peers::NodeKey;
    use crate::sites::gathering::Gathering;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use tokio::time::Instant;

    fn entries(numbers: &BTreeSet<u64>) -> Vec<Entry> {
        numbers.iter().filter_map(|number| Entry::new(*number)).collect()
    }

    fn id() -> NodeId {
        NodeKey::from_seed([1; 32]).id()
    }

    fn has(reading: &Reading) -> Option<BTreeSet<u64>> {
        let set = reading.set()?;
        Some((0..400).filter(|number| Entry::new(*number).is_some_and(|entry| set.has(entry))).collect())
    }

    proptest! {
        /// A reader that comes at any time, and loses some of what is told live, ends with what the site has; and who came from the beginning
        /// has it after each step.
        #[test]
        fn whoever_reads_knows_what_the_site_has(
            sets in proptest::collection::vec(proptest::collection::btree_set(0..400u64, 0..60), 1..70),
            joins in any::<prop::sample::Index>(),
        ) {
            let now = Instant::now();
            let mut gathering = Gathering::new(7);
            let mut live = Reading::default();
            // What the bucket keeps: the last of each key, in the order in which they were put.
            let mut bucket: Vec<(Kind, u64, Bytes)> = Vec::new();
            let joins = joins.index(sets.len());
            for (step, set) in sets.iter().enumerate() {
                let serial = step as u64;
                for (kind, payload) in gathering.tell(Some(entries(set)), "tower", 3, now) {
                    bucket.retain(|(other, ..)| *other != kind);
                    bucket.push((kind, serial, payload.clone()));
                    if live.take(kind, (id(), serial), payload).unwrap() {
                        live.advance().unwrap();
                    }
                }
                prop_assert_eq!(has(&live), Some(set.clone()));
                prop_assert!(!live.is_behind());
                if step == joins || step + 1 == sets.len() {
                    let mut late = Reading::default();
                    for (kind, serial, payload) in &bucket {
                        if late.take(*kind, (id(), *serial), payload.clone()).unwrap() {
                            late.advance().unwrap();
                        }
                    }
                    prop_assert_eq!(has(&late), Some(set.clone()));
                }
            }
        }

        #[test]
        fn nothing_that_is_told_panics(payloads in proptest::collection::vec((0..4u8, any::<Vec<u8>>()), 0..10)) {
            let mut reading = Reading::default();
            for (kind, payload) in payloads {
                let kind = match kind {
                    0 => Kind::Meta,
                    1 => Kind::Change(0),
                    2 => Kind::Part(Slot::A, 0),
                    _ => Kind::Part(Slot::B, 1),
                };
                let _ = reading.take(kind, (id(), 1), payload.into());
                let _ = reading.advance();
            }
        }
    }

    #[test]
    fn what_is_missing_is_seen_and_a_snapshot_mends_it() {
        let now = Instant::now();
        let mut gathering = Gathering::new(7);
        let mut reading = Reading::default();
        let mut tell = |numbers: std::ops::Range<u64>, reading: &mut Reading, loses: bool| {
            for (kind, payload) in gathering.tell(Some(entries(&numbers.collect())), "tower", 1, now) {
                if !(loses && matches!(kind, Kind::Change(_))) {
                    reading.take(kind, (id(), 1), payload).unwrap();
                }
            }
            reading.advance().unwrap();
        };
        tell(0..10, &mut reading, false);
        tell(0..20, &mut reading, true);
        assert!(reading.is_behind() && has(&reading).unwrap().len() == 10);
        for end in 21..90 {
            tell(0..end, &mut reading, true);
        }
        assert!(has(&reading).unwrap().len() > 20, "everything was told again");
        let mut other = reading.meta.clone().unwrap();
        other.1 = 0;
        assert!(!reading.take(Kind::Meta, (id(), 0), other.2.to_bytes().into()).unwrap(), "an old one does not count");
    }
}

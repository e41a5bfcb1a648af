//! Who has what: the sets of all peers that tell theirs, in memory.
//!
//! Each peer's entries are one sorted array of six bytes each, so that a hundred machines with twenty thousand paths take 12 MB, whatever
//! they have in common, a change is one pass over one of them, and one that is gone leaves nothing behind. A question looks at each
//! once: entries are spread evenly, so that where one would be follows from its value.

use super::claims::{Claims, Verdict};
use super::entry::{Entry, Salt};
use super::error::IndexError;
use super::set::ENTRIES_MAX;
use super::update::Update;
use crate::nix::StoreHash;
use crate::peers::{IndexState, NodeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most entries of all peers together: 24 MB. Peers whose sets do not fit any more are asked as those are that tell none.
const TOTAL_MAX: usize = 4_000_000;
/// The same where this machine relays: 144 MB.
const TOTAL_MAX_RELAY: usize = 24_000_000;
/// How long the set of a peer is ignored that did not have what it claimed.
const IGNORED: Duration = Duration::from_secs(10 * 60);
/// How many salts are told apart: one, unless somebody plays. Each costs a hash a question.
const SALTS_MAX: usize = 4;

/// What one peer offers.
#[derive(Debug)]
pub struct Set {
    state: IndexState,
    salt: Salt,
    entries: Vec<Entry>,
}

impl Set {
    /// What a set is after an update. Takes as long as the set is large.
    ///
    /// # Errors
    /// It is a change of another state, or makes the set too large.
    pub fn updated(before: Option<&Self>, update: Update) -> Result<Self, IndexError> {
        match (update, before) {
            (Update::Snapshot { state, salt, entries }, _) => Ok(Self { state, salt, entries }),
            (Update::Changes { state, added, removed }, Some(before)) if state.epoch == before.state.epoch => {
                let entries = merged(&before.entries, &added, &removed);
                if entries.len() > ENTRIES_MAX {
                    return Err(IndexError::TooMany(entries.len(), ENTRIES_MAX));
                }
                Ok(Self { state, salt: before.salt, entries })
            }
            (Update::Changes { .. }, _) => Err(IndexError::State),
        }
    }

    /// Which state it is in.
    #[must_use]
    pub const fn state(&self) -> IndexState {
        self.state
    }

    /// Its entries, in order, if they are made with `salt`; none otherwise.
    #[must_use]
    pub fn entries_by(&self, salt: Salt) -> &[Entry] {
        if self.salt == salt { &self.entries } else { &[] }
    }

    /// Whether this entry is in it.
    #[must_use]
    pub fn has(&self, entry: Entry) -> bool {
        position(&self.entries, entry).is_ok()
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

/// `entries` with what was added and without what was removed. What is removed and was not there, or added and was, is no matter.
fn merged(entries: &[Entry], added: &[Entry], removed: &[Entry]) -> Vec<Entry> {
    let mut result = Vec::with_capacity(entries.len() + added.len());
    let (mut added, mut removed) = (added.iter().copied().peekable(), removed.iter().copied().peekable());
    for entry in entries.iter().copied() {
        while let Some(new) = added.next_if(|new| *new < entry) {
            result.push(new);
        }
        let again = added.next_if_eq(&entry).is_some();
        while removed.next_if(|gone| *gone < entry).is_some() {}
        if removed.next_if_eq(&entry).is_none() || again {
            result.push(entry);
        }
    }
    result.extend(added);
    result
}

/// What the index says of a peer and a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It has it.
    Yes,
    /// It does not have it.
    No,
    /// It has not told what it has.
    Unknown,
}

/// The sets of all peers.
#[derive(Debug, Default)]
pub struct View {
    peers: HashMap<NodeId, Known>,
    /// This machine relays, and has room for the sets of many.
    relays: bool,
}

#[derive(Debug)]
struct Known {
    /// `None`: it is not believed.
    set: Option<Arc<Set>>,
    /// It is to be told anew.
    is_stale: bool,
    /// What it does not have after all, until it tells news.
    wrong: Vec<Entry>,
    claims: Claims,
    since: Instant,
}

/// How a set is, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// Its entries.
    pub entries: u64,
    /// When it was last told.
    pub updated: Instant,
    /// How often the peer did not have what it claimed.
    pub wrong_claims: u64,
    /// Whether it is not believed.
    pub ignored: bool,
}

impl View {
    /// Whether this machine relays from now on.
    pub const fn set_relays(&mut self, relays: bool) {
        self.relays = relays;
    }

    /// The sets that are known, of those who are believed.
    pub fn sets(&self) -> impl Iterator<Item = &Set> {
        self.peers.values().filter_map(|known| known.set.as_deref())
    }

    /// Everybody who is said to have this path, in no particular order. Takes as long as there are peers.
    #[must_use]
    pub fn holders(&self, hash: StoreHash) -> Vec<NodeId> {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        let says = self.ask(hash, &ids);
        ids.into_iter().zip(says).filter(|(_, says)| *says == Says::Yes).map(|(id, _)| id).collect()
    }

    /// The state in which a peer's set is known; `None` if it is not known, or is to be told anew, all of it.
    #[must_use]
    pub fn state(&self, id: NodeId) -> Option<IndexState> {
        let known = self.peers.get(&id).filter(|known| !known.is_stale)?;
        known.set.as_ref().map(|set| set.state())
    }

    /// Until when a peer's set is ignored; afterwards it gets another chance.
    #[must_use]
    pub fn ignored_until(&self, id: NodeId) -> Option<Instant> {
        let known = self.peers.get(&id).filter(|known| known.set.is_none())?;
        Some(known.since + IGNORED)
    }

    /// The set of a peer, as it is known: what it tells next may be a change of that.
    #[must_use]
    pub fn set(&self, id: NodeId) -> Option<Arc<Set>> {
        self.peers.get(&id)?.set.clone()
    }

    /// This is the set of a peer now; `all`: it told all of it, and not what changed.
    ///
    /// # Errors
    /// There are too many entries or salts of all peers together. What was known of this one is forgotten then.
    pub fn put(&mut self, id: NodeId, set: Set, all: bool, now: Instant) -> Result<(), IndexError> {
        let claims = self.peers.remove(&id).map_or_else(Claims::default, |before| before.claims);
        let others: usize =
            self.peers.values().filter_map(|known| known.set.as_ref()).map(|set| set.entries.len()).sum();
        let most = if self.relays { TOTAL_MAX_RELAY } else { TOTAL_MAX };
        if others + set.entries.len() > most {
            return Err(IndexError::TooMany(others + set.entries.len(), most));
        }
        let mut salts: Vec<Salt> = self.salts().collect();
        if !salts.contains(&set.salt) {
            salts.push(set.salt);
        }
        if salts.len() > SALTS_MAX {
            return Err(IndexError::TooMany(salts.len(), SALTS_MAX));
        }
        let set = Some(Arc::new(set));
        let known = Known { set, is_stale: false, wrong: Vec::new(), claims: claims.told(all), since: now };
        self.peers.insert(id, known);
        Ok(())
    }

    /// Nothing is known of this peer any more.
    pub fn forget(&mut self, id: NodeId) {
        self.peers.remove(&id);
    }

    /// What each of these peers is said to have: the answer is in their order.
    #[must_use]
    pub fn ask(&self, hash: StoreHash, peers: &[NodeId]) -> Vec<Says> {
        let entries: Vec<(Salt, Entry)> = self.salts().map(|salt| (salt, salt.entry(hash.prefix()))).collect();
        let says = |id: &NodeId| {
            let Some(known) = self.peers.get(id) else { return Says::Unknown };
            // Of one that lied nothing is expected.
            let Some(set) = &known.set else { return Says::No };
            let entry = entries.iter().find(|(salt, _)| *salt == set.salt).map(|(_, entry)| *entry);
            match entry {
                Some(entry) if set.has(entry) && !known.wrong.contains(&entry) => Says::Yes,
                Some(_) => Says::No,
                None => Says::Unknown,
            }
        };
        peers.iter().map(says).collect()
    }

    /// A peer was asked for what it is said to have, and had it or not. What to do about its set.
    pub fn tried(&mut self, id: NodeId, hash: StoreHash, had_it: bool, now: Instant) -> Verdict {
        let Some(known) = self.peers.get_mut(&id) else { return Verdict::Fine };
        let Some(set) = &known.set else { return Verdict::Fine };
        if !had_it {
            let entry = set.salt.entry(hash.prefix());
            if !known.wrong.contains(&entry) && known.wrong.len() < Claims::WRONG_MAX {
                known.wrong.push(entry);
            }
        }
        let verdict = known.claims.tried(had_it);
        match verdict {
            Verdict::Fine => {}
            Verdict::PullAgain => known.is_stale = true,
            Verdict::Ignore => (known.set, known.wrong, known.since) = (None, Vec::new(), now),
        }
        verdict
    }

    /// What did not count here may count now: nothing that turned out wrong is held against anybody.
    pub fn forgive(&mut self) {
        for known in self.peers.values_mut() {
            known.wrong.clear();
            known.claims = known.claims.told(true);
        }
    }

    /// How the sets are, in no particular order.
    pub fn status(&self) -> impl Iterator<Item = SetStatus> {
        self.peers.keys().filter_map(|id| self.status_of(*id))
    }

    /// How the set of one peer is; `None` if it tells none.
    #[must_use]
    pub fn status_of(&self, id: NodeId) -> Option<SetStatus> {
        let known = self.peers.get(&id)?;
        Some(SetStatus {
            entries: known.set.as_ref().map_or(0, |set| set.entries.len() as u64),
            updated: known.since,
            wrong_claims: known.claims.wrong_ever(),
            ignored: known.set.is_none(),
        })
    }

    /// The salts of all sets, each once.
    fn salts(&self) -> impl Iterator<Item = Salt> {
        let mut seen = Vec::with_capacity(1);
        for set in self.peers.values().filter_map(|known| known.set.as_ref()) {
            if !seen.contains(&set.salt) {
                seen.push(set.salt);
            }
        }
        seen.into_iter()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;

//! Who has what: the sets of all peers that tell theirs, in memory.
//!
//! Each peer's entries are sorted arrays of six bytes each ([`super::entries`]): what machines have in common is kept once, a change takes as
//! long as there are differences, and a peer that is gone leaves nothing behind. A question looks at each peer once: entries are spread
//! evenly, so that where one would be follows from its value.

use super::claims::{Claims, Verdict};
use super::entries::{Bases, Entries};
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

/// The most entries that are kept of all peers together: 24 MB. Peers whose sets do not fit any more are asked as those are that tell none.
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
    entries: Entries,
}

impl Set {
    /// What a set is after an update. Takes as long as the set is large.
    ///
    /// # Errors
    /// It is a change of another state, or makes the set too large.
    pub fn updated(before: Option<&Self>, update: Update) -> Result<Self, IndexError> {
        match (update, before) {
            (Update::Snapshot { state, salt, entries }, _) => Ok(Self { state, salt, entries: Entries::new(entries) }),
            (Update::Changes { state, added, removed }, Some(before)) if state.epoch == before.state.epoch => {
                let entries = before.entries.changed(&added, &removed);
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

    /// The same in less memory, where others have much of it as well. Takes as long as the set is large.
    #[must_use]
    pub fn shrunk(self, bases: &Bases) -> Self {
        Self { entries: bases.shrink(self.entries), ..self }
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this entry is in it.
    #[must_use]
    pub fn has(&self, entry: Entry) -> bool {
        self.entries.has(entry)
    }
}

/// The entries of a set that count in a union, in order: those that machines make which talk to everybody.
pub(crate) fn told_together(set: Option<&Set>) -> impl Iterator<Item = Entry> {
    set.into_iter().filter(|set| set.salt == Salt::OPEN).flat_map(|set| set.entries.iter())
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
    /// What sets have in common.
    bases: Bases,
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

    /// What sets have in common, to tell another one by.
    #[must_use]
    pub fn bases(&self) -> Bases {
        self.bases.clone()
    }

    /// How many entries take memory: what sets have in common counts once.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.bases.kept() + self.sets().map(|set| set.entries.kept()).sum::<usize>()
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
    pub fn put(&mut self, id: NodeId, mut set: Set, all: bool, now: Instant) -> Result<(), IndexError> {
        let claims = self.peers.remove(&id).map_or_else(Claims::default, |before| before.claims);
        self.bases.prune();
        self.bases.adopt(&mut set.entries);
        let kept = self.kept() + set.entries.kept();
        let most = if self.relays { TOTAL_MAX_RELAY } else { TOTAL_MAX };
        if kept > most {
            return Err(IndexError::TooMany(kept, most));
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
        self.bases.prune();
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

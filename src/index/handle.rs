//! The room's handle: what the rooms above ask of it and tell it.

use super::claims::Verdict;
use super::entry::{Entry, Salt};
use super::error::IndexError;
use super::log::Log;
use super::relay::Relay;
use super::union::Union;
use super::update::Update;
use super::view::{Says, Set, SetStatus, View, told_together};
use crate::metrics::Metrics;
use crate::nix::StoreHash;
use crate::peers::{IndexState, NodeId, Peer, Peers};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// How many updates a slow listener may fall behind.
const UPDATES_MAX: usize = 64;

/// A peer told what it has, or what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub id: NodeId,
    /// How long what it told is, in bytes.
    pub bytes: u64,
    /// How many entries it has more and less than were known.
    pub added: u64,
    /// See [`Self::added`].
    pub removed: u64,
    /// How many it has now.
    pub entries: u64,
}

/// The index of this machine: what it offers, and what its peers do. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    peers: Peers,
    metrics: Arc<Metrics>,
    /// What this machine tells; `None`: nothing.
    log: Option<Mutex<Log>>,
    view: RwLock<View>,
    /// What this machine tells as a relay. Locked before `log` and `view`.
    relay: Relay,
    /// For each peer that is followed: there is news, or a reason to look again.
    news: Mutex<HashMap<NodeId, watch::Sender<()>>>,
    /// Counts how often somebody may have more than before.
    more: watch::Sender<u64>,
    /// Counts how often anything in here became another.
    changes: watch::Sender<u64>,
    /// For whoever wants to hear of each update.
    updates: broadcast::Sender<Told>,
    /// One moment by both clocks.
    began: (Instant, SystemTime),
}

impl Index {
    /// Knows nothing yet. `offers`: whether this machine tells what it has; it does so from the first [`Self::offer`] on.
    #[must_use]
    pub fn new(peers: Peers, offers: bool, metrics: Arc<Metrics>) -> Self {
        // Without randomness the epoch is that of an earlier run perhaps, whose peers would take the wrong changes: then it offers nothing.
        let log = getrandom::u64().ok().filter(|_| offers).map(|epoch| Mutex::new(Log::new(epoch, Salt::OPEN)));
        let (view, news, relay) = Default::default();
        let began = (Instant::now(), SystemTime::now());
        Self(Arc::new(Inner {
            peers,
            metrics,
            log,
            view,
            relay,
            news,
            more: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            updates: broadcast::channel(UPDATES_MAX).0,
            began,
        }))
    }

    /// Whether this machine tells what it has.
    #[must_use]
    pub fn offers(&self) -> bool {
        self.0.log.is_some()
    }

    /// What this machine has now, by the first eight bytes of hash parts, in any order; peers are told if that is news. Takes as long as
    /// that is much.
    pub fn offer(&self, prefixes: impl Iterator<Item = [u8; 8]>) {
        let Some(log) = &self.0.log else { return };
        let salt = log.lock().salt();
        let mut entries: Vec<Entry> = prefixes.map(|prefix| salt.entry(prefix)).collect();
        entries.sort_unstable();
        entries.dedup();
        let mut union = self.0.relay.union();
        let mut log = log.lock();
        if let Some(union) = &mut *union {
            union.replace(log.entries().iter().copied(), entries.iter().copied());
        }
        drop(union);
        self.0.relay.wake();
        // The first time also of nothing: that there is an index is news.
        let is_first = log.state().seq == 0;
        if log.set(entries) || is_first {
            // Written now, and not when the first one asks.
            log.answer(None);
            self.0.peers.tell_index(Some(log.state()));
            self.changed();
        }
    }

    /// What to tell a peer that knows this state of ours; `None` if nothing is told.
    #[must_use]
    pub fn answer(&self, known: Option<IndexState>) -> Option<Bytes> {
        Some(self.0.log.as_ref()?.lock().answer(known))
    }

    /// What to tell a peer that knows this state of what all have whom we relay for; `None` if this machine does not relay.
    #[must_use]
    pub fn answer_union(&self, known: Option<IndexState>) -> Option<Bytes> {
        Some(self.0.relay.union().as_mut()?.log().answer(known))
    }

    /// Whether this machine relays.
    #[must_use]
    pub fn relays(&self) -> bool {
        self.0.relay.is_on()
    }

    /// Up to `most` machines that are said to have a path and to send it, not always the same; `None` if this machine does not relay. This machine is among
    /// them if it offers the path.
    #[must_use]
    pub fn holders(&self, hash: StoreHash, most: usize) -> Option<Vec<NodeId>> {
        if !self.relays() {
            return None;
        }
        let mut holders = self.0.view.read().holders(hash);
        if self.offers_path(hash) {
            holders.push(self.0.peers.us());
        }
        // Without randomness always the same ones, which is no harm worth an error.
        let first = getrandom::u32().map_or(0, |random| random as usize % holders.len().max(1));
        holders.rotate_left(first);
        let sends = |id: &NodeId| self.0.peers.get(*id).is_none_or(|peer| peer.weight() > 0);
        Some(holders.into_iter().filter(sends).take(most).collect())
    }

    /// What this machine and those whom it knows have between them, in order: of machines that make their entries as those do which talk
    /// to everybody. Takes as long as that is much.
    #[must_use]
    pub fn everything(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.0.log.as_ref().map(|log| log.lock().entries().to_vec()).unwrap_or_default();
        for set in self.0.view.read().sets() {
            entries.extend(told_together(Some(set)));
        }
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// Up to `most` machines that are said to have a path and to send it, this one first if it offers the path.
    #[must_use]
    pub fn known_holders(&self, hash: StoreHash, most: usize) -> Vec<NodeId> {
        let us = self.offers_path(hash).then(|| self.0.peers.us());
        let sends = |id: &NodeId| self.0.peers.get(*id).is_some_and(|peer| peer.weight() > 0);
        let others = self.0.view.read().holders(hash);
        us.into_iter().chain(others.into_iter().filter(sends)).take(most).collect()
    }

    fn offers_path(&self, hash: StoreHash) -> bool {
        let offers = |log: &Mutex<Log>| {
            let log = log.lock();
            log.entries().binary_search(&log.salt().entry(hash.prefix())).is_ok()
        };
        self.0.log.as_ref().is_some_and(offers)
    }

    /// Moves when anything in here is another than before.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Somebody of another site may have more than before.
    pub fn more_elsewhere(&self) {
        self.0.more.send_modify(|count| *count += 1);
    }

    /// How many paths this machine tells that it has.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.0.log.as_ref().map_or(0, |log| log.lock().len())
    }

    /// What each of these peers is said to have: the answer is in their order.
    #[must_use]
    pub fn ask(&self, hash: StoreHash, peers: &[NodeId]) -> Vec<Says> {
        self.0.view.read().ask(hash, peers)
    }

    /// Of these peers those that may have a path, in their order but that those come first that are said to have it; and how many those are.
    #[must_use]
    pub fn pick(&self, hash: StoreHash, peers: Vec<Arc<Peer>>) -> (Vec<Arc<Peer>>, usize) {
        let ids: Vec<NodeId> = peers.iter().map(|peer| peer.id()).collect();
        let all = peers.len();
        let (mut picked, mut others) = (Vec::new(), Vec::new());
        for (says, peer) in self.ask(hash, &ids).into_iter().zip(peers) {
            match says {
                Says::Yes => picked.push(peer),
                Says::Unknown => others.push(peer),
                Says::No => {}
            }
        }
        let holders = picked.len();
        picked.append(&mut others);
        self.0.metrics.index_saved.add((all - picked.len()) as u64);
        (picked, holders)
    }

    /// A peer was asked for a path that it is said to have, and had it or not.
    pub fn tried(&self, id: NodeId, hash: StoreHash, had_it: bool) {
        if self.ask(hash, &[id]) != [Says::Yes] {
            return;
        }
        if !had_it {
            self.0.metrics.index_wrong_claims.add(1);
        }
        // Unlocked again before what follows.
        let verdict = self.0.view.write().tried(id, hash, had_it, Instant::now());
        match verdict {
            Verdict::Fine => {}
            Verdict::PullAgain => {
                log::info!(peer:% = id; "a peer does not have what it says: its index is read anew");
                self.wake(id);
            }
            Verdict::Ignore => {
                if self.relays() {
                    let index = self.clone();
                    tokio::task::spawn_blocking(move || index.rebuild_union());
                }
                log::warn!(peer:% = id; "a peer does not have what it says: its index is ignored for ten minutes");
            }
        }
    }

    /// Other keys are trusted than before: what peers had that did not count may count now.
    pub fn forgive(&self) {
        self.0.view.write().forgive();
    }

    /// Moves when somebody may have more than before: then it is worth asking again for what nobody had.
    #[must_use]
    pub fn more(&self) -> watch::Receiver<u64> {
        self.0.more.subscribe()
    }

    /// Tells of each update from now on. A listener that falls far behind misses some and is told so.
    #[must_use]
    pub fn updates(&self) -> broadcast::Receiver<Told> {
        self.0.updates.subscribe()
    }

    /// How the indexes of the peers are.
    #[must_use]
    pub fn status(&self) -> Vec<SetStatus> {
        self.0.view.read().status().collect()
    }

    /// When that was, by the clock on the wall: for one moment always the same.
    #[must_use]
    pub fn when(&self, moment: Instant) -> SystemTime {
        let (began, wall) = self.0.began;
        wall + moment.saturating_duration_since(began)
    }

    /// How the index of one peer is; `None` if it tells none.
    #[must_use]
    pub fn status_of(&self, id: NodeId) -> Option<SetStatus> {
        self.0.view.read().status_of(id)
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.0.peers
    }

    /// The state in which the set of a peer is known.
    pub(super) fn known(&self, id: NodeId) -> Option<IndexState> {
        self.0.view.read().state(id)
    }

    pub(super) fn ignored_until(&self, id: NodeId) -> Option<Instant> {
        self.0.view.read().ignored_until(id)
    }

    /// Takes in what a peer told in so many `bytes`, which takes as long as its set is large. When that is no good, nothing is known of the peer any more.
    ///
    /// # Errors
    /// As [`Set::updated`] and [`View::put`].
    pub fn update(&self, id: NodeId, update: Update, bytes: usize) -> Result<(), IndexError> {
        let (all, adds) = (update.is_all(), update.adds());
        let (added, removed) = update.counts();
        // Nobody else has to wait for this: only one follows a peer.
        let before = self.0.view.read().set(id);
        let set = Set::updated(before.as_deref(), update);
        let bases = self.0.view.read().bases();
        let put = set.map(|set| set.shrunk(&bases)).and_then(|set| {
            let mut union = self.0.relay.union();
            // Not the one from above: it may have turned out that the peer lies meanwhile.
            let (before, put, after) = {
                let mut view = self.0.view.write();
                let before = view.set(id);
                let put = view.put(id, set, all, Instant::now());
                (before, put, view.set(id))
            };
            // Also when it was not put: what was known of the peer is forgotten then.
            if let Some(union) = &mut *union {
                union.replace(told_together(before.as_deref()), told_together(after.as_deref()));
            }
            put.map(|()| after.map_or(0, |set| set.len()) as u64)
        });
        self.0.relay.wake();
        let entries = put.inspect_err(|_| self.forget(id))?;
        self.0.metrics.index_updates.add(1);
        self.0.metrics.index_bytes.add(bytes as u64);
        // Nobody may listen.
        let _ = self.0.updates.send(Told { id, bytes: bytes as u64, added, removed, entries });
        self.changed();
        if adds {
            self.0.more.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Nothing is known any more of what a peer has.
    pub(super) fn forget(&self, id: NodeId) {
        let mut union = self.0.relay.union();
        let mut view = self.0.view.write();
        if let (Some(union), Some(set)) = (&mut *union, view.set(id)) {
            union.replace(told_together(Some(&set)), std::iter::empty());
        }
        view.forget(id);
        drop((union, view));
        self.changed();
        self.0.relay.wake();
    }

    /// What this machine tells as a relay.
    pub(super) fn relay(&self) -> &Relay {
        &self.0.relay
    }

    /// Relays from now on, or no longer: then nothing is told, and those whom this machine relayed for know nothing of each other from it.
    pub(super) fn set_relays(&self, relays: bool) {
        if self.relays() == relays {
            return;
        }
        self.0.view.write().set_relays(relays);
        if relays {
            // Without randomness: as at the start.
            let Ok(epoch) = getrandom::u64() else { return };
            self.0.relay.set(Some(Union::new(Log::new(epoch, Salt::OPEN))));
            self.rebuild_union();
        } else {
            self.0.relay.set(None);
            self.0.peers.tell_union(None);
        }
    }

    /// Puts together anew what all have. Takes as long as that is much.
    fn rebuild_union(&self) {
        let mut union = self.0.relay.union();
        let Some(union) = &mut *union else { return };
        union.clear();
        if let Some(log) = &self.0.log {
            union.replace(std::iter::empty(), log.lock().entries().iter().copied());
        }
        for set in self.0.view.read().sets() {
            union.replace(std::iter::empty(), told_together(Some(set)));
        }
        self.0.relay.wake();
    }

    /// Has the union's log say what is so now, and the peers hear of it if that is something else than before.
    pub(super) fn cut_union(&self) {
        let mut union = self.0.relay.union();
        let Some(union) = &mut *union else { return };
        // The first time also of nothing: that there is a relay is news.
        let is_first = union.log().state().seq == 0;
        if union.cut() || is_first {
            // While it is locked: nobody hears of one that is told no more.
            self.0.peers.tell_union(Some(union.log().state()));
        }
    }

    /// How many peers are followed.
    pub(super) fn followed(&self) -> usize {
        self.0.news.lock().len()
    }

    /// Has everybody looked at who follows somebody.
    pub(super) fn wake_all(&self) {
        for sender in self.0.news.lock().values() {
            sender.send_replace(());
        }
    }

    /// Begins to follow a peer; `None` if it is followed.
    pub(super) fn begin_to_follow(&self, id: NodeId) -> Option<watch::Receiver<()>> {
        let mut news = self.0.news.lock();
        if news.contains_key(&id) {
            return None;
        }
        let (sender, receiver) = watch::channel(());
        news.insert(id, sender);
        Some(receiver)
    }

    /// Follows a peer no longer.
    pub(super) fn follow_no_longer(&self, id: NodeId) {
        self.0.news.lock().remove(&id);
        self.forget(id);
    }

    /// Has whoever follows a peer look again; false if nobody does.
    pub(super) fn wake(&self, id: NodeId) -> bool {
        let news = self.0.news.lock();
        news.get(&id).map(|sender| sender.send_replace(())).is_some()
    }
}

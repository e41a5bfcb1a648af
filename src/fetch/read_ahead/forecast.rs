//! What Nix will ask for next, and how much of that may be fetched before it does: a decision without any input or output.
//!
//! Before Nix fetches a closure it asks for the narinfos of all of it. From its first NAR on, the small NARs among those are worth fetching
//! ahead: it will ask for them one after the other, each only when all that it refers to is there. So they come in that order, as many as may
//! turn out to be in vain.

use crate::nix::{NarHash, PathInfo, StoreHash, StorePath};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// The largest NAR that is fetched ahead, in bytes. A larger one takes longer to come than to ask for, and ahead of others it is in their way.
pub(crate) const SMALL: u64 = 1024 * 1024;
/// How many paths are remembered of which Nix has the narinfo and not the NAR.
const PROMISED_MAX: usize = 2048;
/// When Nix was silent for so long, it is at something else: what it asked before says nothing.
const QUIET: Duration = Duration::from_secs(10);
/// How many NARs come at once: as many as there are kept connections to a peer.
const STREAMS: usize = 4;
/// For how long it is remembered how much was used and how much was in vain.
const MINUTE: Duration = Duration::from_secs(60);
/// How much may be in vain in a [`MINUTE`] whatever was used, in bytes: a beginning. Above that it is one byte per two used.
const FLOOR: u64 = 1024 * 1024;

/// A path of which Nix has the narinfo and not the NAR.
struct Promised<T> {
    path: StorePath,
    size: u64,
    references: Vec<StoreHash>,
    /// What fetches its NAR; `None` if it is not to be fetched ahead, and only others refer to it.
    what: Option<T>,
}

/// A NAR that is fetched ahead.
enum Ahead {
    /// It comes.
    Coming(u64),
    /// It came and is kept.
    Kept(u64),
}

impl Ahead {
    const fn size(&self) -> u64 {
        let (Self::Coming(size) | Self::Kept(size)) = self;
        *size
    }
}

/// The NARs that Nix will ask for; `T` is what fetches one.
pub(crate) struct Forecast<T> {
    /// What may be kept at once, in bytes.
    keep: u64,
    promised: HashMap<NarHash, Promised<T>>,
    /// Of those, what to fetch next, in the order in which Nix will ask.
    queue: VecDeque<NarHash>,
    /// Something was promised that is not in the queue.
    has_new: bool,
    ahead: HashMap<NarHash, Ahead>,
    /// When Nix last asked for anything.
    heard: Option<Instant>,
    /// Whether it has asked for a NAR since it was silent.
    fetches: bool,
    /// What was used and what was in vain, by time.
    past: VecDeque<(Instant, Fate, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Used,
    Wasted,
}

impl<T> Forecast<T> {
    /// Knows nothing, and has `keep` bytes to keep NARs in.
    pub(crate) fn new(keep: u64) -> Self {
        Self {
            keep,
            promised: HashMap::new(),
            queue: VecDeque::new(),
            has_new: false,
            ahead: HashMap::new(),
            heard: None,
            fetches: false,
            past: VecDeque::new(),
        }
    }

    /// Nix got the narinfo of `info`. `what` fetches its NAR; it counts for small ones only.
    pub(crate) fn promised(&mut self, info: &PathInfo, what: Option<T>, now: Instant) {
        self.hear(now);
        let PathInfo { path, nar_hash, nar_size, references, .. } = info;
        if self.ahead.contains_key(nar_hash) || self.promised.len() >= PROMISED_MAX {
            return;
        }
        let what = what.filter(|_| *nar_size <= SMALL);
        if let Some(known) = self.promised.get_mut(nar_hash)
            && known.path == *path
            && known.what.is_some() == what.is_some()
        {
            // Nothing new but where it is to be had.
            known.what = what;
            return;
        }
        self.has_new |= what.is_some();
        let references = references.iter().filter(|reference| *reference != path).map(StorePath::hash).collect();
        self.promised.insert(*nar_hash, Promised { path: path.clone(), size: *nar_size, references, what });
    }

    /// Nix asks for a NAR. True if it was fetched ahead, or is on its way.
    pub(crate) fn asked(&mut self, nar: NarHash, now: Instant) -> bool {
        self.hear(now);
        self.fetches = true;
        self.promised.remove(&nar);
        let Some(ahead) = self.ahead.remove(&nar) else { return false };
        self.past.push_back((now, Fate::Used, ahead.size()));
        true
    }

    /// What to fetch now; `None`: nothing more for the moment.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(NarHash, T)> {
        self.forget_past(now);
        let coming = self.ahead.values().filter(|ahead| matches!(ahead, Ahead::Coming(_))).count();
        if !self.fetches || self.is_quiet(now) || coming >= STREAMS {
            return None;
        }
        let nar = self.first()?;
        let size = self.promised.get(&nar)?.size;
        if self.outstanding() + size > self.may_keep() {
            self.queue.push_front(nar);
            return None;
        }
        // It stays known: others refer to it.
        let what = self.promised.get_mut(&nar)?.what.take()?;
        self.ahead.insert(nar, Ahead::Coming(size));
        Some((nar, what))
    }

    /// Whether a NAR is fetched ahead, and Nix has not asked for it.
    pub(crate) fn is_ahead(&self, nar: NarHash) -> bool {
        self.ahead.contains_key(&nar)
    }

    /// A NAR has come; false if Nix asked for it meanwhile, and nobody has to keep it.
    pub(crate) fn came(&mut self, nar: NarHash) -> bool {
        let Some(ahead) = self.ahead.get_mut(&nar) else { return false };
        *ahead = Ahead::Kept(ahead.size());
        true
    }

    /// A NAR that was fetched ahead is kept no longer, or could not be had. How many bytes were in vain, if nobody has asked for it.
    pub(crate) fn dropped(&mut self, nar: NarHash, now: Instant) -> Option<u64> {
        let size = self.ahead.remove(&nar)?.size();
        self.past.push_back((now, Fate::Wasted, size));
        Some(size)
    }

    /// Notes a sign of life. After a silence everything is new.
    fn hear(&mut self, now: Instant) {
        if self.is_quiet(now) {
            self.promised.clear();
            self.queue.clear();
            self.has_new = false;
            self.fetches = false;
        }
        self.heard = Some(now);
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.heard.is_none_or(|heard| now.duration_since(heard) > QUIET)
    }

    /// How many bytes are there or come, for which Nix has not asked.
    fn outstanding(&self) -> u64 {
        self.ahead.values().map(Ahead::size).sum()
    }

    /// How many bytes that may be: if all of it turns out to be in vain, it is still not too much.
    fn may_keep(&self) -> u64 {
        let sum =
            |wanted| self.past.iter().filter(|(_, fate, _)| *fate == wanted).map(|(_, _, size)| size).sum::<u64>();
        let allowed = FLOOR.max(sum(Fate::Used) / 2);
        allowed.saturating_sub(sum(Fate::Wasted)).min(self.keep)
    }

    fn forget_past(&mut self, now: Instant) {
        while self.past.front().is_some_and(|(when, _, _)| now.duration_since(*when) > MINUTE) {
            self.past.pop_front();
        }
    }

    /// The next one that Nix has not asked for meanwhile.
    fn first(&mut self) -> Option<NarHash> {
        loop {
            match self.queue.pop_front() {
                Some(nar) if self.promised.get(&nar).is_some_and(|promised| promised.what.is_some()) => {
                    return Some(nar);
                }
                Some(_) => {}
                None if self.has_new => {
                    self.queue = self.sorted();
                    self.has_new = false;
                }
                None => return None,
            }
        }
    }

    /// All that is promised, in the order in which Nix will ask: first what refers to nothing that is missing, then what refers to
    /// that only, and so on; by name where that leaves a choice.
    fn sorted(&self) -> VecDeque<NarHash> {
        let by_hash: HashMap<StoreHash, NarHash> =
            self.promised.iter().map(|(nar, promised)| (promised.path.hash(), *nar)).collect();
        let mut missing: HashMap<NarHash, usize> = HashMap::new();
        let mut referrers: HashMap<NarHash, Vec<NarHash>> = HashMap::new();
        for (nar, promised) in &self.promised {
            let references =
                promised.references.iter().filter_map(|hash| by_hash.get(hash)).filter(|other| *other != nar);
            let mut count = 0;
            for reference in references {
                referrers.entry(*reference).or_default().push(*nar);
                count += 1;
            }
            missing.insert(*nar, count);
        }
        let name = |nar: &NarHash| self.promised.get(nar).map(|promised| (promised.path.name(), promised.path.hash()));
        let mut order = VecDeque::with_capacity(missing.len());
        let mut wave: Vec<NarHash> = missing.iter().filter(|(_, count)| **count == 0).map(|(nar, _)| *nar).collect();
        while !wave.is_empty() {
            wave.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
            order.extend(&wave);
            let mut next = Vec::new();
            for nar in &wave {
                for referrer in referrers.remove(nar).unwrap_or_default() {
                    if let Some(count) = missing.get_mut(&referrer) {
                        *count -= 1;
                        if *count == 0 {
                            next.push(referrer);
                        }
                    }
                }
            }
            wave = next;
        }
        // No store has paths that refer to each other; what claims to be so is not worth a guess.
        order
    }
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;

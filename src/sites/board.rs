//! What is known of all other sites: a decision without any input or output.

use super::name::SiteName;
use crate::index::{Claims, Entry, Salt, Set, Verdict};
use crate::nix::StoreHash;
use crate::peers::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// After so long without a word a site has nothing.
pub(super) const UNSEEN: Duration = Duration::from_secs(90);
/// How long a site is left alone for which nobody spoke, or that did not answer, unless it is heard of before: another machine there takes
/// over within five seconds.
const AWAY: Duration = Duration::from_secs(5);
/// How long the index of a site is ignored that did not have what it claimed.
const IGNORED: Duration = Duration::from_secs(10 * 60);
/// How many sites are known at most.
pub(super) const SITES_MAX: usize = 64;
/// How many entries of all sites together: 24 MB.
const ENTRIES_MAX: usize = 4_000_000;
/// Of the time of an answer so much counts, in tenths.
const LATEST: u32 = 3;

/// What is known of other sites.
#[derive(Default)]
pub(super) struct Board {
    sites: BTreeMap<SiteName, Known>,
}

struct Known {
    gateway: NodeId,
    name: String,
    machines: u64,
    /// When it was last heard of, and when it last told another index.
    seen: Instant,
    updated: Instant,
    set: Option<Arc<Set>>,
    claims: Claims,
    ignored_until: Option<Instant>,
    away_until: Option<Instant>,
    latency: Option<Duration>,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered, and the site had the path or not.
    Answered { had_it: bool },
    /// It was not.
    Silent,
}

/// How it is with a site, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) site: SiteName,
    pub(super) gateway: NodeId,
    pub(super) name: String,
    pub(super) machines: u64,
    pub(super) entries: u64,
    pub(super) seen: Instant,
    pub(super) is_there: bool,
    pub(super) is_ignored: bool,
    pub(super) wrong_claims: u64,
    pub(super) latency: Option<Duration>,
}

impl Board {
    /// A machine speaks for a site, which is so many machines; false if there are too many sites.
    pub(super) fn heard(
        &mut self,
        site: &SiteName,
        (gateway, name): (NodeId, &str),
        machines: u64,
        now: Instant,
    ) -> bool {
        if self.sites.len() >= SITES_MAX && !self.sites.contains_key(site) {
            self.sites.retain(|_, known| now < known.seen + UNSEEN);
        }
        if self.sites.len() >= SITES_MAX && !self.sites.contains_key(site) {
            return false;
        }
        let known = self.sites.entry(site.clone()).or_insert_with(|| Known {
            gateway,
            name: String::new(),
            machines: 0,
            seen: now,
            updated: now,
            set: None,
            claims: Claims::default(),
            ignored_until: None,
            away_until: None,
            latency: None,
        });
        (known.gateway, known.machines, known.seen, known.away_until) = (gateway, machines, now, None);
        if known.name != name {
            name.clone_into(&mut known.name);
        }
        true
    }

    /// This is what a site has now; false if there is no room for it.
    pub(super) fn put(&mut self, site: &SiteName, set: Option<Arc<Set>>, now: Instant) -> bool {
        let others: usize = self.sites.iter().filter(|(name, _)| *name != site).map(|(_, known)| size(known)).sum();
        let fits = set.as_ref().is_none_or(|set| others + set.len() <= ENTRIES_MAX);
        if let Some(known) = self.sites.get_mut(site) {
            known.set = set.filter(|_| fits);
            known.updated = now;
        }
        fits
    }

    /// The sites that are said to have a path and may be asked, the one first that answers soonest.
    pub(super) fn having(&self, hash: StoreHash, now: Instant) -> Vec<SiteName> {
        if self.sites.is_empty() {
            return Vec::new();
        }
        let entry = Salt::OPEN.entry(hash.prefix());
        let mut sites: Vec<(Duration, &SiteName)> = self
            .sites
            .iter()
            .filter(|(_, known)| known.has(entry, now))
            .map(|(site, known)| (known.latency.unwrap_or_default(), site))
            .collect();
        sites.sort();
        sites.into_iter().map(|(_, site)| site.clone()).collect()
    }

    /// Whether a site is said to have a path, and may be asked.
    pub(super) fn has(&self, site: &SiteName, hash: StoreHash, now: Instant) -> bool {
        self.sites.get(site).is_some_and(|known| known.has(Salt::OPEN.entry(hash.prefix()), now))
    }

    /// How long a site usually takes to answer, if that is known.
    pub(super) fn latency(&self, site: &SiteName) -> Option<Duration> {
        self.sites.get(site)?.latency
    }

    /// A site was asked for something that it is said to have. True if that makes its index not worth believing.
    pub(super) fn tried(&mut self, site: &SiteName, outcome: Outcome, now: Instant) -> bool {
        let Some(known) = self.sites.get_mut(site) else { return false };
        match outcome {
            Outcome::Silent => {
                known.away_until = Some(now + AWAY);
                false
            }
            Outcome::Answered { had_it } => {
                let lies = known.claims.tried(had_it) == Verdict::Ignore;
                if lies {
                    known.ignored_until = Some(now + IGNORED);
                }
                lies
            }
        }
    }

    /// A site took so long to answer.
    pub(super) fn took(&mut self, site: &SiteName, latency: Duration) {
        let Some(known) = self.sites.get_mut(site) else { return };
        let before = known.latency.unwrap_or(latency);
        known.latency = Some((before * (10 - LATEST) + latency * LATEST) / 10);
    }

    /// Nothing is known any more: what came before may have been missed.
    pub(super) fn clear(&mut self) {
        self.sites.clear();
    }

    /// All sites, by name.
    pub(super) fn status(&self, now: Instant) -> Vec<Status> {
        let status = |(site, known): (&SiteName, &Known)| Status {
            site: site.clone(),
            gateway: known.gateway,
            name: known.name.clone(),
            machines: known.machines,
            entries: size(known) as u64,
            seen: known.seen,
            is_there: known.is_there(now),
            is_ignored: known.ignored_until.is_some_and(|until| now < until),
            wrong_claims: known.claims.wrong_ever(),
            latency: known.latency,
        };
        self.sites.iter().map(status).collect()
    }
}

impl Known {
    fn is_there(&self, now: Instant) -> bool {
        now < self.seen + UNSEEN && self.away_until.is_none_or(|until| until <= now)
    }

    fn has(&self, entry: Entry, now: Instant) -> bool {
        let is_believed = self.ignored_until.is_none_or(|until| until <= now);
        is_believed && self.is_there(now) && self.set.as_ref().is_some_and(|set| set.has(entry))
    }
}

fn size(known: &Known) -> usize {
    known.set.as_ref().map_or(0, |set| set.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Update;
    use crate::peers::{IndexState, NodeKey};

    fn site(name: &str) -> SiteName {
        name.parse().unwrap()
    }

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    fn set(numbers: impl Iterator<Item = u8>) -> Option<Arc<Set>> {
        let mut entries: Vec<Entry> = numbers.map(|number| Salt::OPEN.entry(hash(number).prefix())).collect();
        entries.sort_unstable();
        let state = IndexState { epoch: 1, seq: 1 };
        Some(Arc::new(Set::updated(None, Update::Snapshot { state, salt: Salt::OPEN, entries }).unwrap()))
    }

    fn board(now: Instant) -> Board {
        let mut board = Board::default();
        let id = NodeKey::from_seed([1; 32]).id();
        for name in ["berlin", "paris"] {
            assert!(board.heard(&site(name), (id, "tower"), 3, now));
        }
        assert!(board.put(&site("berlin"), set(0..100), now) && board.put(&site("paris"), set(50..200), now));
        board
    }

    #[test]
    fn sites_are_asked_for_what_they_have_the_nearest_first() {
        let now = Instant::now();
        let mut board = board(now);
        assert_eq!(board.having(hash(7), now), [site("berlin")]);
        assert_eq!(board.having(hash(250), now), []);
        board.took(&site("berlin"), Duration::from_millis(50));
        board.took(&site("paris"), Duration::from_millis(20));
        assert_eq!(board.having(hash(60), now), [site("paris"), site("berlin")]);
        for _ in 0..20 {
            board.took(&site("paris"), Duration::from_millis(200));
        }
        assert_eq!(board.having(hash(60), now), [site("berlin"), site("paris")]);
    }

    #[test]
    fn a_site_that_is_not_heard_of_or_does_not_answer_is_left_alone() {
        let now = Instant::now();
        let mut board = board(now);
        let berlin = site("berlin");
        assert!(board.has(&berlin, hash(7), now + UNSEEN - Duration::from_secs(1)));
        assert!(!board.has(&berlin, hash(7), now + UNSEEN));
        assert!(!board.tried(&berlin, Outcome::Silent, now));
        assert!(!board.has(&berlin, hash(7), now) && board.has(&berlin, hash(7), now + AWAY));
        assert!(!board.status(now)[0].is_there);
        board.heard(&berlin, (NodeKey::from_seed([2; 32]).id(), "other"), 2, now);
        assert!(board.has(&berlin, hash(7), now), "another machine took over");
    }

    #[test]
    fn a_site_that_lies_is_ignored_for_a_while() {
        let now = Instant::now();
        let mut board = board(now);
        let berlin = site("berlin");
        let lies = (0..100).filter(|_| board.tried(&berlin, Outcome::Answered { had_it: false }, now)).count();
        assert!(lies >= 1 && !board.has(&berlin, hash(7), now));
        assert!(board.has(&site("paris"), hash(60), now), "others are believed");
        let later = now + IGNORED;
        board.heard(&berlin, (NodeKey::from_seed([1; 32]).id(), "tower"), 3, later);
        assert!(board.has(&berlin, hash(7), later));
    }

    #[test]
    fn there_are_never_too_many() {
        let now = Instant::now();
        let mut board = Board::default();
        let id = NodeKey::from_seed([1; 32]).id();
        let heard = (0..200).filter(|n| board.heard(&site(&format!("s{n}")), (id, "x"), 1, now)).count();
        assert_eq!((heard, board.status(now).len()), (SITES_MAX, SITES_MAX));
        assert!(board.heard(&site("new"), (id, "x"), 1, now + UNSEEN), "those that are gone make room");
    }
}

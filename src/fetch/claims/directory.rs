//! The directory of some NARs: who downloads each of them for all, and who streams it from whom. Decisions without any input or output.
//!
//! Which machine is the directory of a NAR follows from both their names ([`super::order`]), so that nobody need be elected. All of this
//! is soft: a directory that is gone is followed by the next one, which hears everything again with the next renewals. Two that take
//! themselves for the directory cost a second download and no more.
//!
//! * Whoever wants a NAR that nobody has or fetches is granted its **download**, for as long as it renews that. Everybody else **follows**: it
//!   streams what has come so far from one that has it or fetches it, at most [`CHILDREN_MAX`] of one. So a tree grows, in which
//!   nobody follows itself by others.
//! * A follower whose source broke or stalled says so, and is sent to another one. Who comes furthest goes on with the download
//!   when the one that had it is gone: a follower that is behind one of its equals is sent to that one.
//! * No more than [`DOWNLOADS_MAX`] download at a time. Who lets downloads lie again and again is granted none for a while.
//! * Where there is nothing to decide, because too much is noted already or the asker may not download, it is left alone: it does what it
//!   would do without us.

use crate::nix::NarHash;
use crate::peers::NodeId;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a place in the tree lasts that is not renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(2);
/// How long a download may stand still before a follower that complains gets it.
const STALL: Duration = Duration::from_secs(3);
/// How long those who have all of it are named: for as long they surely keep it.
const COMPLETE: Duration = Duration::from_secs(10 * 60);
/// How many stream one NAR from one machine.
pub const CHILDREN_MAX: usize = 4;
/// From this size on, in bytes, one who streams a NAR on takes less of the line of who has it than all who want it.
const LONG: u64 = 1024 * 1024;
/// How many download one NAR at a time, if the first seems to get nowhere.
const DOWNLOADS_MAX: usize = 2;
/// So many downloads that were let lie within [`BARRED`] are too many, and so many complaints that were not so: until that time is over no
/// other is granted, or believed.
const STRIKES_MAX: usize = 3;
const BARRED: Duration = Duration::from_secs(10 * 60);
/// How many streams a machine sends count as much as being one place further from the root.
const DEPTH_COST: u32 = 4;
/// How deep a tree may be.
const DEPTH_MAX: u32 = 32;
/// How many places a tree has, and how many of them that may be followed are looked at for one who wants the NAR: the cheapest of so many is
/// cheap enough.
const TREE_MAX: usize = 4 * 1024;
const LOOKED_AT: usize = 64;
/// How many places there are in all trees together.
const PLACES_MAX: usize = 64 * 1024;
/// How many of them one machine may have.
const PLACES_EACH_MAX: usize = 8 * 1024;
/// How often places are looked through for those that are over.
const SWEEP: Duration = Duration::from_secs(10);
/// The most sources that one request complains of.
pub(crate) const LOST_MAX: usize = 4;

/// To how many one who has a NAR of so many bytes gives it before the next one looks who else gets it.
#[must_use]
pub const fn given_at_once(size: u64) -> usize {
    if size >= LONG { 1 } else { CHILDREN_MAX }
}

/// What a source that was followed did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It ended, or cannot be reached.
    Broke,
    /// It sent nothing for too long.
    Stalled,
}

/// Somebody wants a NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub nar: NarHash,
    /// How many bytes of it it has.
    pub came: u64,
    /// Whether it can send on what it gets.
    pub serves: bool,
    /// How many streams it sends to others at the moment.
    pub sends: u16,
    /// Whom it followed, and what became of that; up to [`LOST_MAX`].
    pub lost: Vec<(NodeId, Loss)>,
}

/// What a machine does with a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It downloads it.
    Downloads,
    /// It streams it from there.
    Follows(NodeId),
    /// It has all of it.
    Complete,
}

/// Somebody tells how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// With which NAR.
    pub nar: NarHash,
    /// What it does with it; `None`: it has given it up.
    pub role: Option<Role>,
    /// As in [`Want`].
    pub came: u64,
    /// As in [`Want`].
    pub serves: bool,
    /// As in [`Want`].
    pub sends: u16,
}

/// What somebody who wants a NAR is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Download it, for all.
    Download,
    /// Stream it from there.
    Follow(NodeId),
    /// What it would do without us.
    Alone,
}

/// A place in the tree of a NAR.
#[derive(Debug, Clone)]
struct Place {
    role: Role,
    came: u64,
    serves: bool,
    renewed: Instant,
    /// When it had come further than before last.
    moved: Instant,
    /// How many follow it.
    children: usize,
    /// Nothing comes from it, as far as is known…
    is_gone: bool,
    /// … and if that is because somebody said that it broke, who said so.
    accused_by: Option<NodeId>,
}

impl Place {
    fn is_over(&self, now: Instant) -> bool {
        let lasts = if self.role == Role::Complete { COMPLETE } else { LEASE };
        now >= self.renewed + lasts
    }
}

/// What is known of a machine.
#[derive(Debug, Default)]
struct Machine {
    /// How many streams it sends, as it says, and those since then that are on their way to it.
    sends: u32,
    places: usize,
    /// Downloads that it let lie.
    broken: Strikes,
    /// Complaints of it that were not so.
    refuted: Strikes,
}

/// When somebody did what may happen, but not again and again.
#[derive(Debug, Default)]
struct Strikes(Vec<Instant>);

impl Strikes {
    fn add(&mut self, now: Instant) {
        self.0.retain(|strike| now < *strike + BARRED);
        if self.0.len() < STRIKES_MAX {
            self.0.push(now);
        }
    }

    fn count(&self, now: Instant) -> usize {
        self.0.iter().filter(|strike| now < **strike + BARRED).count()
    }

    fn are_too_many(&self, now: Instant) -> bool {
        self.count(now) >= STRIKES_MAX
    }
}

impl Machine {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.places == 0 && self.broken.count(now) == 0 && self.refuted.count(now) == 0
    }
}

/// How somebody stands in a tree, as one that may be followed.
struct Standing {
    /// It has all of it, or is on the way from one that downloads it.
    is_rooted: bool,
    depth: u32,
}

/// The trees of the NARs that this machine is the directory of.
#[derive(Debug)]
pub(crate) struct Directory {
    trees: HashMap<NarHash, HashMap<NodeId, Place>>,
    machines: HashMap<NodeId, Machine>,
    places: usize,
    swept: Instant,
    tally: Tally,
}

/// What was downloaded, as machines say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Bytes of NARs.
    pub(crate) downloaded: u64,
    /// The same, each NAR once.
    pub(crate) unique: u64,
}

impl Directory {
    /// Nothing is known.
    pub(crate) fn new(now: Instant) -> Self {
        Self { trees: HashMap::new(), machines: HashMap::new(), places: 0, swept: now, tally: Tally::default() }
    }

    /// What was downloaded since this was asked last.
    pub(crate) fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// How many NARs are on their way or were of late, and how many places they have.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.trees.len(), self.places)
    }

    /// What `asker` is to do, which wants a NAR.
    pub(crate) fn want(&mut self, asker: NodeId, want: &Want, now: Instant) -> Decision {
        self.sweep(now);
        for (lost, how) in &want.lost {
            self.lose(want.nar, asker, (*lost, *how), now);
        }
        self.end_all_that_are_over(want.nar, now);
        if !self.has_room_for(asker, want.nar) {
            return Decision::Alone;
        }
        let decision = match self.source_for(asker, want) {
            Some(source) => Decision::Follow(source),
            None if self.may_download(asker, want.nar, now) => Decision::Download,
            None => Decision::Alone,
        };
        let role = match decision {
            Decision::Follow(source) => Some(Role::Follows(source)),
            Decision::Download => Some(Role::Downloads),
            Decision::Alone => None,
        };
        let Want { nar, came, serves, sends, .. } = *want;
        self.place(asker, &Renewal { nar, role, came, serves, sends }, now);
        if let Decision::Follow(source) = decision {
            self.machines.entry(source).or_default().sends += 1;
        }
        decision
    }

    /// Takes in how far somebody is. What was not known before is known with this: its directory was another one.
    pub(crate) fn renew(&mut self, who: NodeId, renewal: &Renewal, now: Instant) {
        self.sweep(now);
        if self.has_room_for(who, renewal.nar) {
            self.place(who, renewal, now);
        }
    }

    /// Whether somebody has a place in a tree, or may have one.
    fn has_room_for(&self, who: NodeId, nar: NarHash) -> bool {
        let tree = self.trees.get(&nar);
        tree.is_some_and(|tree| tree.contains_key(&who))
            || (self.places < PLACES_MAX
                && tree.is_none_or(|tree| tree.len() < TREE_MAX)
                && self.machines.get(&who).is_none_or(|machine| machine.places < PLACES_EACH_MAX))
    }

    /// Puts somebody into the tree, or takes it out.
    fn place(&mut self, who: NodeId, renewal: &Renewal, now: Instant) {
        let Renewal { nar, role, came, serves, sends } = *renewal;
        let Some(role) = role else { return self.end(nar, who) };
        self.count(who, renewal);
        let machine = self.machines.entry(who).or_default();
        machine.sends = u32::from(sends);
        let tree = self.trees.entry(nar).or_default();
        let before = tree.remove(&who);
        if let Some(Place { role: Role::Follows(source), .. }) = &before {
            follows(tree, *source, false);
        }
        if let Role::Follows(source) = role {
            follows(tree, source, true);
        }
        let mut new =
            Place { role, came, serves, renewed: now, moved: now, children: 0, is_gone: false, accused_by: None };
        let mut refuted = None;
        match before {
            None => {
                // Its followers may have been heard of before.
                new.children = tree.values().filter(|place| place.role == Role::Follows(who)).count();
                machine.places += 1;
                self.places += 1;
            }
            Some(Place { children, moved, is_gone, accused_by, came: had, role: was, .. }) => {
                new.children = children;
                if came > had || role != was {
                    refuted = accused_by.filter(|_| came > 0);
                } else {
                    (new.moved, new.is_gone, new.accused_by) = (moved, is_gone, accused_by);
                }
            }
        }
        tree.insert(who, new);
        if let Some(accuser) = refuted {
            self.machines.entry(accuser).or_default().refuted.add(now);
        }
    }

    /// Counts what somebody has downloaded since it was heard of last.
    fn count(&mut self, who: NodeId, renewal: &Renewal) {
        let tree = self.trees.get(&renewal.nar);
        let before = tree.and_then(|tree| tree.get(&who));
        if before.is_some_and(|place| place.role == Role::Downloads) {
            let more = renewal.came.saturating_sub(before.map_or(0, |place| place.came));
            self.tally.downloaded = self.tally.downloaded.saturating_add(more);
        }
        let is_known = || tree.is_some_and(|tree| tree.values().any(|place| place.role == Role::Complete));
        if renewal.role == Some(Role::Complete) && !is_known() {
            self.tally.unique = self.tally.unique.saturating_add(renewal.came);
        }
    }

    /// Somebody complains of a source.
    fn lose(&mut self, nar: NarHash, accuser: NodeId, (lost, how): (NodeId, Loss), now: Instant) {
        if self.machines.get(&accuser).is_some_and(|machine| machine.refuted.are_too_many(now)) {
            return;
        }
        let Some(place) = self.trees.get_mut(&nar).and_then(|tree| tree.get_mut(&lost)) else { return };
        let stands_still = now >= place.moved + STALL;
        if place.is_gone || (how == Loss::Stalled && !stands_still) {
            return;
        }
        place.is_gone = true;
        place.accused_by = (how == Loss::Broke).then_some(accuser);
        if place.role == Role::Downloads && how == Loss::Stalled {
            self.machines.entry(lost).or_default().broken.add(now);
        }
    }

    /// The best that `asker` can follow.
    fn source_for(&self, asker: NodeId, want: &Want) -> Option<NodeId> {
        let tree = self.trees.get(&want.nar)?;
        // Whom it follows already has room for it.
        let followed = match tree.get(&asker).map(|place| place.role) {
            Some(Role::Follows(source)) => Some(source),
            _ => None,
        };
        let is_open = |(who, place): &(&NodeId, &Place)| {
            place.serves
                && !place.is_gone
                && **who != asker
                && place.children - usize::from(followed == Some(**who)) < CHILDREN_MAX
                && want.lost.iter().all(|(lost, _)| lost != *who)
        };
        let cost = |(who, place): (&NodeId, &Place)| {
            let standing = standing(tree, *who, asker)?;
            // One that has lost its own source is of use to who is behind it; it will go on by itself.
            if !standing.is_rooted && place.came <= want.came {
                return None;
            }
            let sends = self.machines.get(who).map_or(0, |machine| machine.sends);
            let cost = sends.saturating_add(DEPTH_COST * standing.depth);
            Some(((!standing.is_rooted, cost, std::cmp::Reverse(place.came), *who), *who))
        };
        tree.iter().filter(is_open).take(LOOKED_AT).filter_map(cost).min().map(|(_, who)| who)
    }

    /// Whether `asker` may download it.
    fn may_download(&self, asker: NodeId, nar: NarHash, now: Instant) -> bool {
        let is_under_way =
            |(who, place): &(&NodeId, &Place)| place.role == Role::Downloads && !place.is_gone && **who != asker;
        let under_way = self.trees.get(&nar).map_or(0, |tree| tree.iter().filter(is_under_way).count());
        under_way < DOWNLOADS_MAX && !self.machines.get(&asker).is_some_and(|machine| machine.broken.are_too_many(now))
    }

    /// Forgets what is over.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let nars: Vec<NarHash> = self.trees.keys().copied().collect();
        nars.into_iter().for_each(|nar| self.end_all_that_are_over(nar, now));
        self.machines.retain(|_, machine| !machine.is_forgotten(now));
    }

    fn end_all_that_are_over(&mut self, nar: NarHash, now: Instant) {
        let Some(tree) = self.trees.get(&nar) else { return };
        let over = tree.iter().filter(|(_, place)| place.is_over(now));
        // Who was not complained of may have told another directory.
        let lay = |place: &Place| place.role == Role::Downloads && place.is_gone;
        let over: Vec<(NodeId, bool)> = over.map(|(who, place)| (*who, lay(place))).collect();
        for (who, lay) in over {
            if lay {
                self.machines.entry(who).or_default().broken.add(now);
            }
            self.end(nar, who);
        }
    }

    fn end(&mut self, nar: NarHash, who: NodeId) {
        let Some(tree) = self.trees.get_mut(&nar) else { return };
        if let Some(place) = tree.remove(&who) {
            if let Role::Follows(source) = place.role {
                follows(tree, source, false);
            }
            self.places -= 1;
            if let Some(machine) = self.machines.get_mut(&who) {
                machine.places -= 1;
            }
        }
        if tree.is_empty() {
            self.trees.remove(&nar);
        }
    }
}

/// Somebody follows `source`, or does so no longer.
fn follows(tree: &mut HashMap<NodeId, Place>, source: NodeId, more: bool) {
    if let Some(place) = tree.get_mut(&source) {
        place.children = if more { place.children + 1 } else { place.children.saturating_sub(1) };
    }
}

/// How `who` stands; `None` if it gets what it has from `asker`, or is too deep to be followed.
fn standing(tree: &HashMap<NodeId, Place>, who: NodeId, asker: NodeId) -> Option<Standing> {
    let (mut at, mut is_rooted) = (who, true);
    for depth in 0..DEPTH_MAX {
        if at == asker {
            return None;
        }
        let place = tree.get(&at);
        is_rooted &= place.is_some_and(|place| !place.is_gone);
        match place.map(|place| place.role) {
            // To the end, where it is not rooted as well: the asker may be above.
            Some(Role::Follows(source)) => at = source,
            Some(Role::Downloads | Role::Complete) | None => return Some(Standing { is_rooted, depth }),
        }
    }
    None
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;

//! Who sends which pieces of a NAR: the decisions, without any input or output.
//!
//! Events go in, actions come out. Each member is given a stripe, some pieces in a row, as long as it takes about [`STRIPE`] for it; so the
//! fast ones get more; and a slow one gets what it will have sent when its turn comes. Pieces are asked for in order within a window, so that whoever reads gets them early, and what waits for an earlier piece is
//! bounded; but the last piece comes first, since it is the one that the signature proves.
//!
//! * A member that is done takes over half of what the slowest one has before it. Where only the piece is left that is on its way, it is asked for
//!   twice, if it takes longer than it should: within a budget, but for one that holds up everything.
//! * A member that fails, or is silent, gives its pieces back and rests; after [`CHANCES`] it is out. What it sent well wipes that out.
//! * A member whose piece does not fit the table that it told itself is out, and blamed.

use crate::resilience::{Ewma, Schedule};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// A member by its place among all of them.
pub(crate) type Key = usize;

/// How many pieces may be on their way or wait for an earlier one.
pub(crate) const WINDOW: u32 = 16;
/// How long a stripe should take.
const STRIPE: Duration = Duration::from_millis(400);
/// The most pieces of a stripe.
const STRIPE_MAX: u32 = 4;
/// How often a member may fail in a row.
const CHANCES: u32 = 3;
/// How long before one that has failed is asked again.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(200), factor: 4, most: Duration::from_secs(3), spread: false };
/// A piece is asked for twice when it takes so many times as long as it should with the one that would be asked…
const LATE: f64 = 2.0;
/// … and no sooner than this.
const LATE_MIN: Duration = Duration::from_millis(250);
/// A member is slow that takes so many times as long as the fastest.
const SLOW: f64 = 3.0;
/// One that holds up everything is asked for twice after this long, whatever the budget says.
const BLOCKS: Duration = Duration::from_millis(750);
/// Of so many pieces one may be asked for twice…
const DOUBLED: u32 = 20;
/// … and so many in any case.
const DOUBLED_MIN: u32 = 2;
/// How long before it is looked whether a piece is late.
const LOOK: Duration = Duration::from_millis(100);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next piece of its stripe came from this member; it is being checked.
    Arrived(Key),
    /// This piece of this member is right.
    Right(Key, u32),
    /// It is wrong.
    Wrong(Key, u32),
    /// The member failed, or was silent for too long.
    Failed(Key),
    /// The same, and asking again would bring the same.
    Lost(Key),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Have this member, which sends nothing, send these pieces.
    Request(Key, Range<u32>),
    /// Let this member stop before this piece, which is not on its way as yet.
    Shorten(Key, u32),
    /// Let it stop at once.
    Cancel(Key),
    /// This one is responsible for that.
    Blame(Key, u32),
}

/// What is known of a piece that is not missing.
#[derive(Debug, Default)]
struct Piece {
    /// How many members are to send it.
    asked: u32,
    /// How often it came and is being checked.
    checking: u32,
    is_right: bool,
}

impl Piece {
    const fn is_missing(&self) -> bool {
        self.asked == 0 && self.checking == 0 && !self.is_right
    }
}

/// What a member sends.
#[derive(Debug)]
struct Stripe {
    /// The piece that is on its way, and those after it.
    pieces: Range<u32>,
    /// Since when it is.
    since: Duration,
}

#[derive(Debug, Default)]
struct Member {
    stripe: Option<Stripe>,
    /// How long a piece takes, in seconds.
    pace: Ewma,
    failures: u32,
    rests_until: Duration,
    is_out: bool,
}

impl Member {
    fn is_free(&self, now: Duration) -> bool {
        self.stripe.is_none() && !self.is_out && self.rests_until <= now
    }
}

/// The decisions about one NAR. Times are those since its begin.
#[derive(Debug)]
pub(crate) struct Stripes {
    /// How many pieces the NAR has.
    count: u32,
    /// All before this one were handed on.
    next: u32,
    /// Those that are not missing, by their number.
    pieces: BTreeMap<u32, Piece>,
    members: Vec<Member>,
    /// How many more may be asked for twice.
    doubles: u32,
    actions: VecDeque<Action>,
}

impl Stripes {
    /// Of a NAR of `count` pieces, of which those from `first` on are wanted, among so many members.
    pub(crate) fn new(first: u32, count: u32, members: usize) -> Self {
        Self {
            count,
            next: first,
            pieces: BTreeMap::new(),
            members: (0..members).map(|_| Member::default()).collect(),
            doubles: DOUBLED_MIN.max((count - first.min(count)) / DOUBLED),
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do; `None` when there is something to wait for.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the next piece in order is here and right.
    pub(crate) fn has_next(&self) -> bool {
        self.pieces.get(&self.next).is_some_and(|piece| piece.is_right)
    }

    /// Takes the next piece in order, which is handed on; there is room for another one then.
    pub(crate) fn take_next(&mut self, now: Duration) -> Option<u32> {
        if !self.has_next() {
            return None;
        }
        let piece = self.next;
        self.pieces.remove(&piece);
        self.next += 1;
        self.share_out(now);
        Some(piece)
    }

    /// Whether a piece that is here is of use.
    pub(crate) fn wants(&self, number: u32) -> bool {
        self.pieces.get(&number).is_some_and(|piece| !piece.is_right)
    }

    /// Whether nothing is asked of this member any more.
    pub(crate) fn is_out(&self, key: Key) -> bool {
        self.members[key].is_out
    }

    /// Whether all pieces were handed on.
    pub(crate) const fn is_done(&self) -> bool {
        self.next >= self.count
    }

    /// Whether nobody is left who could send what is missing.
    pub(crate) fn is_lost(&self) -> bool {
        let is_coming = |piece: &Piece| piece.is_right || piece.checking > 0;
        let has_all = || (self.next..self.count).all(|piece| self.pieces.get(&piece).is_some_and(is_coming));
        !self.is_done() && self.members.iter().all(|member| member.is_out) && !has_all()
    }

    /// When to tell of a [`Event::Tick`], if nothing else happens before.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        let rests = self.members.iter().filter(|member| !member.is_out && member.stripe.is_none());
        // Whoever is free and has nothing to do may be needed in a moment.
        rests.map(|member| if member.rests_until > now { member.rests_until } else { now + LOOK }).min()
    }

    /// Takes in what happened.
    pub(crate) fn handle(&mut self, event: Event, now: Duration) {
        match event {
            Event::Arrived(key) => self.arrived(key, now),
            Event::Right(key, number) => {
                self.members[key].failures = 0;
                if let Some(piece) = self.pieces.get_mut(&number) {
                    piece.checking = piece.checking.saturating_sub(1);
                    if !std::mem::replace(&mut piece.is_right, true) {
                        self.stop_others(number, now);
                    }
                }
            }
            Event::Wrong(key, number) => {
                if let Some(piece) = self.pieces.get_mut(&number) {
                    piece.checking = piece.checking.saturating_sub(1);
                }
                if !self.members[key].is_out {
                    self.actions.push_back(Action::Blame(key, number));
                    self.out(key);
                }
            }
            Event::Failed(key) => {
                self.give_back(key);
                let member = &mut self.members[key];
                member.failures += 1;
                member.rests_until = now + PAUSES.after(member.failures);
                if member.failures >= CHANCES {
                    self.out(key);
                }
            }
            Event::Lost(key) => self.out(key),
            Event::Tick => {}
        }
        self.pieces.retain(|_, piece| !piece.is_missing());
        self.share_out(now);
    }

    fn arrived(&mut self, key: Key, now: Duration) {
        let member = &mut self.members[key];
        let Some(stripe) = &mut member.stripe else { return };
        let number = stripe.pieces.start;
        member.pace.add(now.saturating_sub(stripe.since).as_secs_f64());
        (stripe.pieces.start, stripe.since) = (number + 1, now);
        if stripe.pieces.is_empty() {
            member.stripe = None;
        }
        if let Some(piece) = self.pieces.get_mut(&number) {
            piece.asked = piece.asked.saturating_sub(1);
            piece.checking += 1;
        }
    }

    /// Nobody else need send a piece that is right.
    fn stop_others(&mut self, number: u32, now: Duration) {
        let sends = |member: &Member| member.stripe.as_ref().is_some_and(|stripe| stripe.pieces.start == number);
        let others: Vec<Key> = (0..self.members.len()).filter(|key| sends(&self.members[*key])).collect();
        for key in others {
            let member = &mut self.members[key];
            let waited = member.stripe.as_ref().map_or(Duration::ZERO, |stripe| now.saturating_sub(stripe.since));
            if member.pace.get().is_none_or(|pace| pace < waited.as_secs_f64()) {
                // It would have taken longer still.
                member.pace.add(waited.as_secs_f64());
            }
            self.actions.push_back(Action::Cancel(key));
            self.give_back(key);
        }
    }

    /// It sends nothing more of what it was asked for.
    fn give_back(&mut self, key: Key) {
        let Some(stripe) = self.members[key].stripe.take() else { return };
        for number in stripe.pieces {
            if let Some(piece) = self.pieces.get_mut(&number) {
                piece.asked = piece.asked.saturating_sub(1);
            }
        }
    }

    fn out(&mut self, key: Key) {
        if self.members[key].stripe.is_some() {
            self.actions.push_back(Action::Cancel(key));
        }
        self.give_back(key);
        self.members[key].is_out = true;
    }

    /// Gives everybody something to do who has nothing to do, the fastest first.
    fn share_out(&mut self, now: Duration) {
        self.pieces.retain(|_, piece| !piece.is_missing());
        let mut free: Vec<Key> = (0..self.members.len()).filter(|key| self.members[*key].is_free(now)).collect();
        free.sort_by(|one, other| self.pace(*one).total_cmp(&self.pace(*other)));
        for key in free {
            if let Some(pieces) = self.missing(key).or_else(|| self.taken_over(key)).or_else(|| self.late(key, now)) {
                pieces.clone().for_each(|number| self.pieces.entry(number).or_default().asked += 1);
                self.members[key].stripe = Some(Stripe { pieces: pieces.clone(), since: now });
                self.actions.push_back(Action::Request(key, pieces));
            }
        }
    }

    /// How long a piece takes with a member, in seconds; one that was not tried is taken for the fastest.
    fn pace(&self, key: Key) -> f64 {
        self.members[key].pace.get().unwrap_or_default()
    }

    /// Pieces that nobody was asked for: the last one before all others, then those next in order.
    fn missing(&self, key: Key) -> Option<Range<u32>> {
        let last = self.count.checked_sub(1).filter(|last| *last >= self.next)?;
        if !self.pieces.contains_key(&last) {
            return Some(last..self.count);
        }
        let is_missing = |number: &u32| !self.pieces.contains_key(number);
        let end = self.next.saturating_add(WINDOW).min(self.count);
        let first = (self.next.saturating_add(self.head_start(key))..end).find(is_missing)?;
        let pace = self.members[key].pace.get();
        // At most [`STRIPE_MAX`], whatever the quotient is.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let fitting = pace.map_or(1, |pace| (STRIPE.as_secs_f64() / pace.max(1e-3)) as u32);
        // What is left is for all of them.
        let left = (self.next..self.count).filter(is_missing).take(WINDOW as usize).count();
        let active = self.members.iter().filter(|member| !member.is_out).count().max(1);
        let fair = u32::try_from(left.div_ceil(active)).unwrap_or(u32::MAX);
        // Half of the window for all of them, so that nobody waits for the one who is first in it.
        let room = WINDOW / 2 / u32::try_from(active).unwrap_or(u32::MAX);
        let length = fitting.clamp(1, STRIPE_MAX).min(fair.max(1)).min(room.max(1));
        let to = (first..end.min(first + length)).find(|number| !is_missing(number));
        Some(first..to.unwrap_or(end.min(first + length)))
    }

    /// How many pieces the others will have sent when a slow member has sent one: what is asked of it sooner would hold them up.
    fn head_start(&self, key: Key) -> u32 {
        let others = self.members.iter().enumerate().filter(|(other, member)| *other != key && !member.is_out);
        let paces: Vec<f64> = others.filter_map(|(_, member)| member.pace.get()).map(|pace| pace.max(1e-3)).collect();
        let fastest = paces.iter().copied().fold(f64::MAX, f64::min);
        let pace = self.pace(key);
        if pace <= fastest * SLOW {
            return 0;
        }
        let sent = paces.iter().map(|other| pace / other).sum::<f64>().ceil();
        // It is beyond the window then, however far.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let sent = sent.min(f64::from(WINDOW)) as u32;
        sent
    }

    /// Half of what the one has before it that will be done last.
    fn taken_over(&mut self, key: Key) -> Option<Range<u32>> {
        let waits = |other: &Key| self.members[*other].stripe.as_ref().map_or(0, |stripe| stripe.pieces.len() - 1);
        let others = (0..self.members.len()).filter(|other| *other != key && waits(other) > 0);
        let time =
            |other: &Key| self.pace(*other).max(1e-3) * f64::from(u32::try_from(waits(other)).unwrap_or(u32::MAX));
        let slowest = others.max_by(|one, other| time(one).total_cmp(&time(other)))?;
        let (own, gain) = (self.pace(key), time(&slowest));
        let stripe = self.members[slowest].stripe.as_mut()?;
        let taken = u32::try_from(stripe.pieces.len()).unwrap_or(u32::MAX) / 2;
        if own * f64::from(taken) > gain {
            return None;
        }
        let (begin, end) = (stripe.pieces.end - taken, stripe.pieces.end);
        stripe.pieces.end = begin;
        for number in begin..end {
            if let Some(piece) = self.pieces.get_mut(&number) {
                piece.asked = piece.asked.saturating_sub(1);
            }
        }
        self.actions.push_back(Action::Shorten(slowest, begin));
        Some(begin..end)
    }

    /// A piece that is on its way for longer than it should be.
    fn late(&mut self, key: Key, now: Duration) -> Option<Range<u32>> {
        let due = LATE_MIN.max(Duration::from_secs_f64((self.pace(key) * LATE).min(60.0)));
        let stripes = self.members.iter().enumerate().filter(|(other, _)| *other != key);
        let on_their_way: Vec<&Stripe> = stripes.filter_map(|(_, member)| member.stripe.as_ref()).collect();
        // What everything waits for comes first, however many were asked for it.
        let is_next = |stripe: &&&Stripe| stripe.pieces.start == self.next;
        let since = on_their_way.iter().filter(is_next).map(|stripe| stripe.since).max();
        let is_here = self.pieces.get(&self.next).is_some_and(|piece| piece.checking > 0 || piece.is_right);
        if since.is_some_and(|since| now.saturating_sub(since) >= BLOCKS.max(due)) && !is_here {
            self.doubles = self.doubles.saturating_sub(1);
            return Some(self.next..self.next + 1);
        }
        let is_alone =
            |number: &u32| self.pieces.get(number).is_some_and(|piece| piece.asked == 1 && piece.checking == 0);
        let alone = on_their_way.into_iter().filter(|stripe| is_alone(&stripe.pieces.start));
        let oldest = alone.min_by_key(|stripe| stripe.since)?;
        let (number, waited) = (oldest.pieces.start, now.saturating_sub(oldest.since));
        if waited < due || self.doubles == 0 {
            return None;
        }
        self.doubles = self.doubles.saturating_sub(1);
        Some(number..number + 1)
    }
}

#[cfg(test)]
#[path = "stripes_tests.rs"]
mod tests;

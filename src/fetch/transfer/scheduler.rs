//! Which source sends, who is blamed, when it is over: the decisions of one transfer, without any input or output.
//!
//! Events go in, actions come out. The NAR is one piece: one source at a time sends it from the first byte that is missing, and
//! whoever takes over goes on where the one before stopped. The bytes themselves are not known here, only how many came from
//! whom, and whether the whole turned out right.
//!
//! * A source that fails is tried again after a pause, up to [`CHANCES`] times, once everybody has been asked again who has the
//!   NAR; others are tried before it. So is one that broke its promise of this path before. Only when nobody is left who could still say
//!   that it has the NAR is it over.
//! * A source that is busy has not failed. Another is asked at once; where there is none, everybody is asked again, and then it is waited
//!   for, with pauses that grow, [`BUSY_WAITS`] times in all.
//! * What nobody near has is downloaded by one machine for all. Before anything far away is asked, the others are: then this one downloads, or
//!   streams from one that does. When that one fails, they are asked again, [`CLAIMS`] times until it comes to something.
//! * A NAR that is kept whole until it is verified can be begun anew. If a single source sent it and it is wrong, that source is
//!   to blame. If several did, nobody is blamed on suspicion: from then on one source alone has to send all of it, and the
//!   right content, once it is there, shows whose part was wrong.
//! * A NAR of which readers have seen a part cannot be begun anew. If it is wrong and several sources sent it, they become
//!   suspects: next time they are asked last, and never mixed.

use super::events::{Action, Candidate, Event, Key, Part};
use super::ranking::{Rank, rank};
use crate::fetch::claims::directory::Loss;
use crate::fetch::error::{SourceError, TransferError, Violation};
use crate::fetch::source::Standing;
use crate::nix::NarHash;
use crate::resilience::Schedule;
use std::collections::VecDeque;
use std::time::Duration;

/// How often one source may fail a transfer before it is out of it.
const CHANCES: u32 = 3;
/// How long before a source that has failed is tried again.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(100), factor: 4, most: Duration::from_secs(2), spread: false };
/// How long before one that is busy is asked again.
const BUSY_PAUSES: Schedule =
    Schedule { first: Duration::from_millis(500), factor: 2, most: Duration::from_secs(5), spread: false };
/// How often a transfer waits for one that is busy without getting anything in between: 27 s in all. Nix waits as long without a word, and
/// after that its next cache may be the quicker way.
const BUSY_WAITS: u32 = 8;
/// How often the others are asked who downloads until something worth mentioning comes: after that this machine does what it would do alone.
const CLAIMS: u32 = 6;
/// How much a source has to send, in bytes, until what it failed before is forgiven.
const GOOD_WAY: u64 = 1024 * 1024;

/// What is known of a candidate.
#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    failures: u32,
    /// It broke its promise of this path before, and has sent nothing worth mentioning since.
    is_doubtful: bool,
    /// How often it was busy since it sent something last.
    busy: u32,
    /// It failed or was busy, and its pause is not over.
    must_rest: bool,
}

impl Entry {
    fn new(candidate: Candidate) -> Self {
        Self { candidate, failures: 0, is_doubtful: candidate.broke_promise, busy: 0, must_rest: false }
    }

    /// There is nothing against it.
    fn is_fresh(&self) -> bool {
        self.against() == 0
    }

    /// How much there is.
    fn against(&self) -> u32 {
        self.failures + self.busy + u32::from(self.is_doubtful)
    }
}

/// Whether what is far away may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// The others are to be asked before.
    Wanted,
    /// They are being asked.
    Asked,
    /// It may.
    Granted,
}

/// Whether everybody was asked again who has the NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    NotYet,
    /// Those are waited for who answer at once.
    Running,
    /// Only latecomers are left.
    Done,
    /// Nobody is left.
    Over,
}

/// The source that sends.
#[derive(Debug)]
struct Flight {
    key: Key,
    from: u64,
}

/// The decisions of one transfer.
#[derive(Debug)]
pub(crate) struct Scheduler {
    wanted: NarHash,
    size: u64,
    /// Nothing is released before it is verified, so that it can be begun anew.
    restartable: bool,
    entries: Vec<Entry>,
    search: Search,
    claim: Claim,
    /// How often the others were asked since something worth mentioning came…
    claims: u32,
    /// … and whether they are asked because those that have it are busy.
    is_for_busy: bool,
    flight: Option<Flight>,
    offset: u64,
    /// Who sent what of the bytes up to `offset`.
    parts: Vec<Part>,
    /// What was wrong and of several sources: since then nothing is mixed.
    mixed_failure: Option<Vec<Part>>,
    /// Who failed last, and how.
    last_failure: Option<(Key, String)>,
    /// How often it was waited for one that is busy.
    waits: u32,
    /// A pause was asked for and is not over.
    is_resting: bool,
    actions: VecDeque<Action>,
}

impl Scheduler {
    /// For the NAR of `size` bytes with the hash `wanted`. `has_others`: there are machines that may want it as well.
    pub(crate) fn new(wanted: NarHash, size: u64, restartable: bool, has_others: bool) -> Self {
        Self {
            wanted,
            size,
            restartable,
            entries: Vec::new(),
            search: Search::NotYet,
            claim: if has_others { Claim::Wanted } else { Claim::Granted },
            claims: 0,
            is_for_busy: false,
            flight: None,
            offset: 0,
            parts: Vec::new(),
            mixed_failure: None,
            last_failure: None,
            waits: 0,
            is_resting: false,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do; `None` when there is something to wait for.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Who failed last, and how.
    pub(crate) fn last_failure(&self) -> Option<&(Key, String)> {
        self.last_failure.as_ref()
    }

    /// Whether another machine is followed that fetches the NAR itself.
    pub(crate) fn follows(&self) -> bool {
        self.flight.as_ref().is_some_and(|flight| self.entries[flight.key].candidate.is_partial)
    }

    /// Whether something far away could go on.
    pub(crate) fn has_far(&self) -> bool {
        self.entries.iter().any(|entry| entry.candidate.is_far && entry.failures < CHANCES)
    }

    /// How many bytes are there.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether another source than the one that sends could take over without a detour.
    pub(crate) fn has_other(&self, standing: impl Fn(Key) -> Standing) -> bool {
        let sends = self.flight.as_ref().map(|flight| flight.key);
        // Whoever follows another machine asks the others before it goes to the Internet.
        let follows = self.follows();
        self.entries.iter().enumerate().any(|(key, entry)| {
            Some(key) != sends
                && entry.is_fresh()
                && !(entry.candidate.is_far && follows)
                && (self.offset == 0 || entry.candidate.begins_anywhere)
                && standing(key).usable
        })
    }

    /// Takes in what happened; `standing` tells how the sources stand now.
    pub(crate) fn handle(&mut self, event: Event, standing: impl Fn(Key) -> Standing) {
        match event {
            Event::Found(candidates) => {
                self.entries.extend(candidates.into_iter().map(Entry::new));
                // Whoever waits for one that failed goes on with one that did not.
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::Searched | Event::HeardAll => {
                self.search = if matches!(event, Event::HeardAll) { Search::Over } else { Search::Done };
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::MayDownload => {
                self.claim = Claim::Granted;
                if std::mem::take(&mut self.is_for_busy) {
                    // Nobody passes on what these have: now they let us in, if they are not busy with other things.
                    let busy = self.entries.iter_mut().filter(|entry| entry.busy > 0);
                    busy.for_each(|entry| (entry.busy, entry.must_rest) = (0, false));
                }
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::Follow(key) => {
                (self.claim, self.is_for_busy) = (Claim::Wanted, false);
                let entry = &mut self.entries[key];
                (entry.failures, entry.busy, entry.is_doubtful, entry.must_rest) = (0, 0, false, false);
                if !standing(key).usable {
                    self.lost(key, Loss::Broke);
                }
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::FollowedLongEnough => {
                self.claims = CLAIMS;
                if self.follows()
                    && let Some(flight) = self.flight.take()
                {
                    self.lost(flight.key, Loss::Stalled);
                    self.entries[flight.key].failures = CHANCES;
                    self.proceed(standing);
                }
            }
            Event::Received(bytes) => self.received(bytes),
            Event::Failed(error) => {
                if let Some(flight) = self.flight.take() {
                    let loss = if matches!(error, SourceError::Stalled(_)) { Loss::Stalled } else { Loss::Broke };
                    self.lost(flight.key, loss);
                    self.failed(flight.key, error);
                    self.proceed(standing);
                }
            }
            Event::Busy => {
                if let Some(flight) = self.flight.take() {
                    self.lost(flight.key, Loss::Stalled);
                    let entry = &mut self.entries[flight.key];
                    (entry.busy, entry.must_rest) = (entry.busy.saturating_add(1), true);
                    self.last_failure = Some((flight.key, SourceError::Busy.to_string()));
                    self.proceed(standing);
                }
            }
            Event::Tick => {
                self.is_resting = false;
                self.entries.iter_mut().for_each(|entry| entry.must_rest = false);
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::PieceDone(hash) if hash == self.wanted => match self.mixed_failure.take() {
                Some(parts) => self.actions.push_back(Action::Compare(parts)),
                None => self.finish(Ok(())),
            },
            Event::PieceDone(hash) => self.wrong(hash, standing),
            Event::Compared(wrong) => {
                // Who only passes on what it gets itself does not vouch for it before the end.
                let vouches =
                    |part: &Part| !self.entries[part.from].candidate.is_partial || part.range.end == self.size;
                let (liars, others): (Vec<Part>, Vec<Part>) = wrong.into_iter().partition(vouches);
                for Part { from, range } in liars {
                    self.actions.push_back(Action::Blame(from, Violation::Segment(range.start, range.end).into()));
                }
                self.suspect(&others);
                self.finish(Ok(()));
            }
        }
    }

    fn received(&mut self, bytes: u64) {
        let Some(Flight { key, from }) = &self.flight else { return };
        let (first, end) = (self.offset, self.offset + bytes);
        self.entries[*key].busy = 0;
        match self.parts.last_mut() {
            Some(part) if part.from == *key => part.range.end = end,
            _ => self.parts.push(Part { from: *key, range: first..end }),
        }
        self.offset = end;
        // Begun anew again and again, it could go the same way for ever.
        if end - from >= GOOD_WAY && self.mixed_failure.is_none() {
            self.claims = 0;
            let entry = &mut self.entries[*key];
            (entry.failures, entry.is_doubtful, self.waits) = (0, false, 0);
        }
        if self.offset == self.size {
            self.flight = None;
            self.actions.push_back(Action::Verify);
        }
    }

    /// Holds a failure against a source. A lie is the end of its part; a stall costs two chances, because it costs time.
    fn failed(&mut self, key: Key, error: SourceError) {
        let entry = &mut self.entries[key];
        entry.failures += match error {
            _ if error.is_final() => CHANCES,
            SourceError::Stalled(_) => 2,
            _ => 1,
        };
        entry.must_rest = true;
        self.last_failure = Some((key, error.to_string()));
        self.actions.push_back(Action::Blame(key, error));
    }

    /// All bytes came, and they are wrong.
    fn wrong(&mut self, hash: NarHash, standing: impl Fn(Key) -> Standing) {
        let violation = Violation::NarHash(hash.to_string());
        let error = TransferError::Corrupt(violation.to_string());
        let parts = std::mem::take(&mut self.parts);
        let is_mixed = parts.len() > 1;
        if let [part] = parts.as_slice() {
            self.lost(part.from, Loss::Broke);
            self.failed(part.from, violation.into());
        }
        if !self.restartable {
            self.suspect(&parts);
            return self.finish(Err(error));
        }
        self.offset = 0;
        self.actions.push_back(Action::StartOver { set_aside: is_mixed });
        if is_mixed {
            self.mixed_failure = Some(parts);
        }
        self.proceed(standing);
    }

    /// Has the best source send, if it is known by now which one that is.
    fn proceed(&mut self, standing: impl Fn(Key) -> Standing) {
        if self.mixed_failure.is_some() && self.offset > 0 {
            self.offset = 0;
            self.parts.clear();
            self.actions.push_back(Action::StartOver { set_aside: false });
        }
        let Some((key, entry)) = self.best(standing) else {
            return match self.search {
                Search::Over => self.finish(Err(TransferError::NoSource("nobody has it".to_owned()))),
                Search::NotYet => self.search(),
                Search::Running | Search::Done => {}
            };
        };
        match self.claim {
            // Where those that have it are busy, others may have got it from them.
            Claim::Wanted if (entry.candidate.is_far || entry.busy > 0) && self.claims < CLAIMS => {
                (self.claim, self.claims) = (Claim::Asked, self.claims + 1);
                self.is_for_busy = self.entries.iter().any(|entry| entry.busy > 0);
                return self.actions.push_back(Action::Claim);
            }
            Claim::Asked if entry.candidate.is_far || entry.busy > 0 => return,
            Claim::Wanted | Claim::Asked | Claim::Granted => {}
        }
        // Before it settles for one that has failed or is busy, it asks everybody again.
        match self.search {
            _ if entry.is_fresh() => self.request(key),
            Search::NotYet => self.search(),
            Search::Running => {}
            Search::Done | Search::Over if !entry.must_rest => self.request(key),
            Search::Done | Search::Over if self.is_resting => {}
            Search::Done | Search::Over if entry.busy > 0 => self.wait(),
            Search::Done | Search::Over => {
                let pause = PAUSES.after(entry.failures);
                self.is_resting = true;
                self.actions.push_back(Action::Pause(pause));
            }
        }
    }

    /// Waits for one that is busy, unless that was done long enough.
    fn wait(&mut self) {
        if self.waits >= BUSY_WAITS {
            return self.finish(Err(TransferError::NoSource("all who have it are busy".to_owned())));
        }
        self.waits += 1;
        self.is_resting = true;
        self.actions.push_back(Action::Wait(BUSY_PAUSES.after(self.waits)));
    }

    /// One that fetches the NAR itself is of no use any more: the others have to say who is.
    fn lost(&mut self, key: Key, how: Loss) {
        if self.entries[key].candidate.is_partial {
            self.claim = Claim::Wanted;
            self.actions.push_back(Action::Lost(key, how));
        }
    }

    fn search(&mut self) {
        self.search = Search::Running;
        self.actions.push_back(Action::Search);
    }

    fn request(&mut self, key: Key) {
        let mut senders = self.parts.iter().map(|part| part.from).chain([key]);
        let is_suspect = |key: Key| self.entries[key].candidate.suspicion > 0;
        if !self.parts.is_empty() && !self.restartable && senders.any(is_suspect) {
            // Who leaves early is asked later next time.
            let parts = std::mem::take(&mut self.parts);
            self.suspect(&parts);
            let reason = "its sources are not mixed after wrong content".to_owned();
            return self.finish(Err(TransferError::NoSource(reason)));
        }
        if self.entries[key].candidate.is_far {
            self.claim = Claim::Granted;
        }
        self.is_resting = false;
        self.flight = Some(Flight { key, from: self.offset });
        self.actions.push_back(Action::Request { key, from: self.offset });
    }

    fn best(&self, standing: impl Fn(Key) -> Standing) -> Option<(Key, &Entry)> {
        let rank = |(key, entry): &(Key, &Entry)| -> Rank {
            // To begin at the start again is the last resort: a source that failed once is tried again before.
            let detour = u32::from(self.offset > 0 && !entry.candidate.begins_anywhere);
            let against = entry.against() + detour;
            rank(&standing(*key), entry.candidate.suspicion, against, self.size - self.offset)
        };
        // One that fetches it itself is asked once as well: then the others know better who does.
        let is_once = |candidate: &Candidate| candidate.is_partial || candidate.is_once;
        let is_out = |entry: &Entry| entry.failures >= CHANCES || (is_once(&entry.candidate) && !entry.is_fresh());
        let usable = |(key, entry): &(Key, &Entry)| !is_out(entry) && standing(*key).usable;
        self.entries.iter().enumerate().filter(usable).min_by_key(rank)
    }

    fn suspect(&mut self, parts: &[Part]) {
        if parts.is_empty() {
            return;
        }
        let mut keys: Vec<Key> = parts.iter().map(|part| part.from).collect();
        keys.sort_unstable();
        keys.dedup();
        self.actions.push_back(Action::Suspect(keys));
    }

    fn finish(&mut self, result: Result<(), TransferError>) {
        self.actions.push_back(Action::Finish(result));
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

//! Which source sends, who is blamed, when it is over: the decisions of one transfer, without any input or output.
//!
//! Events go in, actions come out. The NAR is one piece: one source at a time sends it from the first byte that is missing, and
//! whoever takes over goes on where the one before stopped. The bytes themselves are not known here, only how many came from
//! whom, and whether the whole turned out right.
//!
//! * A source that fails is tried again after a pause, up to [`CHANCES`] times, once everybody has been asked again who has the
//!   NAR; others are tried before it.
//! * A NAR that is kept whole until it is verified can be begun anew. If a single source sent it and it is wrong, that source is
//!   to blame. If several did, nobody is blamed on suspicion: from then on one source alone has to send all of it, and the
//!   right content, once it is there, shows whose part was wrong.
//! * A NAR of which readers have seen a part cannot be begun anew. If it is wrong and several sources sent it, they become
//!   suspects: next time they are asked last, and never mixed.

use super::ranking::{Rank, rank};
use crate::fetch::error::{SourceError, TransferError, Violation};
use crate::fetch::source::Standing;
use crate::nix::NarHash;
use crate::resilience::Schedule;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// How often one source may fail a transfer before it is out of it.
const CHANCES: u32 = 3;
/// How long before a source that has failed is tried again.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(100), factor: 4, most: Duration::from_secs(2), spread: false };
/// How much a source has to send, in bytes, until what it failed before is forgiven.
const GOOD_WAY: u64 = 1024 * 1024;

/// A source by its place among all that the transfer has heard of.
pub(crate) type Key = usize;

/// A part of the NAR and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from: Key,
    pub(crate) range: Range<u64>,
}

/// A source that has the NAR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// It can begin in the middle.
    pub(crate) begins_anywhere: bool,
    /// How often it had a part in wrong content of this NAR of which nobody knows who sent it.
    pub(crate) suspicion: u32,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// More sources have it: each only once, with the keys that follow on those before.
    Found(Vec<Candidate>),
    /// Everybody was asked again; whom that brought was told before.
    Searched,
    /// The source that was asked sent so many bytes, which were taken in. Never more than are missing.
    Received(u64),
    /// The source that was asked failed, or stalled.
    Failed(SourceError),
    /// The pause is over.
    Tick,
    /// All bytes are there, and this is their hash.
    PieceDone(NarHash),
    /// These parts of what was set aside are not what the right content has there.
    Compared(Vec<Part>),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Have this source send from byte `from` on.
    Request {
        /// The source.
        key: Key,
        /// The first byte.
        from: u64,
    },
    /// Tell of a [`Event::Tick`] after so long, unless something else is to be done before.
    Pause(Duration),
    /// Ask everybody who has it.
    Search,
    /// Throw away what came, or set it aside for [`Action::Compare`].
    StartOver {
        /// Whether it is set aside.
        set_aside: bool,
    },
    /// All bytes are there: say what their hash is.
    Verify,
    /// Say which of these parts of what was set aside are wrong.
    Compare(Vec<Part>),
    /// This one is responsible for that.
    Blame(Key, SourceError),
    /// These had a part in wrong content, and nobody knows whose was wrong.
    Suspect(Vec<Key>),
    /// It is over. Where no source is left, [`Scheduler::last_failure`] says more.
    Finish(Result<(), TransferError>),
}

/// What is known of a candidate.
#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    failures: u32,
    /// It failed, and its pause is not over.
    must_rest: bool,
}

/// Whether everybody was asked again who has the NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    NotYet,
    Running,
    Done,
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
    flight: Option<Flight>,
    offset: u64,
    /// Who sent what of the bytes up to `offset`.
    parts: Vec<Part>,
    /// What was wrong and of several sources: since then nothing is mixed.
    mixed_failure: Option<Vec<Part>>,
    /// Who failed last, and how.
    last_failure: Option<(Key, String)>,
    actions: VecDeque<Action>,
}

impl Scheduler {
    /// For the NAR of `size` bytes with the hash `wanted`.
    pub(crate) fn new(wanted: NarHash, size: u64, restartable: bool) -> Self {
        Self {
            wanted,
            size,
            restartable,
            entries: Vec::new(),
            search: Search::NotYet,
            flight: None,
            offset: 0,
            parts: Vec::new(),
            mixed_failure: None,
            last_failure: None,
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

    /// How many bytes are there.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether another source than the one that sends could take over without a detour.
    pub(crate) fn has_other(&self, standing: impl Fn(Key) -> Standing) -> bool {
        let sends = self.flight.as_ref().map(|flight| flight.key);
        self.entries.iter().enumerate().any(|(key, entry)| {
            Some(key) != sends
                && entry.failures == 0
                && (self.offset == 0 || entry.candidate.begins_anywhere)
                && standing(key).usable
        })
    }

    /// Takes in what happened; `standing` tells how the sources stand now.
    pub(crate) fn handle(&mut self, event: Event, standing: impl Fn(Key) -> Standing) {
        match event {
            Event::Found(candidates) => {
                let new = |candidate| Entry { candidate, failures: 0, must_rest: false };
                self.entries.extend(candidates.into_iter().map(new));
                // Whoever waits for one that failed goes on with one that did not.
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::Searched => {
                self.search = Search::Done;
                if self.flight.is_none() {
                    self.proceed(standing);
                }
            }
            Event::Received(bytes) => self.received(bytes),
            Event::Failed(error) => {
                if let Some(flight) = self.flight.take() {
                    self.failed(flight.key, error);
                    self.proceed(standing);
                }
            }
            Event::Tick => {
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
                for Part { from, range } in wrong {
                    self.actions.push_back(Action::Blame(from, Violation::Segment(range.start, range.end).into()));
                }
                self.finish(Ok(()));
            }
        }
    }

    fn received(&mut self, bytes: u64) {
        let Some(Flight { key, from }) = &self.flight else { return };
        let (first, end) = (self.offset, self.offset + bytes);
        match self.parts.last_mut() {
            Some(part) if part.from == *key => part.range.end = end,
            _ => self.parts.push(Part { from: *key, range: first..end }),
        }
        self.offset = end;
        // Begun anew again and again, it could go the same way for ever.
        if end - from >= GOOD_WAY && self.mixed_failure.is_none() {
            self.entries[*key].failures = 0;
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
            SourceError::Violation(_) | SourceError::Barred | SourceError::Status(_) | SourceError::Decode(_) => {
                CHANCES
            }
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
                Search::Done => self.finish(Err(TransferError::NoSource("nobody has it".to_owned()))),
                Search::NotYet => self.search(),
                Search::Running => {}
            };
        };
        // Before it settles for one that has failed, it asks everybody again.
        match self.search {
            _ if entry.failures == 0 => self.request(key),
            Search::NotYet => self.search(),
            Search::Running => {}
            Search::Done if entry.must_rest => {
                let pause = PAUSES.after(entry.failures);
                self.actions.push_back(Action::Pause(pause));
            }
            Search::Done => self.request(key),
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
        self.flight = Some(Flight { key, from: self.offset });
        self.actions.push_back(Action::Request { key, from: self.offset });
    }

    fn best(&self, standing: impl Fn(Key) -> Standing) -> Option<(Key, &Entry)> {
        let rank = |(key, entry): &(Key, &Entry)| -> Rank {
            // To begin at the start again is the last resort: a source that failed once is tried again before.
            let detour = u32::from(self.offset > 0 && !entry.candidate.begins_anywhere);
            rank(&standing(*key), entry.candidate.suspicion, entry.failures + detour, self.size - self.offset)
        };
        let usable = |(key, entry): &(Key, &Entry)| entry.failures < CHANCES && standing(*key).usable;
        self.entries.iter().enumerate().filter(usable).min_by_key(rank)
    }

    fn suspect(&mut self, parts: &[Part]) {
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

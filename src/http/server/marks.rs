//! What a connection is doing, and until when it may.
//!
//! hyper has one time-out for the head of a request, which also runs while nothing is asked, and none for readers that
//! stop reading. Here the reads and writes leave marks, which tell when the earliest of the deadlines of a connection is due:
//! a request costs two looks at the clock.

use super::limits::{Limits, STALL_BYTES};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Its first request.
    Fresh = 0,
    /// The rest of the head of a request.
    Head = 1,
    /// Us: a request is being answered.
    Busy = 2,
    /// The next request.
    Idle = 3,
}

/// Why a connection has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head did not come, or not whole.
    Head,
    /// No further request came. This is how most connections end.
    Idle,
    /// The reader takes nothing, or next to it.
    Stalled,
    /// The server stops, and waited long enough.
    Drain,
}

/// A deadline, and what for.
pub(super) type Due = (Instant, Overdue);

/// The deadline that is due first.
pub(super) fn earlier(one: Option<Due>, other: Option<Due>) -> Option<Due> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.0 <= other.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

/// The marks of one connection. Nearly all are written by the one task that drives it; they are atomic because its parts may
/// not share anything less, and because whoever needs its place looks whether it is idle.
#[derive(Debug)]
pub(super) struct Marks {
    start: Instant,
    phase: AtomicU8,
    /// When the phase began, in milliseconds since the start.
    since: AtomicU64,
    /// Whether a write waits for the reader, or one has lately and the reader has not yet taken [`STALL_BYTES`] since.
    blocked: AtomicBool,
    /// When that began.
    blocked_since: AtomicU64,
    /// How many bytes the reader took since then.
    taken: AtomicU64,
    /// Whether it carries several requests at a time.
    multiplexed: AtomicBool,
    /// Those, if so.
    requests: Mutex<Requests>,
    /// Whether it has to end, for another one to have its place.
    evicted: AtomicBool,
    /// Whether the answer under way is to be its last.
    last: AtomicBool,
    /// Wakes its task, because something changed that its task did not do.
    pub(super) changed: Notify,
}

/// The requests of an HTTP/2 connection whose answers are not gone yet: at most
/// [`STREAMS_MAX`](super::limits::STREAMS_MAX), which is why they are in a plain list.
#[derive(Debug, Default)]
struct Requests {
    next: u64,
    /// By number, and since when a part of the answer is for the reader to take.
    open: Vec<(u64, Option<u64>)>,
}

/// One request, until the last byte of its answer is gone or it is given up.
#[derive(Debug)]
pub(super) struct InFlight {
    marks: Arc<Marks>,
    number: u64,
}

impl InFlight {
    /// A part of the answer is handed over, and is for the reader to take.
    pub(super) fn sending(&self) {
        if self.marks.is_multiplexed() {
            let (now, mut requests) = (self.marks.now(), self.marks.requests.lock());
            if let Some((_, since)) = requests.open.iter_mut().find(|(number, _)| *number == self.number) {
                *since = Some(now);
            }
        }
    }

    /// The marks of its connection.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.marks.is_multiplexed() {
            return self.marks.enter(Phase::Idle);
        }
        let mut requests = self.marks.requests.lock();
        requests.open.retain(|(number, _)| *number != self.number);
        if requests.open.is_empty() {
            self.marks.enter(Phase::Idle);
            drop(requests);
            // Its last request may have been given up in a task of its own.
            self.marks.changed.notify_one();
        }
    }
}

impl Marks {
    /// Of a connection that was just made.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Fresh as u8),
            since: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            blocked_since: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            multiplexed: AtomicBool::new(false),
            requests: Mutex::default(),
            evicted: AtomicBool::new(false),
            last: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// From now on its first request is waited for. With several requests at a time the bytes that come say nothing: most of
    /// them belong to no request.
    pub(super) fn begin(&self, multiplexed: bool) {
        self.multiplexed.store(multiplexed, Relaxed);
        self.enter(Phase::Fresh);
    }

    /// Whether it carries several requests at a time.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    fn now(&self) -> u64 {
        // 2^64 milliseconds are longer than anything.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether its first request, or the rest of a head, is still to come.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase(), Phase::Fresh | Phase::Head)
    }

    /// Since when it waits for a further request, if that is what it does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let idle = self.phase() == Phase::Idle && !self.is_blocked();
        idle.then(|| self.start + Duration::from_millis(self.since.load(Relaxed)))
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Fresh,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Idle,
        }
    }

    fn enter(&self, phase: Phase) {
        self.since.store(self.now(), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        // What comes while we answer belongs to a later request, whose time begins when this one is done.
        if !self.is_multiplexed() && matches!(self.phase(), Phase::Fresh | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete.
    pub(super) fn answering(self: &Arc<Self>) -> InFlight {
        let mut number = 0;
        if self.is_multiplexed() {
            let mut requests = self.requests.lock();
            requests.next += 1;
            number = requests.next;
            requests.open.push((number, None));
        }
        self.phase.store(Phase::Busy as u8, Relaxed);
        InFlight { marks: Arc::clone(self), number }
    }

    /// The connection is to end with the answers under way.
    pub(super) fn end_after_answer(&self) {
        self.last.store(true, Relaxed);
        self.changed.notify_one();
    }

    /// Whether somebody said so.
    pub(super) fn ends_after_answer(&self) -> bool {
        self.last.load(Relaxed)
    }

    /// The connection has to end now, for another one to have its place.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        self.changed.notify_one();
    }

    /// Whether somebody said so.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// A write has to wait.
    pub(super) fn write_blocked(&self) {
        if !self.blocked.swap(true, Relaxed) {
            self.blocked_since.store(self.now(), Relaxed);
            self.taken.store(0, Relaxed);
        }
    }

    /// A write took this many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        if self.blocked.load(Relaxed) {
            let taken = self.taken.load(Relaxed).saturating_add(bytes as u64);
            self.taken.store(taken, Relaxed);
            if taken >= STALL_BYTES {
                self.blocked.store(false, Relaxed);
            }
        }
    }

    /// Whether something may be left that the reader did not take.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Nothing is left to be written.
    pub(super) fn flushed(&self) {
        self.blocked.store(false, Relaxed);
    }

    /// When the connection has to end if nothing happens until then, and why.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Due> {
        let due = |since: u64, limit, why| Some((self.start + Duration::from_millis(since) + limit, why));
        let stalled = |since| due(since, limits.stall_timeout, Overdue::Stalled);
        let of_connection = if self.is_blocked() { stalled(self.blocked_since.load(Relaxed)) } else { None };
        let oldest = || self.requests.lock().open.iter().filter_map(|(_, since)| *since).min();
        let of_request = if self.is_multiplexed() { oldest().and_then(stalled) } else { None };
        let stalled = earlier(of_connection, of_request);
        let since = self.since.load(Relaxed);
        let own = match self.phase() {
            Phase::Fresh | Phase::Head => due(since, limits.header_timeout, Overdue::Head),
            // An answer that still has to be read keeps a connection from being idle.
            Phase::Idle if stalled.is_none() => due(since, limits.idle_timeout, Overdue::Idle),
            Phase::Idle | Phase::Busy => None,
        };
        earlier(own, stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_waits_for_has_its_time() {
        let limits = Limits::share();
        let (marks, start) = (Marks::new(), Instant::now());
        assert!(marks.is_asking());
        assert_eq!(marks.deadline(&limits), Some((start + limits.header_timeout, Overdue::Head)));
        advance(SECOND).await;
        marks.read();
        marks.read();
        assert_eq!(marks.deadline(&limits), Some((start + SECOND + limits.header_timeout, Overdue::Head)));
        let request = marks.answering();
        assert!(!marks.is_asking() && marks.deadline(&limits).is_none(), "an answer may take its time");
        advance(SECOND).await;
        assert_eq!(marks.idle_since(), None);
        drop(request);
        assert_eq!(marks.deadline(&limits), Some((start + 2 * SECOND + limits.idle_timeout, Overdue::Idle)));
        assert_eq!(marks.idle_since(), Some(start + 2 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_must_take_something_in_time() {
        let limits = Limits { idle_timeout: SECOND, ..Limits::share() };
        let (marks, start) = (Marks::new(), Instant::now());
        let request = marks.answering();
        marks.write_blocked();
        let stalled = Some((start + limits.stall_timeout, Overdue::Stalled));
        assert_eq!(marks.deadline(&limits), stalled);
        advance(SECOND).await;
        marks.wrote(1);
        marks.write_blocked();
        drop(request);
        assert_eq!(
            marks.deadline(&limits),
            stalled,
            "a trickle counts for nothing, and it is not idle before it has read"
        );
        assert_eq!(marks.idle_since(), None);
        marks.wrote(usize::try_from(STALL_BYTES).unwrap());
        assert!(!marks.is_blocked());
        assert_eq!(marks.deadline(&limits).map(|(_, why)| why), Some(Overdue::Idle));
        marks.write_blocked();
        marks.flushed();
        assert!(!marks.is_blocked());
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_requests_each_has_its_time() {
        let limits = Limits::share();
        let (marks, start) = (Marks::new(), Instant::now());
        marks.begin(true);
        marks.read();
        assert_eq!(marks.deadline(&limits), Some((start + limits.header_timeout, Overdue::Head)));
        let [one, other] = [marks.answering(), marks.answering()];
        assert_eq!(marks.deadline(&limits), None, "we take our time");
        advance(SECOND).await;
        one.sending();
        advance(SECOND).await;
        other.sending();
        let stalled = |since| Some((start + since * SECOND + limits.stall_timeout, Overdue::Stalled));
        assert_eq!(marks.deadline(&limits), stalled(1), "other answers that are taken excuse none that is not");
        one.sending();
        assert_eq!(marks.deadline(&limits), stalled(2));
        drop(one);
        assert_eq!((marks.deadline(&limits), marks.idle_since()), (stalled(2), None));
        advance(SECOND).await;
        drop(other);
        marks.changed.notified().await;
        assert_eq!(marks.deadline(&limits), Some((start + 3 * SECOND + limits.idle_timeout, Overdue::Idle)));
        advance(SECOND).await;
        marks.read();
        assert_eq!(marks.idle_since(), Some(start + 3 * SECOND), "what comes need not be a request");
    }
}

//! What a connection is doing, seen from its reads and writes, and until when it may.
//!
//! hyper has one time-out for the head of a request, which also runs while nothing is asked, and none for readers that
//! stop reading. Here the reads and writes leave marks, which tell when the earliest of the deadlines of a connection is due:
//! a request costs two looks at the clock.

use super::limits::{Limits, STALL_BYTES};
use crate::metrics::HttpMetrics;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

/// The marks of one connection. They are written and read by the one task that drives it; they are atomic because its
/// parts may not share anything less.
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
}

impl Marks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            phase: AtomicU8::new(Phase::Fresh as u8),
            since: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            blocked_since: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        // 2^64 milliseconds are longer than anything.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether its first request, or the rest of a head, is still to come.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase(), Phase::Fresh | Phase::Head)
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
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    /// Bytes came.
    fn read(&self) {
        // What comes while we answer belongs to a later request, whose time begins when this one is done.
        if matches!(self.phase(), Phase::Fresh | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// A head is complete.
    pub(super) fn answering(&self) {
        self.phase.store(Phase::Busy as u8, Relaxed);
    }

    /// The last byte of an answer was handed over.
    pub(super) fn answered(&self) {
        self.enter(Phase::Idle);
    }

    /// A write has to wait.
    fn write_blocked(&self) {
        if !self.blocked.swap(true, Relaxed) {
            self.blocked_since.store(self.now(), Relaxed);
            self.taken.store(0, Relaxed);
        }
    }

    /// A write took this many bytes.
    fn wrote(&self, bytes: usize) {
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
    fn flushed(&self) {
        self.blocked.store(false, Relaxed);
    }

    /// When the connection has to end if nothing happens until then, and why.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Due> {
        let due = |since: &AtomicU64, limit, why| {
            let since = self.start + Duration::from_millis(since.load(Relaxed));
            Some((since + limit, why))
        };
        let stalled = if self.blocked.load(Relaxed) {
            due(&self.blocked_since, limits.stall_timeout, Overdue::Stalled)
        } else {
            None
        };
        let own = match self.phase() {
            Phase::Fresh | Phase::Head => due(&self.since, limits.header_timeout, Overdue::Head),
            // An answer that still has to be read keeps a connection from being idle.
            Phase::Idle if stalled.is_none() => due(&self.since, limits.idle_timeout, Overdue::Idle),
            Phase::Idle | Phase::Busy => None,
        };
        earlier(own, stalled)
    }
}

/// A stream whose reads and writes leave marks.
pub(super) struct Watched<S> {
    inner: S,
    marks: Arc<Marks>,
    metrics: Arc<HttpMetrics>,
}

impl<S> Watched<S> {
    pub(super) const fn new(inner: S, marks: Arc<Marks>, metrics: Arc<HttpMetrics>) -> Self {
        Self { inner, marks, metrics }
    }

    fn mark(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.marks.write_blocked(),
            Poll::Ready(Ok(bytes)) => {
                self.marks.wrote(bytes);
                self.metrics.bytes_sent.fetch_add(bytes as u64, Relaxed);
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() != before {
            self.marks.read();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.mark(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.mark(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        match &flushed {
            Poll::Pending => self.marks.write_blocked(),
            Poll::Ready(_) => self.marks.flushed(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        if done.is_pending() {
            self.marks.write_blocked();
        }
        done
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
        marks.answering();
        assert!(!marks.is_asking() && marks.deadline(&limits).is_none(), "an answer may take its time");
        advance(SECOND).await;
        marks.answered();
        assert_eq!(marks.deadline(&limits), Some((start + 2 * SECOND + limits.idle_timeout, Overdue::Idle)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_must_take_something_in_time() {
        let limits = Limits { idle_timeout: SECOND, ..Limits::share() };
        let (marks, start) = (Marks::new(), Instant::now());
        marks.answering();
        marks.write_blocked();
        let stalled = Some((start + limits.stall_timeout, Overdue::Stalled));
        assert_eq!(marks.deadline(&limits), stalled);
        advance(SECOND).await;
        marks.wrote(1);
        marks.write_blocked();
        marks.answered();
        assert_eq!(
            marks.deadline(&limits),
            stalled,
            "a trickle counts for nothing, and it is not idle before it has read"
        );
        marks.wrote(usize::try_from(STALL_BYTES).unwrap());
        assert!(!marks.is_blocked());
        assert_eq!(marks.deadline(&limits).map(|(_, why)| why), Some(Overdue::Idle));
        marks.write_blocked();
        marks.flushed();
        assert!(!marks.is_blocked());
    }
}

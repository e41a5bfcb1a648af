//! What bodies keep to: so many bytes a second for all and for each reader (`[share] upload_limit`, `upload_limit_per_peer`), turns between
//! readers, and times in which nothing leaves at all.
//!
//! There is no task behind it. Whose turn it is waits for its time; whoever has sent wakes the next one. Where nothing is limited a body
//! is passed through, at the cost of one look at an atomic.

use crate::peers::NodeId;
use crate::resilience::{FairQueue, Rates};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The size of a piece: what the line carries in this time, within [`PIECE_MIN`] and [`PIECE_MAX`], so that at a low limit
/// everyone still gets something often.
const PIECE_TIME: Duration = Duration::from_millis(50);
const PIECE_MIN: u64 = 4 * 1024;
const PIECE_MAX: u64 = 64 * 1024;
/// How long everyone who waits should wait at most: pieces are smaller where many do. A reader that has another source takes one that is
/// silent for a second for stalled.
const ROUND: Duration = Duration::from_millis(400);
/// … but no smaller than this, in bytes.
const PIECE_LEAST: usize = 512;

/// Who a body is for: all that one of them reads is one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    /// A peer.
    Node(NodeId),
    /// Anybody else, by its address.
    Address(IpAddr),
    /// Other sites, over NATS.
    Sites,
}

/// Nothing leaves at the moment.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nothing is sent at the moment: uploads are paused")]
pub(super) struct Paused;

/// The line that bodies share.
pub(super) struct Throttle {
    /// Nothing is limited.
    is_open: AtomicBool,
    is_paused: AtomicBool,
    line: Mutex<Line>,
}

struct Line {
    queue: FairQueue<Reader>,
    /// Of those who wait, by their tickets.
    wakers: HashMap<u64, Waker>,
    /// In bytes.
    piece: usize,
}

/// What a body is to do.
enum Turn {
    /// Send up to so many bytes.
    Now(usize),
    /// Wait until then.
    At(Instant),
    /// Wait to be woken.
    Later,
}

/// What the line carries in a moment.
fn piece(rates: Rates) -> usize {
    let slowest = [rates.all, rates.each].into_iter().filter(|rate| *rate != 0).min().unwrap_or(u64::MAX);
    let piece = u128::from(slowest) * PIECE_TIME.as_millis() / 1000;
    // Lossless: at most PIECE_MAX.
    usize::try_from(piece.clamp(PIECE_MIN.into(), PIECE_MAX.into())).unwrap_or(usize::MAX)
}

impl Throttle {
    /// A line with these limits.
    pub(super) fn new(rates: Rates) -> Arc<Self> {
        let piece = piece(rates);
        let line = Line { queue: FairQueue::new(rates, Instant::now()), wakers: HashMap::new(), piece };
        let is_open = AtomicBool::new(rates == Rates::default());
        Arc::new(Self { is_open, is_paused: AtomicBool::new(false), line: Mutex::new(line) })
    }

    /// It has these limits from now on, and carries nothing if it is `paused`.
    pub(super) fn set(&self, rates: Rates, paused: bool) {
        let wakers = {
            let mut line = self.line.lock();
            line.piece = piece(rates);
            line.queue.set(rates, Instant::now());
            self.is_open.store(rates == Rates::default(), Relaxed);
            self.is_paused.store(paused, Relaxed);
            std::mem::take(&mut line.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Whether nothing leaves.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Relaxed)
    }

    /// What a body with a ticket is to do, which has so many bytes to send.
    fn turn(&self, reader: Reader, ticket: u64, bytes: usize, waker: &Waker) -> Turn {
        let now = Instant::now();
        let mut line = self.line.lock();
        let Some((_, next, at)) = line.queue.next(now) else { return Turn::Now(bytes) };
        if next == ticket && at <= now {
            let (turn, piece) = line.turn_and_piece(reader);
            let piece = bytes.min(piece);
            line.queue.take(reader, piece, turn, now);
            line.wakers.remove(&ticket);
            line.wake_next(now);
            return Turn::Now(piece);
        }
        line.wakers.insert(ticket, waker.clone());
        if next == ticket {
            return Turn::At(at);
        }
        // It may have been somebody else's turn when the next one looked.
        line.wake_next(now);
        Turn::Later
    }

    fn enter(&self, reader: Reader) -> u64 {
        self.line.lock().queue.enter(reader, Instant::now())
    }

    fn leave(&self, reader: Reader, ticket: u64) {
        let mut line = self.line.lock();
        line.queue.leave(reader, ticket);
        line.wakers.remove(&ticket);
        line.wake_next(Instant::now());
    }
}

impl Line {
    /// What a reader sends before it is the next one's turn, and what one of its streams does before the next one of its own, in bytes.
    fn turn_and_piece(&self, reader: Reader) -> (usize, usize) {
        let (rates, streams) = (self.queue.rates(), self.queue.streams(reader).max(1));
        // What a line carries in a round, for each of those who share it.
        let part = |rate: u64, of: usize| match rate {
            0 => usize::MAX,
            _ => usize::try_from(u128::from(rate) * ROUND.as_millis() / 1000 / of as u128).unwrap_or(usize::MAX),
        };
        let flows = self.queue.flows().max(1);
        let turn = self.piece.min(part(rates.all, flows)).max(PIECE_LEAST);
        let piece = turn.min(part(rates.all, flows * streams)).min(part(rates.each, streams)).max(PIECE_LEAST);
        (turn, piece)
    }

    fn wake_next(&mut self, now: Instant) {
        if let Some((_, next, _)) = self.queue.next(now)
            && let Some(waker) = self.wakers.remove(&next)
        {
            waker.wake();
        }
    }
}

/// A body that keeps to a [`Throttle`].
pub(super) struct Throttled<B> {
    inner: B,
    throttle: Arc<Throttle>,
    reader: Reader,
    /// What `inner` gave and was not sent yet.
    rest: Bytes,
    /// While it waits for its turn.
    ticket: Option<u64>,
    timer: Pin<Box<Sleep>>,
}

impl<B> Throttled<B> {
    /// Makes `inner`, which is for `reader`, keep to `throttle`.
    pub(super) fn new(inner: B, throttle: Arc<Throttle>, reader: Reader) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { inner, throttle, reader, rest: Bytes::new(), ticket: None, timer }
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.throttle.leave(self.reader, ticket);
        }
    }
}

impl<B> Drop for Throttled<B> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<B> HttpBody for Throttled<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: From<Paused>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                // An empty frame would be taken for the end of it.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        loop {
            if this.throttle.is_paused() {
                this.leave();
                return Poll::Ready(Some(Err(Paused.into())));
            }
            if this.throttle.is_open.load(Relaxed) {
                this.leave();
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))));
            }
            let ticket = *this.ticket.get_or_insert_with(|| this.throttle.enter(this.reader));
            match this.throttle.turn(this.reader, ticket, this.rest.len(), cx.waker()) {
                Turn::Now(piece) => {
                    this.ticket = None;
                    return Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(piece)))));
                }
                Turn::At(at) => {
                    this.timer.as_mut().reset(at);
                    ready!(this.timer.as_mut().poll(cx));
                }
                Turn::Later => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        self.inner.size_hint().exact().map_or_else(SizeHint::default, |more| SizeHint::with_exact(more + rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn reader(last: u8) -> Reader {
        Reader::Address([192, 0, 2, last].into())
    }

    fn body(
        throttle: &Arc<Throttle>,
        last: u8,
        size: usize,
    ) -> impl HttpBody<Data = Bytes, Error = Error> + Unpin + use<> {
        let content = Full::new(Bytes::from(vec![7; size])).map_err(|never| -> Error { match never {} });
        Throttled::new(content, Arc::clone(throttle), reader(last))
    }

    async fn timed(start: Instant, body: impl HttpBody<Data = Bytes, Error = Error> + Unpin, size: usize) -> Duration {
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), size);
        start.elapsed()
    }

    #[test]
    fn pieces_are_what_the_line_carries_in_a_moment() {
        assert_eq!(piece(Rates { all: 1, each: 0 }), 4096);
        assert_eq!(piece(Rates { all: u64::MAX, each: 200_000 }), 10_000);
        assert_eq!(piece(Rates::default()), 65536);
    }

    #[tokio::test]
    async fn one_reader_with_many_bodies_gets_as_much_as_one_with_one() {
        let throttle = Throttle::new(Rates { all: 2_000_000, each: 0 });
        let start = Instant::now();
        let mut many = tokio::task::JoinSet::new();
        for _ in 0..8 {
            many.spawn(timed(start, body(&throttle, 1, 75_000), 75_000));
        }
        let one = timed(start, body(&throttle, 2, 300_000), 300_000).await;
        let all = many.join_all().await.into_iter().max().unwrap();
        // 0.9 MB at 2 MB/s, less what is free at the beginning; the single one has had as much when it ends.
        assert!(all >= Duration::from_millis(320), "{all:?}");
        assert!(one < all * 9 / 10, "{one:?} of {all:?}");
    }

    #[tokio::test]
    async fn a_pause_ends_what_is_on_its_way_and_another_limit_counts_at_once() {
        let throttle = Throttle::new(Rates { all: 10_000, each: 0 });
        let (slow, patient) = (body(&throttle, 1, 1_000_000), body(&throttle, 2, 1_000_000));
        let slow = tokio::spawn(slow.collect());
        let patient = tokio::spawn(patient.collect());
        tokio::task::yield_now().await;
        throttle.set(Rates { all: 10_000, each: 0 }, true);
        assert!(slow.await.unwrap().unwrap_err().to_string().contains("paused"));
        assert!(patient.await.unwrap().is_err() && throttle.is_paused());
        throttle.set(Rates { all: 1000, each: 0 }, false);
        let waiting = tokio::spawn(body(&throttle, 1, 1_000_000).collect());
        tokio::task::yield_now().await;
        throttle.set(Rates::default(), false);
        assert_eq!(waiting.await.unwrap().unwrap().to_bytes().len(), 1_000_000);
        let line = throttle.line.lock();
        assert!(line.wakers.is_empty() && line.queue.next(Instant::now()).is_none(), "nobody is left");
    }

    #[tokio::test]
    async fn who_goes_away_holds_up_nobody() {
        let throttle = Throttle::new(Rates { all: 1_000_000, each: 0 });
        let mut gone = Vec::new();
        for last in 0..20 {
            let mut body = body(&throttle, last, 100_000);
            let _ = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_ready())).await;
            let _ = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_ready())).await;
            gone.push(body);
        }
        let start = Instant::now();
        let left = tokio::spawn(timed(start, body(&throttle, 99, 50_000), 50_000));
        tokio::task::yield_now().await;
        drop(gone);
        left.await.unwrap();
    }

    #[tokio::test]
    async fn lengths_are_kept() {
        let throttle = Throttle::new(Rates { all: 1, each: 0 });
        let body = body(&throttle, 1, 3);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    }
}

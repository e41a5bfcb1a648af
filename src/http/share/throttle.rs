//! `[share] upload_limit`: so many bytes a second, for all bodies together.
//!
//! Bodies draw lots in time: whoever has a piece to send reserves the next stretch of the line for it and sends when that
//! begins. Nobody can reserve more than one piece ahead, so all that want to send take turns; a reservation costs one
//! look at the clock and there is no task behind it.

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How much of the line may be used at once after a pause, as time at the limit.
const BURST: Duration = Duration::from_millis(100);

/// The size of a piece: what the line carries in this time, within [`PIECE_MIN`] and [`PIECE_MAX`], so that at a low limit
/// everyone still gets something often.
const PIECE_TIME: Duration = Duration::from_millis(50);
const PIECE_MIN: u64 = 4 * 1024;
const PIECE_MAX: u64 = 64 * 1024;

/// The line that bodies share.
#[derive(Debug)]
pub(super) struct Throttle {
    /// Bytes a second, never zero.
    limit: u64,
    /// In bytes.
    piece: usize,
    /// Up to when the line is reserved.
    free: Mutex<Instant>,
}

impl Throttle {
    /// A line of `limit` bytes a second; zero means none.
    pub(super) fn new(limit: u64) -> Option<Arc<Self>> {
        if limit == 0 {
            return None;
        }
        let piece = u128::from(limit) * PIECE_TIME.as_millis() / 1000;
        let piece = piece.clamp(PIECE_MIN.into(), PIECE_MAX.into());
        // Lossless: at most PIECE_MAX.
        let piece = usize::try_from(piece).unwrap_or(usize::MAX);
        Some(Arc::new(Self { limit, piece, free: Mutex::new(Instant::now()) }))
    }

    /// Reserves the line for `bytes`, and says when they may be sent.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(self.limit);
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let mut free = self.free.lock();
        let begin = (*free).max(now.checked_sub(BURST).unwrap_or(now));
        *free = begin + time;
        begin
    }
}

/// A body that keeps to a [`Throttle`].
pub(super) struct Throttled<B> {
    inner: B,
    throttle: Arc<Throttle>,
    /// What `inner` gave and was not sent yet.
    rest: Bytes,
    /// Whether the line is reserved for the next piece of `rest`, from the time of the timer.
    reserved: bool,
    timer: Pin<Box<Sleep>>,
}

impl<B> Throttled<B> {
    /// Makes `inner` keep to `throttle`.
    pub(super) fn new(inner: B, throttle: Arc<Throttle>) -> Self {
        Self { inner, throttle, rest: Bytes::new(), reserved: false, timer: Box::pin(sleep_until(Instant::now())) }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Throttled<B> {
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
        let piece = this.rest.len().min(this.throttle.piece);
        if !this.reserved {
            let now = Instant::now();
            let begin = this.throttle.reserve(piece, now);
            this.reserved = true;
            if begin > now {
                this.timer.as_mut().reset(begin);
            }
        }
        if this.timer.deadline() > Instant::now() {
            ready!(this.timer.as_mut().poll(cx));
        }
        this.reserved = false;
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(piece)))))
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

    #[test]
    fn no_limit_is_no_throttle() {
        assert!(Throttle::new(0).is_none());
        assert_eq!(Throttle::new(1).unwrap().piece, 4096);
        assert_eq!(Throttle::new(u64::MAX).unwrap().piece, 65536);
    }

    #[test]
    fn the_line_is_used_up_and_no_more() {
        let throttle = Throttle::new(1_000_000).unwrap();
        let start = Instant::now() + Duration::from_secs(10);
        let begins: Vec<_> = (0..200).map(|_| throttle.reserve(10_000, start)).collect();
        // After the pause, 100 ms worth are free at once: ten pieces. Then one every 10 ms.
        assert_eq!(begins.iter().filter(|begin| **begin <= start).count(), 11);
        assert_eq!(begins[199], start + Duration::from_millis(1890));
    }

    #[tokio::test]
    async fn two_bodies_take_turns_and_keep_the_limit() {
        let throttle = Throttle::new(2_000_000).unwrap();
        let start = Instant::now();
        let body = |size: usize| Throttled::new(Full::new(Bytes::from(vec![7; size])), Arc::clone(&throttle));
        let timed = |size| {
            let body = body(size).collect();
            async move {
                let bytes = body.await.unwrap().to_bytes();
                assert_eq!(bytes.len(), size);
                start.elapsed()
            }
        };
        let (short, long) = tokio::join!(timed(300_000), timed(900_000));
        // 1.2 MB at 2 MB/s, less what is free at the beginning; the short one ends when both had the same.
        assert!(long >= Duration::from_millis(450), "{long:?}");
        assert!(short < long * 3 / 4, "fair: {short:?} of {long:?}");
    }

    #[tokio::test]
    async fn lengths_are_kept() {
        let throttle = Throttle::new(1).unwrap();
        let body = Throttled::new(Full::new(Bytes::from_static(b"abc")), throttle);
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    }
}

//! The body of an answer on its way: what it leaves in the marks of its connection, and how it breaks off.

use super::marks::InFlight;
use crate::http::error::HttpError;
use crate::http::protocol::body::Body;
use crate::metrics::HttpMetrics;
use crate::peers::Visitor;
use crate::resilience::LogThrottle;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Answers that break off in their middle.
static BROKEN: LogThrottle = LogThrottle::new();

/// A body whose end is noticed, good or bad.
pub(super) struct Tracked {
    body: Body,
    /// What ended it before its time, until what came before has been sent.
    failed: Option<HttpError>,
    visitor: Option<Arc<Visitor>>,
    request: Arc<InFlight>,
    metrics: Arc<HttpMetrics>,
}

/// Bytes that HTTP/2 may hold for long after it has taken them, and their request until then.
struct Held {
    bytes: Bytes,
    _request: Arc<InFlight>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Tracked {
    /// The body of the answer to `request`, which goes to `visitor` on a listener that knows them.
    pub(super) const fn new(
        body: Body,
        visitor: Option<Arc<Visitor>>,
        request: Arc<InFlight>,
        metrics: Arc<HttpMetrics>,
    ) -> Self {
        Self { body, failed: None, visitor, request, metrics }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(error) = self.failed.take() {
            if self.request.marks().is_blocked() {
                // Polled again when the reader took something.
                self.failed = Some(error);
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(error)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(visitor), Poll::Ready(Some(Ok(frame)))) = (&self.visitor, &frame) {
            if visitor.is_cut_off() {
                return Poll::Ready(Some(Err(HttpError::Blocked)));
            }
            visitor.took(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        match frame {
            Poll::Ready(Some(Err(error))) => {
                self.metrics.broken.inc();
                log::log!(BROKEN.level(), reason:% = error; "an answer broke off");
                // hyper throws away what it holds when a body fails, head included. With a pause it sends that first,
                // and the reader can go on elsewhere with all that there was.
                self.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) if self.request.marks().is_multiplexed() => {
                self.request.sending();
                let held = |bytes| Bytes::from_owner(Held { bytes, _request: Arc::clone(&self.request) });
                Poll::Ready(Some(Ok(frame.map_data(held))))
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::limits::Limits;
    use crate::http::server::marks::{Marks, Overdue};
    use crate::http::server::watch::Watched;
    use std::future::poll_fn;
    use std::io;
    use tokio::io::{AsyncWrite, AsyncWriteExt, duplex};

    /// One byte, and then trouble.
    struct Breaking(bool);

    impl HttpBody for Breaking {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            let broken = std::mem::replace(&mut self.0, true);
            let frame = Ok(Frame::data(Bytes::from_static(b"x")));
            Poll::Ready(Some(if broken { Err(io::Error::other("the source broke")) } else { frame }))
        }
    }

    /// What one look at the body brings: the length of a frame, or that it failed.
    async fn look(body: &mut Tracked) -> Poll<Option<Result<usize, ()>>> {
        let looked = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
        looked.map(|frame| frame.map(|frame| frame.map(|frame| frame.data_ref().map_or(0, Bytes::len)).map_err(drop)))
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_sent_before_it_is_told() {
        let (marks, metrics) = (Marks::new(), Arc::new(HttpMetrics::new("gateway", &[])));
        let (ours, _theirs) = duplex(1);
        let mut stream = Watched::new(ours, Arc::clone(&marks), Arc::clone(&metrics));
        let body = Body::stream(Some(2), Breaking(false));
        let mut body = Tracked::new(body, None, marks.answering().into(), Arc::clone(&metrics));
        assert_eq!(look(&mut body).await, Poll::Ready(Some(Ok(1))));
        assert_eq!(look(&mut body).await, Poll::Pending, "hyper sends what it holds now");
        assert_eq!((metrics.broken.get(), body.is_end_stream()), (1, false));
        stream.write_all(b"x").await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"x").is_pending())).await);
        assert_eq!(look(&mut body).await, Poll::Pending, "the reader is behind");
        assert_eq!(look(&mut body).await, Poll::Pending);
        stream.flush().await.unwrap();
        assert_eq!(look(&mut body).await, Poll::Ready(Some(Err(()))));
        assert_eq!(metrics.broken.get(), 1, "counted once");
        assert_eq!(marks.deadline(&Limits::share()), None);
        drop(body);
        assert_eq!(marks.deadline(&Limits::share()).map(|(_, why)| why), Some(Overdue::Idle));
    }

    #[tokio::test]
    async fn an_answer_is_not_gone_while_its_bytes_are_held() {
        let (marks, metrics) = (Marks::new(), Arc::new(HttpMetrics::new("gateway", &[])));
        marks.begin(true);
        let mut body = Tracked::new(Body::from("x"), None, marks.answering().into(), metrics);
        assert_eq!(marks.deadline(&Limits::share()), None);
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        drop(body);
        assert_eq!(marks.deadline(&Limits::share()).map(|(_, why)| why), Some(Overdue::Stalled));
        drop(frame);
        assert_eq!(marks.deadline(&Limits::share()).map(|(_, why)| why), Some(Overdue::Idle));
    }
}

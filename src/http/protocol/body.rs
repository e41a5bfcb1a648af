//! The one body type of all answers.

use crate::http::error::HttpError;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of an answer: nothing, bytes in memory, or a stream. Never compressed, never with trailers.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Bytes(Bytes),
    Announced(u64),
    Stream {
        inner: Pin<Box<dyn HttpBody<Data = Bytes, Error = HttpError> + Send>>,
        /// What was read of it already.
        first: Option<Frame<Bytes>>,
        /// How many bytes are still to come, where known.
        left: Option<u64>,
    },
}

impl Body {
    /// No bytes at all.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// What a GET would bring is this many bytes long: the body of the answer to a HEAD.
    #[must_use]
    pub const fn announced(length: u64) -> Self {
        Self(Kind::Announced(length))
    }

    /// Bytes as `inner` yields them, `length` of them in all. Without a length the answer is chunked and a client cannot
    /// resume it.
    ///
    /// A stream that ends early or fails cuts the connection; bytes beyond the length are not sent.
    pub fn stream<B>(length: Option<u64>, inner: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Kind::Stream { inner: Box::pin(Sourced(inner)), first: None, left: length })
    }

    /// [`Self::stream`] with its first bytes already there: they leave together with the head of the answer.
    ///
    /// # Errors
    /// What went wrong before the first byte, while the answer can still be another one.
    pub async fn begun<B>(length: Option<u64>, mut inner: B) -> Result<Self, B::Error>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let first = poll_fn(|cx| Pin::new(&mut inner).poll_frame(cx)).await.transpose()?;
        Ok(Self(Kind::Stream { inner: Box::pin(Sourced(inner)), first, left: length }))
    }

    /// How many bytes are still to come, where that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Bytes(bytes) => Some(bytes.len() as u64),
            Kind::Announced(length) => Some(*length),
            Kind::Stream { inner, first, left } => left.or_else(|| {
                let first = first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
                inner.size_hint().exact().map(|rest| rest.saturating_add(first as u64))
            }),
        }
    }

    /// The same, for the answer to a HEAD: only its length is left.
    #[must_use]
    pub fn into_announced(self) -> Self {
        // Without a length, nothing is said about it.
        self.length().map_or_else(Self::empty, Self::announced)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Kind::Empty } else { Kind::Bytes(bytes) })
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&self.length()).finish()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match &mut self.get_mut().0 {
            kind @ Kind::Bytes(_) => match std::mem::take(kind) {
                Kind::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Kind::Empty => Poll::Ready(None),
            Kind::Announced(length) => Poll::Ready(Some(Err(HttpError::Announced(*length)))),
            Kind::Stream { inner, first, left } => {
                let frame = match first.take() {
                    Some(first) => Some(Ok(first)),
                    None => ready!(inner.as_mut().poll_frame(cx)),
                };
                if let (Some(left), Some(Ok(frame))) = (left, &frame) {
                    let sent = frame.data_ref().map_or(0, |data| data.len() as u64);
                    *left = left.saturating_sub(sent);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Bytes(_) => false,
            Kind::Announced(length) => *length == 0,
            // Not when nothing is left to come: only the stream's own end says that the bytes were right.
            Kind::Stream { inner, first, .. } => first.is_none() && inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A stream with its error told as ours.
struct Sourced<B>(B);

impl<B> HttpBody for Sourced<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.get_mut().0).poll_frame(cx);
        frame.map_err(|error| HttpError::Source(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in() {
        let body = Body::from("abc");
        assert_eq!(body.length(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(Body::from(String::new()).is_end_stream());
    }

    #[tokio::test]
    async fn a_stream_counts_down() {
        let mut body = Body::stream(Some(5), Full::new(Bytes::from_static(b"abc")));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert_eq!(body.length(), Some(2), "what is missing is known");
        assert_eq!(Body::stream(None, Full::new(Bytes::from_static(b"abc"))).length(), Some(3), "asked of the stream");
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_not_lost() {
        let body = Body::begun(None, Full::new(Bytes::from_static(b"abc"))).await.unwrap();
        assert_eq!((body.length(), body.is_end_stream()), (Some(3), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        // An error before the first byte comes back instead of a body.
        assert!(matches!(Body::begun(None, Body::announced(1)).await, Err(HttpError::Announced(1))));
    }

    #[tokio::test]
    async fn only_the_length_answers_a_head() {
        let mut body = Body::stream(Some(5), Full::new(Bytes::from_static(b"abcde"))).into_announced();
        assert_eq!((body.length(), body.is_end_stream()), (Some(5), false));
        assert!(matches!(body.frame().await, Some(Err(HttpError::Announced(5)))), "never taken for a whole body");
    }
}

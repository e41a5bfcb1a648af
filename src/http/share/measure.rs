//! `/peernix/v1/measure/BYTES`: bytes that mean nothing, for a peer that measures the line between us. They take a slot and their turn on
//! the line like any NAR.

use super::core::Share;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::server::listener::Request;
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How many bytes are made; they are sent again and again. Too many for anything on the way to find out and compress.
const BLOCK: usize = 256 * 1024;

impl Share {
    /// So many bytes.
    pub(super) async fn measure(&self, bytes: u64, request: &Request) -> Response<Body> {
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return busy,
        };
        let mut block = vec![0; BLOCK];
        if getrandom::fill(&mut block).is_err() {
            return reply::busy();
        }
        let noise = Noise { block: block.into(), left: bytes };
        reply::ok(media::NAR, keep::NEVER, self.upload.waiting_body(Some(bytes), noise, slot, request))
    }
}

struct Noise {
    block: Bytes,
    left: u64,
}

impl HttpBody for Noise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.block.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if next == 0 {
            return Poll::Ready(None);
        }
        self.left -= next as u64;
        Poll::Ready(Some(Ok(Frame::data(self.block.slice(..next)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn it_is_as_long_as_it_says() {
        for left in [0, 1, BLOCK as u64, 3 * BLOCK as u64 + 7] {
            let noise = Noise { block: vec![7; BLOCK].into(), left };
            assert_eq!(noise.collect().await.unwrap().to_bytes().len() as u64, left);
        }
    }
}

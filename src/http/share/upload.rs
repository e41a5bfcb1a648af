//! What leaves this machine: in a slot, and within the upload limit.

use super::compressed::{Compressed, Compressor, Compressors};
use super::given::GivenNow;
use super::throttle::{Throttle, Throttled};
use super::upload_slots::{NIX_WAIT, PEER_WAIT, Slot, UploadSlots};
use crate::http::protocol::body::Body;
use crate::http::protocol::reply;
use crate::http::server::limits::Limits;
use crate::http::server::listener::Request;
use crate::resilience::LogThrottle;
use crate::store::{ByteStream, StoreError};
use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Times in which slots are short.
static SHORT: LogThrottle = LogThrottle::new();

/// The line that all answers from the store share.
pub(super) struct Upload {
    throttle: Option<Arc<Throttle>>,
    slots: UploadSlots,
    /// What is given to how many of those who can stream it from each other.
    pub(super) given: GivenNow,
    /// The memory for what is compressed.
    pub(super) compressors: Compressors,
}

impl Upload {
    /// With `limit` bytes a second, 0 for no limit.
    pub(super) fn new(limit: u64, limits: &Limits) -> Self {
        let (slots, given) = (UploadSlots::new(limits), GivenNow::default());
        Self { throttle: Throttle::new(limit), slots, given, compressors: Compressors::new() }
    }

    /// Waits for a slot for the answer to `request`.
    ///
    /// # Errors
    /// None came in time: what to say instead. A peer soon hears that we are busy. Nix would take that for trouble; it waits
    /// for long, and is sent to its next cache at last.
    pub(super) async fn slot(&self, request: &Request) -> Result<Slot, Response<Body>> {
        let (is_peer, caller) = (request.caller.node.is_some(), request.caller.address);
        if let Some(slot) = self.slots.try_take(caller.ip()) {
            return Ok(slot);
        }
        log::log!(SHORT.level(), peer:% = caller, path:% = request.route;
            "what is asked for has to wait: all upload slots are taken, or all that are for this address");
        let wait = if is_peer { PEER_WAIT } else { NIX_WAIT };
        let otherwise = || if is_peer { reply::busy() } else { reply::not_found() };
        self.slots.take(caller.ip(), wait).await.ok_or_else(otherwise)
    }

    /// A body that keeps to the upload limit and holds its slot, with its first bytes read: what fails before them is
    /// still a 404. For a HEAD, its length alone.
    pub(super) async fn body(&self, stream: ByteStream, slot: Slot, request: &Request) -> Result<Body, StoreError> {
        let length = stream.remaining();
        if request.head {
            return Ok(length.map_or_else(Body::empty, Body::announced));
        }
        let stream = InSlot { inner: stream, _slot: slot };
        match &self.throttle {
            Some(throttle) => Body::begun(length, Throttled::new(stream, Arc::clone(throttle))).await,
            None => Body::begun(length, stream).await,
        }
    }

    /// The same, compressed: how long that is nobody knows before its end.
    pub(super) async fn compressed_body(
        &self,
        stream: ByteStream,
        compressor: Compressor,
        slot: Slot,
    ) -> Result<Body, Box<dyn std::error::Error + Send + Sync>> {
        let stream = InSlot { inner: Compressed::new(stream, compressor), _slot: slot };
        match &self.throttle {
            Some(throttle) => Body::begun(None, Throttled::new(stream, Arc::clone(throttle))).await,
            None => Body::begun(None, stream).await,
        }
    }

    /// The same for what may be waited for: its head does not wait for its first bytes.
    pub(super) fn waiting_body<B>(&self, length: u64, stream: B, slot: Slot) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = InSlot { inner: stream, _slot: slot };
        match &self.throttle {
            Some(throttle) => Body::stream(Some(length), Throttled::new(stream, Arc::clone(throttle))),
            None => Body::stream(Some(length), stream),
        }
    }
}

/// A stream that gives its slot back when it is dropped.
struct InSlot<B> {
    inner: B,
    _slot: Slot,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for InSlot<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

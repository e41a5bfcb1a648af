//! What leaves this machine: in a slot, and within the upload limit.

use super::compressed::{Compressed, Compressor, Compressors};
use super::given::GivenNow;
use super::patch_work::PatchWork;
use super::throttle::{Paused, Reader, Throttle, Throttled};
use super::upload_slots::{NIX_WAIT, PEER_WAIT, Slot, UploadSlots};
use crate::http::protocol::body::Body;
use crate::http::protocol::reply;
use crate::http::server::limits::Limits;
use crate::http::server::listener::Request;
use crate::resilience::{LogThrottle, Rates};
use crate::store::{ByteStream, StoreError};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Times in which slots are short.
static SHORT: LogThrottle = LogThrottle::new();

/// The line that all answers from the store share.
pub(super) struct Upload {
    throttle: Arc<Throttle>,
    slots: UploadSlots,
    /// What is given to how many of those who can stream it from each other.
    pub(super) given: GivenNow,
    /// The memory for what is compressed.
    pub(super) compressors: Compressors,
    /// The places for patches.
    pub(super) patches: PatchWork,
}

impl Upload {
    /// With `limit` bytes a second for all readers together, 0 for no limit.
    pub(super) fn new(limit: u64, limits: &Limits) -> Self {
        let (slots, given) = (UploadSlots::new(limits), GivenNow::default());
        let throttle = Throttle::new(Rates { all: limit, each: 0 });
        Self { throttle, slots, given, compressors: Compressors::new(), patches: PatchWork::new() }
    }

    /// Keeps to these limits from now on, and sends nothing while it is `paused`: what is on its way is cut off, so that its readers go
    /// elsewhere at once.
    pub(super) fn set(&self, rates: Rates, paused: bool) {
        self.throttle.set(rates, paused);
    }

    /// How many answers are on their way, and how many wait for a slot.
    pub(super) fn load(&self) -> (usize, usize) {
        self.slots.load()
    }

    /// Whether nothing leaves at the moment.
    pub(super) fn is_paused(&self) -> bool {
        self.throttle.is_paused()
    }

    /// Waits for a slot for the answer to `request`.
    ///
    /// # Errors
    /// None came in time: what to say instead. A peer soon hears that we are busy. Nix would take that for trouble; it waits
    /// for long, and is sent to its next cache at last.
    pub(super) async fn slot(&self, request: &Request) -> Result<Slot, Response<Body>> {
        let (is_peer, caller) = (request.caller.node.is_some(), request.caller.address);
        let otherwise = || if is_peer { reply::busy() } else { reply::not_found() };
        if self.is_paused() {
            return Err(otherwise());
        }
        if let Some(slot) = self.slots.try_take(caller.ip()) {
            return Ok(slot);
        }
        log::log!(SHORT.level(), peer:% = caller, path:% = request.route;
            "what is asked for has to wait: all upload slots are taken, or all that are for this address");
        let wait = if is_peer { PEER_WAIT } else { NIX_WAIT };
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
        Body::begun(length, self.throttled(stream, request)).await
    }

    /// The same, compressed: how long that is nobody knows before its end. Its head leaves before the first bytes are compressed.
    pub(super) async fn compressed_body(
        &self,
        stream: ByteStream,
        compressor: Compressor,
        slot: Slot,
        request: &Request,
    ) -> Result<Body, StoreError> {
        let stream = Compressed::begun(stream, compressor).await?;
        Ok(self.waiting_body(None, stream, slot, request))
    }

    /// The same for what may be waited for: its head does not wait for its first bytes. The length is `None` where nobody knows it.
    pub(super) fn waiting_body<B>(&self, length: Option<u64>, stream: B, slot: Slot, request: &Request) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = InSlot { inner: stream.map_err(Into::into), _slot: slot };
        Body::stream(length, self.throttled(stream, request))
    }

    /// A part of a NAR that leaves over NATS, after its turn; `None`: nothing leaves at the moment.
    pub(super) async fn part(&self, bytes: Bytes) -> Option<Bytes> {
        let whole = Full::new(bytes).map_err(|never| match never {});
        let paced: Throttled<_> = Throttled::new(whole, Arc::clone(&self.throttle), Reader::Sites);
        paced.collect().await.map_err(|_: Paused| ()).ok().map(Collected::to_bytes)
    }

    fn throttled<B>(&self, stream: B, request: &Request) -> Throttled<B> {
        let address = request.caller.address.ip();
        let reader = request.caller.node.map_or(Reader::Address(address), Reader::Node);
        Throttled::new(stream, Arc::clone(&self.throttle), reader)
    }
}

impl From<Paused> for StoreError {
    fn from(_: Paused) -> Self {
        // As when the service stops: it is over, and nothing is wrong with the store.
        Self::Closed
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

//! `/nar/…` and `/HASH.ls`: the content of a path.

use super::{Found, Share};
use crate::http::metrics::count;
use crate::http::reply::{self, Ranged, keep, media};
use crate::http::routes::NarName;
use crate::http::throttle::Throttled;
use crate::http::turns::Turn;
use crate::http::{Body, Request};
use crate::nix::{Compression, StoreHash};
use crate::store::{Audience, ByteStream, StoreError};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl Share {
    /// `/nar/HASH-NARHASH.nar` in all its forms.
    pub(super) async fn nar(&self, name: &NarName, audience: Audience, request: &Request) -> Found {
        if name.compression != Compression::None {
            return Ok(None);
        }
        let Some(known) = self.known(name.hash, audience).await? else { return Ok(None) };
        // Another hash is another content, which is not here.
        if name.nar_hash.is_some() && name.nar_hash != known.nar.nar_hash {
            return Ok(None);
        }
        let length = known.path.info.nar_size;
        let ranged = Ranged { etag: &known.etag, media: media::NAR, keep: keep::FOREVER, length };
        let (response, part) = match ranged.begin(&request.headers, request.head) {
            reply::Send::Head(response) => return Ok(Some(response)),
            reply::Send::Bytes(response, part) => (response, part),
        };
        let Some(turn) = self.turns.take(request.caller.address.ip()).await else {
            log::debug!(path:% = known.path.info.path, peer:% = request.caller.address; "no turn came in time");
            return Ok(None);
        };
        let layout = self.store.layout(&known.path).await?;
        let stream = self.store.nar(&layout, part).await?;
        let body = self.body(stream, turn, request).await?;
        count(&self.nars_begun);
        Ok(Some(response.map(|_| body)))
    }

    /// A body that keeps to the upload limit and holds its turn, with its first bytes read: what fails before them is
    /// still a 404. For a HEAD, its length alone.
    pub(super) async fn body(&self, stream: ByteStream, turn: Turn, request: &Request) -> Result<Body, StoreError> {
        let length = stream.remaining();
        if request.head {
            return Ok(length.map_or_else(Body::empty, Body::announced));
        }
        let stream = InTurn { inner: stream, _turn: turn };
        match &self.throttle {
            Some(throttle) => Body::begun(length, Throttled::new(stream, Arc::clone(throttle))).await,
            None => Body::begun(length, stream).await,
        }
    }

    /// `/HASH.ls`: the listing, with the place of each file in the NAR.
    pub(super) async fn listing(&self, hash: StoreHash, audience: Audience, request: &Request) -> Found {
        let Some(known) = self.known(hash, audience).await? else { return Ok(None) };
        let Some(turn) = self.turns.take(request.caller.address.ip()).await else { return Ok(None) };
        let layout = self.store.layout(&known.path).await?;
        let stream = self.store.listing(&layout).await?;
        let body = self.body(stream, turn, request).await?;
        Ok(Some(reply::ok(media::JSON, keep::SHORT, body)))
    }
}

/// A stream that ends its turn when it is dropped.
struct InTurn {
    inner: ByteStream,
    _turn: Turn,
}

impl HttpBody for InTurn {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

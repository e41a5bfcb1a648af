//! `/peernix/v1/patch/…`: what a NAR differs in from one that whoever asks has.

use super::core::{Answer, Share};
use super::patch_work::PATCHES;
use crate::fetch::patch::frames::{FRAME, MEMORY, Shape, pack};
use crate::fetch::patch::message::{BASE_HEADER, BaseName, parse_request};
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::http::server::listener::Request;
use crate::metrics::Metrics;
use crate::nix::Compression;
use crate::store::{Audience, Store, StoreError, ValidPath};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::HeaderValue;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

/// How many frames wait to be sent.
const AHEAD: usize = 2;

// What all of them have in memory together, in bytes.
const _: () = assert!((MEMORY + AHEAD as u64 * FRAME) * PATCHES as u64 <= 64 * 1024 * 1024);

impl Share {
    /// The patch of a NAR on the first base that is here as well, if both are offered to `audience`.
    pub(super) async fn patch(
        self: &Arc<Self>,
        name: &NarName,
        audience: Audience,
        request: &Request,
        metrics: &Metrics,
    ) -> Answer {
        let Ok((from, bases)) = parse_request(&request.body) else { return Ok(Some(reply::bad_request())) };
        let Some(nar) = self.offered(name, audience).await? else { return Ok(None) };
        let size = nar.info.nar_size;
        if from >= size {
            return Ok(Some(reply::bad_request()));
        }
        let Some((base, shape, named)) = self.base(size, &bases, audience).await? else { return Ok(None) };
        let Ok(stream) = Arc::clone(&self.upload.patches.streams).try_acquire_owned() else {
            return Ok(Some(reply::busy()));
        };
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let (frames, receiver) = mpsc::channel(AHEAD);
        let (store, makers) = (self.store.clone(), Arc::clone(&self.upload.patches.makers));
        let task = tokio::spawn(Maker { store, nar, base, shape, makers, frames }.run(from));
        let body = Frames { receiver, _task: AbortOnDropHandle::new(task), _stream: stream };
        metrics.patches_made.add(1);
        let body = self.upload.waiting_body(None, body, slot, request);
        let mut response = reply::ok(media::BYTES, keep::NEVER, body);
        if let Ok(base) = HeaderValue::try_from(named.to_string()) {
            response.headers_mut().insert(BASE_HEADER, base);
        }
        Ok(Some(response))
    }

    /// The path with this NAR, if it is offered.
    async fn offered(
        self: &Arc<Self>,
        name: &NarName,
        audience: Audience,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let known = self.known(name.hash, audience).await?;
        let is_meant = |nar: &NarName| name.nar_hash.is_some() && nar.nar_hash == name.nar_hash;
        Ok(known.filter(|known| is_meant(&known.nar)).map(|known| Arc::clone(&known.path)))
    }

    /// The first of the bases that is offered to whoever names it. Of others it is not said whether they are here.
    async fn base(
        self: &Arc<Self>,
        size: u64,
        bases: &[BaseName],
        audience: Audience,
    ) -> Result<Option<(Arc<ValidPath>, Shape, BaseName)>, StoreError> {
        for named in bases {
            let (hash, nar_hash, compression) = (named.hash, Some(named.nar_hash), Compression::None);
            let name = NarName { hash, nar_hash, compression };
            if let Some(base) = self.offered(&name, audience).await?
                && let Some(shape) = Shape::new(size, base.info.nar_size)
            {
                return Ok(Some((base, shape, *named)));
            }
        }
        Ok(None)
    }
}

/// Makes a patch, frame by frame, as fast as they are taken.
struct Maker {
    store: Store,
    nar: Arc<ValidPath>,
    base: Arc<ValidPath>,
    shape: Shape,
    makers: Arc<Semaphore>,
    frames: mpsc::Sender<Result<Bytes, StoreError>>,
}

impl Maker {
    async fn run(self, from: u64) {
        for range in self.shape.frames_from(from) {
            let frame = self.frame(range).await;
            let is_over = frame.is_err();
            if self.frames.send(frame).await.is_err() || is_over {
                return;
            }
        }
    }

    async fn frame(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let slice = self.shape.slice(&range);
        let from = slice.start;
        let (frame, slice) = (self.store.read(&self.nar, range).await?, self.store.read(&self.base, slice).await?);
        let _turn = self.makers.acquire().await.map_err(|_| StoreError::Closed)?;
        // Whatever is wrong with zstd, nothing is wrong with the store.
        let packed = spawn_blocking(move || pack(&frame, &slice, from)).await;
        packed.map_err(|_| StoreError::Closed)?.map_err(|_| StoreError::Closed)
    }
}

/// The frames of a patch, as a body.
struct Frames {
    receiver: mpsc::Receiver<Result<Bytes, StoreError>>,
    _task: AbortOnDropHandle<()>,
    _stream: OwnedSemaphorePermit,
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        self.receiver.poll_recv(context).map(|frame| frame.map(|frame| frame.map(Frame::data)))
    }
}

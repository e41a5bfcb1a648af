//! A NAR that somebody has: found once, and then read from any offset.

use super::error::TransferError;
use super::resolve::resolution::Resolution;
use super::resolve::resolver::Resolver;
use super::transfer::fanout::{Progress, Reader};
use super::transfer::registry::Registry;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A NAR that somebody has.
pub struct Nar {
    pub(crate) registry: Registry,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) resolution: Arc<Resolution>,
}

impl Nar {
    /// How long it is, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.resolution.info.nar_size
    }

    /// Its bytes from byte `from` on; `None` if no source could even begin. Small NARs are verified before the first byte comes out
    /// of this, large ones before the last.
    pub async fn read(&self, from: u64) -> Option<NarBody> {
        let reader = self.registry.reader(&self.resolution, from).await?;
        let mut progress = reader.progress();
        // The sender is in the reader, which is alive.
        let state = progress.wait_for(|progress| *progress != Progress::Pending).await.ok()?.clone();
        match state {
            Progress::Failed(error) => {
                let path = &self.resolution.info.path;
                log::debug!(path:% = path, reason:% = error; "no NAR: {error}");
                self.resolver.forget(path.hash()).await;
                None
            }
            Progress::Pending | Progress::Flowing => Some(NarBody(reader)),
        }
    }
}

/// The bytes of a NAR; an error ends the connection, so that nobody takes a part for the whole.
pub struct NarBody(Reader);

impl Body for NarBody {
    type Data = Bytes;
    type Error = TransferError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

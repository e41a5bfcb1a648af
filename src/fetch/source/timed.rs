//! What comes from a peer as it is, by which the line to it is measured.

use super::ByteFlow;
use super::direct::Direct;
use crate::fetch::error::SourceError;
use crate::peers::Peer;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// A measure that is to be taken. However this ends, the next one may take one.
pub(super) struct Measures(Arc<Peer>);

impl Measures {
    pub(super) fn new(peer: &Arc<Peer>) -> Self {
        Self(Arc::clone(peer))
    }
}

impl Drop for Measures {
    fn drop(&mut self) {
        self.0.not_measured();
    }
}

/// A body as it is, by which the line is measured.
pub(super) struct Timed {
    inner: Direct,
    /// How many bytes are to come.
    length: u64,
    peer: Arc<Peer>,
    begun: Instant,
    /// What the peer had given by then to all transfers.
    given: u64,
    measures: Option<Measures>,
}

impl Timed {
    pub(super) fn begin(inner: Direct, length: u64, peer: Arc<Peer>, measures: Option<Measures>) -> Self {
        let given = peer.given();
        Self { inner, length, peer, begun: Instant::now(), given, measures }
    }
}

impl ByteFlow for Timed {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = ready!(self.inner.poll_chunk(context));
        if self.length > 0 && self.inner.received() >= self.length {
            self.length = 0;
            // Of what others got meanwhile a part is noted later, and so is this last chunk.
            let bytes = self.inner.received().max(self.peer.given().saturating_sub(self.given));
            self.peer.measured(bytes, self.begun.elapsed());
            self.measures = None;
        }
        Poll::Ready(chunk)
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }
}

/// Bytes of which the first came as they are.
pub(super) struct Tried {
    first: Timed,
    /// What came of the others.
    received: u64,
    rest: Rest,
}

/// The others on their way.
type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn ByteFlow>, SourceError>> + Send>>;

enum Rest {
    Opening(Opening),
    Open(Box<dyn ByteFlow>),
}

impl Tried {
    pub(super) fn new(first: Timed, rest: Opening) -> Self {
        Self { first, received: 0, rest: Rest::Opening(rest) }
    }
}

impl ByteFlow for Tried {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        if self.first.length > 0 {
            let chunk = ready!(self.first.poll_chunk(context));
            // One that ended early is an error, which ends it all.
            return Poll::Ready(chunk);
        }
        loop {
            match &mut self.rest {
                Rest::Opening(opening) => self.rest = Rest::Open(ready!(opening.as_mut().poll(context))?),
                Rest::Open(flow) => {
                    let chunk = ready!(flow.poll_chunk(context));
                    self.received = flow.received();
                    return Poll::Ready(chunk);
                }
            }
        }
    }

    fn received(&self) -> u64 {
        self.first.received() + self.received
    }
}

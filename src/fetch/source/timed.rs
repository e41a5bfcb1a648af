//! What comes from a peer as it is, by which the line to it is measured.

use super::ByteFlow;
use super::direct::Direct;
use crate::fetch::error::SourceError;
use crate::peers::Peer;
use crate::peers::compression::{MEASURED_MIN, TRIED};
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
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

/// A body as it is, by whose first bytes the line is measured. Only the time counts in which they are waited for: whoever takes them may be slower.
pub(super) struct Timed {
    inner: Direct,
    /// How many bytes are to come.
    length: u64,
    peer: Arc<Peer>,
    /// Since when they are waited for, and for how long they were.
    since: Option<Instant>,
    waited: Duration,
    /// What the peer had given by then to all transfers.
    given: u64,
    /// It is measured.
    is_done: bool,
    measures: Option<Measures>,
}

impl Timed {
    pub(super) fn begin(inner: Direct, length: u64, peer: Arc<Peer>, measures: Option<Measures>) -> Self {
        let (given, since) = (peer.given(), Some(Instant::now()));
        Self { inner, length, peer, since, waited: Duration::ZERO, given, is_done: false, measures }
    }

    /// Whether all of it came.
    fn is_over(&self) -> bool {
        self.inner.received() >= self.length
    }
}

impl ByteFlow for Timed {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = self.inner.poll_chunk(context);
        if self.is_done {
            return chunk;
        }
        if chunk.is_pending() {
            self.since.get_or_insert_with(Instant::now);
            return chunk;
        }
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        let came = self.inner.received();
        if came >= self.length.min(TRIED) {
            self.is_done = true;
            // What is short fits into buffers on the way, whatever others got meanwhile.
            if came >= MEASURED_MIN {
                let bytes = came.max(self.peer.given().saturating_sub(self.given));
                self.peer.measured(bytes, self.waited);
            }
            self.measures = None;
        }
        chunk
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }
}

/// Bytes of which the first came as they are.
pub(super) struct Tried {
    first: Timed,
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
        Self { first, rest: Rest::Opening(rest) }
    }
}

impl ByteFlow for Tried {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        if !self.first.is_over() {
            // One that ends early is an error, which ends it all.
            return self.first.poll_chunk(context);
        }
        loop {
            match &mut self.rest {
                Rest::Opening(opening) => self.rest = Rest::Open(ready!(opening.as_mut().poll(context))?),
                Rest::Open(flow) => return flow.poll_chunk(context),
            }
        }
    }

    fn received(&self) -> u64 {
        let rest = if let Rest::Open(flow) = &self.rest { flow.received() } else { 0 };
        self.first.received() + rest
    }
}

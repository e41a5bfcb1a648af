//! What comes from a peer as it is, by which the line to it is measured.

use super::ByteFlow;
use super::direct::Direct;
use crate::fetch::error::SourceError;
use crate::peers::Peer;
use crate::peers::compression::{SKIPPED, tried};
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

/// A body as it is, by whose first bytes the line is measured, but for the very first ([`SKIPPED`]); with what comes to others meanwhile. Where whoever takes
/// them is slower than the line, it seems as slow as that.
pub(super) struct Timed {
    inner: Direct,
    /// How many bytes are to come.
    length: u64,
    peer: Arc<Peer>,
    /// When the measure began, and what all transfers had got of the peer by then.
    from: Option<(Instant, u64)>,
    /// It is measured.
    is_done: bool,
    measures: Option<Measures>,
}

impl Timed {
    pub(super) fn begin(inner: Direct, length: u64, peer: Arc<Peer>, measures: Option<Measures>) -> Self {
        Self { inner, length, peer, from: None, is_done: false, measures }
    }

    /// Whether all of it came.
    fn is_over(&self) -> bool {
        self.inner.received() >= self.length
    }
}

impl ByteFlow for Timed {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = self.inner.poll_chunk(context);
        if let Poll::Ready(Some(Ok(bytes))) = &chunk {
            self.peer.line_carried(bytes.len() as u64);
        }
        if self.is_done {
            return chunk;
        }
        let came = self.inner.received();
        match self.from {
            None if came >= SKIPPED => {
                self.from = Some((Instant::now(), self.peer.carried()));
            }
            Some((begun, from)) if came >= tried(self.length) => {
                self.peer.measured(self.peer.carried().saturating_sub(from), begun.elapsed());
            }
            _ => {}
        }
        if came >= tried(self.length) {
            self.is_done = true;
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

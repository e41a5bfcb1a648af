//! What comes from a peer as it is, by which the line to it is measured.

use super::ByteFlow;
use super::direct::Direct;
use crate::fetch::error::SourceError;
use crate::peers::Peer;
use crate::peers::compression::tried;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// So much of a body is asked for anew, in bytes, once it is known that it should have been compressed.
const WORTH_LEAVING: u64 = 512 * 1024;

/// A measure that is to be taken. However this ends, the next one may take one.
pub(super) struct Measures(Arc<Peer>);

impl Measures {
    pub(super) fn new(peer: &Arc<Peer>) -> Self {
        Self(Arc::clone(peer))
    }
}

impl Drop for Measures {
    fn drop(&mut self) {
        self.0.line_not_tried();
    }
}

/// A body as it is, during whose first bytes the line is measured. Where whoever takes them is slower than the line, it seems as slow as that.
pub(super) struct Timed {
    inner: Direct,
    /// How many bytes are to come.
    length: u64,
    peer: Arc<Peer>,
    measures: Option<Measures>,
}

impl Timed {
    pub(super) const fn begin(inner: Direct, length: u64, peer: Arc<Peer>, measures: Option<Measures>) -> Self {
        Self { inner, length, peer, measures }
    }

    /// Whether all of it came, or so little that the rest is better asked for anew, compressed: what is on its way by then is lost, and the connection.
    fn is_enough(&self) -> bool {
        let left = self.length.saturating_sub(self.inner.received());
        left == 0 || (left >= WORTH_LEAVING && self.inner.received() > 0 && self.peer.line_is_very_slow())
    }
}

impl ByteFlow for Timed {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = self.inner.poll_chunk(context);
        if let Poll::Ready(Some(Ok(bytes))) = &chunk {
            self.peer.line_carried(bytes.len() as u64);
        }
        if self.measures.is_some() && self.inner.received() >= tried(self.length) {
            self.peer.line_tried();
            self.measures = None;
        }
        chunk
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }
}

/// Bytes of which the first come as they are, and the others as the line is worth it then: as many as measure it, or fewer where it turns out meanwhile
/// to be very slow.
pub(super) struct Tried {
    first: Option<Timed>,
    /// How many of them came.
    came: u64,
    /// How many bytes are wanted in all.
    length: u64,
    rest: Rest,
}

/// The others on their way.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn ByteFlow>, SourceError>> + Send>>;

enum Rest {
    /// They are asked for from that one on.
    NotYet(Box<dyn Fn(u64) -> Opening + Send>),
    Opening(Opening),
    Open(Box<dyn ByteFlow>),
}

impl Tried {
    /// `rest`: how the others are asked for, after so many.
    pub(super) fn new(first: Timed, length: u64, rest: impl Fn(u64) -> Opening + Send + 'static) -> Self {
        Self { first: Some(first), came: 0, length, rest: Rest::NotYet(Box::new(rest)) }
    }
}

impl ByteFlow for Tried {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        // One that ends early is an error, which ends it all.
        if let Some(first) = self.first.as_mut().filter(|first| !first.is_enough()) {
            let chunk = first.poll_chunk(context);
            self.came = first.received();
            return chunk;
        }
        self.first = None;
        if self.came >= self.length {
            return Poll::Ready(None);
        }
        loop {
            match &mut self.rest {
                Rest::NotYet(open) => self.rest = Rest::Opening(open(self.came)),
                Rest::Opening(opening) => self.rest = Rest::Open(ready!(opening.as_mut().poll(context))?),
                Rest::Open(flow) => return flow.poll_chunk(context),
            }
        }
    }

    fn received(&self) -> u64 {
        let rest = if let Rest::Open(flow) = &self.rest { flow.received() } else { 0 };
        self.came + rest
    }
}

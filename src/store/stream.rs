//! Bytes of the store on their way out, read ahead on blocking threads within bounds.
//!
//! A stream is polled by the connection that it goes out on. Whenever it has at most one block left it sends its source to a
//! blocking thread for the next ones, so that reading and sending overlap and no thread ever waits for a slow reader. The
//! blocks of all streams together come out of one budget; without it a stream goes on with small blocks, one at a time.

use super::StoreError;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// The size of a block, in bytes: 256 KiB, where `read` and hyper do best (measured).
const BLOCK: usize = 256 * 1024;
/// The size of a stream's first block, for an early first byte, and of every block when the budget is used up: 64 KiB.
const SMALL_BLOCK: usize = 64 * 1024;
/// How many blocks are read in one go.
const BATCH: usize = 2;
/// How many blocks there may be at once in all streams: 32 MiB.
const BLOCKS_MAX: usize = 128;
/// How many unused ones are kept for the next stream: 4 MiB.
const SPARE_BLOCKS: usize = 16;

/// Where the bytes of a stream come from. Runs on blocking threads.
pub(super) trait Source: Send + 'static {
    /// Puts the next bytes into `block`: as many as fit, less only at the end, none after it.
    ///
    /// Returns early, with anything, once `cancelled` is set.
    fn fill(&mut self, block: &mut Block, cancelled: &AtomicBool) -> Result<(), StoreError>;
}

/// The memory that all streams of a store share.
#[derive(Debug)]
pub(super) struct Blocks {
    budget: Arc<Semaphore>,
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self { budget: Arc::new(Semaphore::new(BLOCKS_MAX)), spare: Mutex::new(Vec::new()) }
    }

    /// How many blocks of the full size are in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        BLOCKS_MAX - self.budget.available_permits()
    }

    /// Gives up the blocks that nobody uses, and says how many bytes that is.
    pub(super) fn drop_spare(&self) -> u64 {
        let spare = std::mem::take(&mut *self.spare.lock());
        (spare.len() * BLOCK) as u64
    }

    /// A block of the full size, while the budget lasts.
    fn full(self: &Arc<Self>) -> Option<Block> {
        let permit = Arc::clone(&self.budget).try_acquire_owned().ok()?;
        let spare = self.spare.lock().pop();
        let buffer = spare.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Some(Block { buffer, filled: 0, home: Some((Arc::clone(self), permit)) })
    }
}

/// A buffer that goes back to where it came from when its last reader drops it.
pub(super) struct Block {
    /// Always initialised, to its full length.
    buffer: Box<[u8]>,
    filled: usize,
    /// Of blocks of the full size only.
    home: Option<(Arc<Blocks>, OwnedSemaphorePermit)>,
}

impl Block {
    /// A block of its own, of `size` bytes.
    pub(super) fn own(size: usize) -> Self {
        Self { buffer: vec![0; size].into_boxed_slice(), filled: 0, home: None }
    }

    /// How much room is left.
    pub(super) fn room(&self) -> usize {
        self.buffer.len() - self.filled
    }

    /// The part that is not filled.
    pub(super) fn unfilled(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes the first `count` bytes of [`Self::unfilled`] as filled.
    pub(super) fn advance(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    /// Copies as much of `bytes` as there is room for, and says how much that was.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.unfilled()[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some((home, _permit)) = self.home.take() {
            let mut spare = home.spare.lock();
            if spare.len() < SPARE_BLOCKS {
                spare.push(std::mem::take(&mut self.buffer));
            }
        }
    }
}

/// Bytes of the store as a body: a NAR or a part of one, a listing, a build log.
///
/// Nothing is read before it is polled, and dropping it stops the reading. An error ends it: the connection has to be
/// cut then, because the length has been announced.
pub struct ByteStream {
    /// What is left to hand out, where that is known.
    remaining: Option<u64>,
    /// What is left to read, where that is known.
    unread: Option<u64>,
    ready: VecDeque<Bytes>,
    state: State,
    is_first: bool,
    blocks: Arc<Blocks>,
    cancelled: Arc<AtomicBool>,
}

enum State {
    Idle(Box<dyn Source>),
    Reading(JoinHandle<Batch>),
    /// Nothing follows what is ready, but for the error if there was one.
    Done(Option<StoreError>),
}

/// What a blocking thread brings back.
struct Batch {
    source: Box<dyn Source>,
    blocks: Vec<Bytes>,
    /// Set when nothing follows.
    end: Option<Result<(), StoreError>>,
}

impl ByteStream {
    /// The bytes of `source`, which has `length` of them.
    pub(super) fn new(source: impl Source, length: Option<u64>, blocks: Arc<Blocks>) -> Self {
        Self {
            remaining: length,
            unread: length,
            ready: VecDeque::new(),
            state: State::Idle(Box::new(source)),
            is_first: true,
            blocks,
            cancelled: Arc::default(),
        }
    }

    /// How many bytes are still to come, where that is known (for NARs always).
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// Sends the source to a blocking thread for the next blocks.
    fn read_ahead(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done(None));
        let State::Idle(source) = state else {
            self.state = state;
            return;
        };
        if self.unread == Some(0) {
            return;
        }
        let (unread, is_first) = (self.unread, std::mem::take(&mut self.is_first));
        let (blocks, cancelled) = (Arc::clone(&self.blocks), Arc::clone(&self.cancelled));
        let read = move || read(source, unread, is_first, &blocks, &cancelled);
        self.state = State::Reading(tokio::task::spawn_blocking(read));
    }

    /// Lets the source go on if there is need, and takes in what it has read.
    fn take_in(&mut self, context: &mut Context<'_>) {
        if self.ready.len() <= 1 {
            self.read_ahead();
        }
        let State::Reading(job) = &mut self.state else { return };
        let Poll::Ready(batch) = Pin::new(job).poll(context) else { return };
        // The thread is gone without an answer only when the runtime is shut down.
        self.state = batch.map_or(State::Done(Some(StoreError::Closed)), |batch| {
            let count: usize = batch.blocks.iter().map(Bytes::len).sum();
            self.unread = self.unread.map(|unread| unread.saturating_sub(count as u64));
            self.ready.extend(batch.blocks);
            match batch.end {
                None => State::Idle(batch.source),
                Some(end) => State::Done(end.err()),
            }
        });
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>> {
        self.take_in(context);
        if let Some(bytes) = self.ready.pop_front() {
            self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(bytes.len() as u64));
            // With this one on its way out, the next should be on its way in.
            if self.ready.len() <= 1 {
                self.read_ahead();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match &mut self.state {
            State::Done(error) => Poll::Ready(error.take().map(Err)),
            _ => Poll::Pending,
        }
    }
}

/// Reads a batch of blocks.
fn read(
    mut source: Box<dyn Source>,
    mut unread: Option<u64>,
    is_first: bool,
    blocks: &Arc<Blocks>,
    cancelled: &AtomicBool,
) -> Batch {
    let mut done = Vec::with_capacity(BATCH);
    let mut end = None;
    for _ in 0..if is_first { 1 } else { BATCH } {
        // No block is larger than what is left: small NARs are many.
        let wanted = unread.and_then(|unread| usize::try_from(unread).ok()).unwrap_or(BLOCK).min(BLOCK);
        let full = if is_first || wanted <= SMALL_BLOCK { None } else { blocks.full() };
        let is_small = full.is_none();
        if is_small && !done.is_empty() && wanted > SMALL_BLOCK {
            // The budget is used up: no reading ahead.
            break;
        }
        let mut block = full.unwrap_or_else(|| Block::own(wanted.min(SMALL_BLOCK)));
        if cancelled.load(Ordering::Relaxed) {
            end = Some(Ok(()));
            break;
        }
        if let Err(error) = source.fill(&mut block, cancelled) {
            end = Some(Err(error));
            break;
        }
        let is_whole = block.room() == 0;
        unread = unread.map(|unread| unread.saturating_sub(block.filled as u64));
        if block.filled > 0 {
            done.push(Bytes::from_owner(block));
        }
        if !is_whole || unread == Some(0) {
            end = Some(Ok(()));
            break;
        }
        if is_small {
            break;
        }
    }
    Batch { source, blocks: done, end }
}

impl Body for ByteStream {
    type Data = Bytes;
    type Error = StoreError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StoreError>>> {
        let bytes = ready!(self.poll_bytes(context));
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

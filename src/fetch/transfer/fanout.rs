//! One stream of bytes from one writer to any number of readers, with memory for a window of it only.
//!
//! The writer is a transfer, the readers are requests for the same NAR. Readers see what has been *released*: a transfer
//! may write ahead of what it has verified. A reader that joins late finds the stream open to it as long as the bytes it
//! needs are still in the window.

use super::memory::Reserved;
use crate::fetch::error::TransferError;
use crate::fetch::source::SourceName;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long the slowest of several readers may hold up the others before it is cut off.
const LAG: Duration = Duration::from_secs(5);
/// Chunks smaller than this are copied, in bytes: a chunk keeps alive the whole buffer that it was received in, so that a
/// source that sends byte by byte would cost thousands of times what it sends.
const SMALL: usize = 4 * 1024;
/// Small chunks are gathered up to this many bytes.
const GATHERED: usize = 16 * 1024;
/// How long a transfer goes on with nobody reading: Nix comes back with a Range request after a broken connection.
const ORPHANED: Duration = Duration::from_secs(5);

/// Where a transfer stands, for those who wait before they answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No source has delivered yet.
    Pending,
    /// There is something to read.
    Flowing,
    /// It ended before there was anything to read.
    Failed(TransferError),
}

/// The stream. Shared by its writer and its readers.
pub(crate) struct Fanout {
    /// The length of the whole in bytes.
    size: u64,
    /// How many bytes may wait for the slowest reader.
    window: u64,
    state: Mutex<State>,
    /// Readers advanced, came or went.
    room: Notify,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct State {
    /// The offset of the first byte of `chunks`.
    base: u64,
    chunks: VecDeque<Bytes>,
    /// The offset behind the last byte of `chunks`.
    end: u64,
    /// Readers may read up to here.
    released: u64,
    outcome: Option<Result<(), TransferError>>,
    readers: HashMap<u64, Slot>,
    next_reader: u64,
    /// Who sent the last bytes.
    source: Option<SourceName>,
    /// What the chunks take of the memory for all transfers. Once all bytes are there, it is given back as they are read: a slow reader
    /// keeps others waiting only for what it has not read.
    memory: Option<Reserved>,
}

/// What the stream knows of a reader.
struct Slot {
    position: u64,
    waker: Option<Waker>,
}

impl State {
    /// Drops what every reader has read; with `keep` nothing is dropped.
    fn trim(&mut self, keep: bool) {
        if keep {
            return;
        }
        let Some(slowest) = self.readers.values().map(|slot| slot.position).min() else { return };
        while let Some(chunk) = self.chunks.front() {
            let end = self.base + chunk.len() as u64;
            if end > slowest {
                break;
            }
            self.base = end;
            self.chunks.pop_front();
        }
    }

    /// Gives back the memory of what every reader has read. Only at the end: before that, more will come.
    fn give_back(&mut self) {
        let kept = self.end.saturating_sub(self.base);
        if let Some(memory) = &mut self.memory {
            memory.shrink(kept);
        }
    }

    /// Puts a chunk at the end.
    fn append(&mut self, chunk: Bytes) {
        self.end += chunk.len() as u64;
        if chunk.len() >= SMALL {
            self.chunks.push_back(chunk);
            return;
        }
        match self.chunks.back_mut() {
            Some(last) if last.len() + chunk.len() <= GATHERED => {
                *last = [last.as_ref(), chunk.as_ref()].concat().into();
            }
            _ => self.chunks.push_back(Bytes::copy_from_slice(&chunk)),
        }
    }

    fn wake_all(&mut self) {
        for slot in self.readers.values_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Fanout {
    /// A stream of `size` bytes of which `window` are kept at most. A window as large as the size keeps everything.
    pub(crate) fn new(size: u64, window: u64, memory: Option<Reserved>) -> Arc<Self> {
        Arc::new(Self {
            size,
            window,
            state: Mutex::new(State { memory, ..State::default() }),
            room: Notify::new(),
            progress: watch::Sender::new(Progress::Pending),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether everything stays until the end, so that nothing need be released before it is verified.
    pub(crate) fn keeps_all(&self) -> bool {
        self.window >= self.size
    }

    /// How long the whole is, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Where it stands; changes are told.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// A reader from `offset` on, or `None` if those bytes are gone.
    pub(crate) fn reader(self: &Arc<Self>, offset: u64) -> Option<FanoutBody> {
        let mut state = self.state();
        if offset < state.base {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Slot { position: offset, waker: None });
        drop(state);
        self.room.notify_one();
        Some(FanoutBody { stream: Arc::clone(self), id, position: offset })
    }

    /// Appends a chunk, waiting for room. Nobody can read it before it is released.
    ///
    /// # Errors
    /// Nobody has read for [`ORPHANED`].
    pub(crate) async fn write(&self, chunk: Bytes) -> Result<(), TransferError> {
        if !chunk.is_empty() {
            self.make_room().await?;
            self.state().append(chunk);
        }
        Ok(())
    }

    /// From now on the bytes come from there.
    pub(crate) fn comes_from(&self, source: &SourceName) {
        self.state().source = Some(source.clone());
    }

    /// Lets readers read what was written up to byte `end`.
    pub(crate) fn release(&self, end: u64) {
        let mut state = self.state();
        let released = state.end.min(end);
        if released > state.released {
            state.released = released;
            state.wake_all();
            drop(state);
            self.progress.send_if_modified(|progress| {
                let first = *progress == Progress::Pending;
                if first {
                    *progress = Progress::Flowing;
                }
                first
            });
        }
    }

    /// Waits until the slowest reader is within the window, cutting it off if it alone stops all others.
    async fn make_room(&self) -> Result<(), TransferError> {
        let mut blocked = Instant::now();
        loop {
            let advanced = self.room.notified();
            let (limit, alone) = {
                let mut state = self.state();
                state.trim(self.keeps_all());
                let slowest = state.readers.values().map(|slot| slot.position).min();
                match slowest {
                    // With everything kept, or before anything can be read, nobody is in the way.
                    _ if self.keeps_all() && !state.readers.is_empty() => return Ok(()),
                    Some(position) if state.end.saturating_sub(position) < self.window => return Ok(()),
                    Some(_) if state.readers.len() == 1 => (None, false),
                    Some(_) => (Some(LAG), false),
                    None => (Some(ORPHANED), true),
                }
            };
            match limit {
                None => advanced.await,
                Some(limit) => {
                    // From when the writer was stopped, not from the last sign of life: one chunk now and then is not enough.
                    if tokio::time::timeout_at(blocked + limit, advanced).await.is_err() {
                        if alone {
                            return Err(TransferError::Abandoned);
                        }
                        self.evict_slowest();
                        blocked = Instant::now();
                    }
                }
            }
        }
    }

    fn evict_slowest(&self) {
        let mut state = self.state();
        let slowest = state.readers.iter().min_by_key(|(_, slot)| slot.position).map(|(id, _)| *id);
        if let Some(waker) = slowest.and_then(|id| state.readers.remove(&id)).and_then(|slot| slot.waker) {
            waker.wake();
        }
    }

    /// Takes back all that was written. Only a stream of which nothing was released can start again.
    pub(crate) fn restart(&self) -> Vec<Bytes> {
        let mut state = self.state();
        debug_assert_eq!(state.released, state.base, "released bytes cannot be taken back");
        state.end = state.base;
        std::mem::take(&mut state.chunks).into()
    }

    /// What is kept, from the first byte kept on.
    pub(crate) fn kept(&self) -> Vec<Bytes> {
        self.state().chunks.iter().cloned().collect()
    }

    /// Ends it: releases everything, or tells readers what happened once they have read what was released.
    pub(crate) fn finish(&self, outcome: Result<(), TransferError>) {
        if outcome.is_ok() {
            self.release(u64::MAX);
        }
        self.progress.send_if_modified(|progress| match (&outcome, &progress) {
            (Err(error), Progress::Pending) => {
                *progress = Progress::Failed(error.clone());
                true
            }
            // An empty body: nothing was ever released, and that is all there is.
            (Ok(()), Progress::Pending) => {
                *progress = Progress::Flowing;
                true
            }
            _ => false,
        });
        let mut state = self.state();
        state.outcome = Some(outcome);
        state.wake_all();
    }
}

/// The bytes of a NAR for one reader; an error ends the connection, so that nobody takes a part for the whole.
pub(crate) struct FanoutBody {
    stream: Arc<Fanout>,
    id: u64,
    position: u64,
}

impl FanoutBody {
    /// The length of the whole NAR, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stream.size()
    }

    /// Where the stream stands; changes are told.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.stream.progress()
    }

    /// Whether all of it stays in memory until it is read.
    pub(crate) fn keeps_all(&self) -> bool {
        self.stream.keeps_all()
    }

    /// Who sends, or sent the last bytes; `None` before the first.
    pub(crate) fn source(&self) -> Option<SourceName> {
        self.stream.state().source.clone()
    }
}

impl Body for FanoutBody {
    type Data = Bytes;
    type Error = TransferError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        let this = &mut *self;
        let mut state = this.stream.state();
        if !state.readers.contains_key(&this.id) {
            // Cut off: the bytes went on without it.
            return Poll::Ready(Some(Err(TransferError::Lagging)));
        }
        if this.position < state.released {
            // The reader's slot keeps everything from its position on in `chunks`.
            let mut offset = state.base;
            for chunk in &state.chunks {
                let end = offset + chunk.len() as u64;
                if this.position < end {
                    let length = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
                    let from = length(offset, this.position);
                    let to = length(offset, end.min(state.released));
                    let piece = chunk.slice(from..to);
                    this.position += piece.len() as u64;
                    if let Some(slot) = state.readers.get_mut(&this.id) {
                        slot.position = this.position;
                    }
                    if state.outcome.is_some() {
                        // No writer is left to do it, and nobody joins any more.
                        state.trim(false);
                        state.give_back();
                    }
                    drop(state);
                    this.stream.room.notify_one();
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                offset = end;
            }
        }
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone().err().map(Err));
        }
        if let Some(slot) = state.readers.get_mut(&this.id) {
            slot.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.stream.size.saturating_sub(self.position))
    }
}

impl Drop for FanoutBody {
    fn drop(&mut self) {
        self.stream.state().readers.remove(&self.id);
        self.stream.room.notify_one();
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;

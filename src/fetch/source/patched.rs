//! A peer that has another version of the package as well as the NAR, as does this machine: it sends what differs.

use super::{Abilities, ByteFlow, NarId, PatchBody, Remote, Source, SourceId, Standing};
use crate::fetch::error::SourceError;
use crate::fetch::patch::bases::{Base, Bases};
use crate::fetch::patch::frames::{Frames, Packed, unpack};
use crate::fetch::patch::message::BaseName;
use crate::nix::StoreHash;
use crate::peers::{Failure, NodeId, Sample};
use async_trait::async_trait;
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

/// How much is handed on at a time, in bytes.
const CHUNK: usize = 256 * 1024;
/// How many of those wait to be taken.
const AHEAD: usize = 2;
/// How long the peer may be silent when there is no other source: it makes a frame before it sends it.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer that may have a patch. It is asked once; that it has none is nothing against it.
pub(crate) struct Patched {
    remote: PatchRemote,
    bases: Bases,
    /// What this machine has, the best first; at least one.
    candidates: Vec<Base>,
}

impl Patched {
    /// Of the peer `source` with this id, by one of these bases.
    pub(crate) fn new((source, id): (Arc<dyn Source>, NodeId), bases: Bases, candidates: Vec<Base>) -> Self {
        Self { remote: PatchRemote { source, id }, bases, candidates }
    }
}

/// The peer, as far as a patch says something of it.
struct PatchRemote {
    source: Arc<dyn Source>,
    id: NodeId,
}

impl Remote for PatchRemote {
    fn id(&self) -> SourceId {
        SourceId::Patch(self.id)
    }

    /// How fast that was says nothing of the line.
    fn succeeded(&self, _: Sample) {}

    /// The base may be damaged here.
    fn failed(&self, _: Failure) {}

    fn ban(&self, reason: &str, duration: Duration) -> bool {
        self.source.remote().ban(reason, duration)
    }

    fn bar(&self, hash: StoreHash) -> Option<usize> {
        self.source.remote().bar(hash)
    }

    fn own_name(&self) -> String {
        self.source.remote().own_name()
    }
}

#[async_trait]
impl Source for Patched {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn abilities(&self) -> Abilities {
        let is_far = self.remote.source.abilities().is_far;
        Abilities { begins_anywhere: true, silence: SILENCE, is_far, is_partial: false, is_once: true }
    }

    /// As near as the peer, and before it.
    fn standing(&self) -> Standing {
        Standing { latency: Some(Duration::ZERO), throughput: Some(f64::MAX), ..self.remote.source.standing() }
    }

    fn given(&self) -> u64 {
        self.remote.source.given()
    }

    fn gave(&self, bytes: u64) {
        self.remote.source.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let names: Vec<BaseName> = self.candidates.iter().map(Base::name).collect();
        let PatchBody { base, wire } = self.remote.source.patch(nar, from, &names).await?;
        let base = self.candidates.iter().find(|candidate| candidate.name() == base);
        let base = base.ok_or_else(|| wrong("a base that was not named"))?.clone();
        log::debug!(base:% = base.path.info.path, peer:% = self.remote.id; "a patch on {}", base.path.info.path);
        let received = Arc::new(AtomicU64::new(0));
        let (chunks, receiver) = mpsc::channel(AHEAD);
        let patch = Patch { bases: self.bases.clone(), base, nar: *nar, received: Arc::clone(&received), chunks };
        let task = AbortOnDropHandle::new(tokio::spawn(patch.undo(wire, from)));
        Ok(Box::new(Undone { receiver, received, _task: task }))
    }
}

/// Something that no patch of this protocol says.
fn wrong(what: &str) -> SourceError {
    SourceError::Decode(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// A patch that is being undone.
struct Patch {
    bases: Bases,
    base: Base,
    nar: NarId,
    /// How many bytes came.
    received: Arc<AtomicU64>,
    /// Where the NAR goes.
    chunks: mpsc::Sender<Result<Bytes, SourceError>>,
}

impl Patch {
    async fn undo(self, wire: Box<dyn ByteFlow>, from: u64) {
        if let Err(error) = self.all(wire, from).await {
            // Whoever is gone needs no reason.
            let _ = self.chunks.send(Err(error)).await;
        }
    }

    async fn all(&self, mut wire: Box<dyn ByteFlow>, from: u64) -> Result<(), SourceError> {
        let mut frames = Frames::new(self.base.path.info.nar_size);
        for range in self.base.shape.frames_from(from) {
            let packed = self.next(&mut frames, &mut wire, range.start).await?;
            let frame = self.frame(packed, &range).await?;
            let mut rest = Bytes::from(frame);
            // What is there already was sent with the rest of its frame.
            let before = usize::try_from(from.saturating_sub(range.start)).unwrap_or_default().min(rest.len());
            rest = rest.slice(before..);
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(CHUNK));
                if self.chunks.send(Ok(chunk)).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next frame that comes.
    async fn next(&self, frames: &mut Frames, wire: &mut Box<dyn ByteFlow>, at: u64) -> Result<Packed, SourceError> {
        loop {
            if let Some(packed) = frames.take().map_err(io::Error::from).map_err(SourceError::Decode)? {
                return Ok(packed);
            }
            let chunk = poll_fn(|context| wire.poll_chunk(context)).await;
            let chunk = chunk.ok_or(SourceError::Truncated(at, self.nar.size))??;
            self.received.fetch_add(chunk.len() as u64, Relaxed);
            frames.push(&chunk);
        }
    }

    /// What it holds of the NAR.
    async fn frame(&self, packed: Packed, range: &Range<u64>) -> Result<Vec<u8>, SourceError> {
        let Packed { slice, bytes } = packed;
        let slice = self.bases.read(&self.base, slice).await;
        let slice = slice.map_err(|error| SourceError::Unavailable(format!("the base of the patch: {error}")))?;
        // Lossless: a frame is a mebibyte at most.
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        let undoing = spawn_blocking(move || unpack(&bytes, &slice, length));
        let frame = undoing.await.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        frame.map_err(io::Error::from).map_err(SourceError::Decode)
    }
}

/// The bytes of a NAR that come of a patch, undone by a task that dies with this.
struct Undone {
    receiver: mpsc::Receiver<Result<Bytes, SourceError>>,
    received: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl ByteFlow for Undone {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.receiver.poll_recv(context)
    }

    fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

//! A peer that is fetching a NAR itself, as a source of what has come so far and of what will.
//!
//! It may be as slow as what it waits for, and wrong where that is wrong: it passes on what nobody has proved. Only with the end does it
//! say that all of it is right; a peer that found it wrong never sends that.

use super::direct::Direct;
use super::peer::PeerSource;
use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing};
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::decode;
use crate::nix::{NarHash, StoreHash};
use crate::peers::link::PARTIAL;
use crate::peers::{Failure, Peer, Sample};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long it may be silent before another one is asked for.
const SILENCE: Duration = Duration::from_secs(3);

/// Where a peer gives what has come of a NAR.
pub(crate) fn target(nar: &NarHash) -> String {
    format!("{PARTIAL}{}", nar.to_nix32())
}

/// A peer that is fetching the NAR, or has just done so.
pub(crate) struct PartialSource(PeerSource);

impl PartialSource {
    pub(crate) const fn new(peer: Arc<Peer>) -> Self {
        Self(PeerSource(peer))
    }
}

impl Remote for PartialSource {
    fn id(&self) -> SourceId {
        SourceId::Partial(self.0.0.id())
    }

    fn succeeded(&self, _: Sample) {
        // How fast it was says how fast its own source was.
        self.0.succeeded(Sample { bytes: 0, elapsed: Duration::ZERO });
    }

    fn failed(&self, failure: Failure) {
        // That nothing comes need not be its fault.
        if !matches!(failure, Failure::Stalled | Failure::Broken | Failure::Status(_)) {
            self.0.failed(failure);
        }
    }

    fn ban(&self, reason: &str, duration: Duration) -> bool {
        self.0.ban(reason, duration)
    }

    fn bar(&self, hash: StoreHash) -> Option<usize> {
        self.0.bar(hash)
    }

    fn own_name(&self) -> String {
        self.0.own_name()
    }
}

#[async_trait]
impl Source for PartialSource {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: false, is_partial: true, is_once: false }
    }

    fn standing(&self) -> Standing {
        self.0.standing()
    }

    fn given(&self) -> u64 {
        // What it sends for other NARs says nothing of this one.
        0
    }

    fn gave(&self, bytes: u64) {
        self.0.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.0.must_not_be_barred(nar.hash)?;
        let response = self.0.get(&target(&nar.nar_hash), (from > 0).then_some(from)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            // It was on its way there, and is not any more: no broken promise.
            return Err(SourceError::Status(StatusCode::NOT_FOUND.as_u16()));
        }
        if let Some(layer) = decode::encodings(response.headers())?.first() {
            return Err(SourceError::Encoding(layer.name().to_owned()));
        }
        if response.body().size_hint().exact().is_none() {
            return Err(Violation::Size(0, nar.size).into());
        }
        Ok(Box::new(Passed { inner: Direct::new(response, from, nar.size)?, size: nar.size }))
    }
}

/// What is passed on. That it breaks off need not be the fault of who passes it on.
struct Passed {
    inner: Direct,
    size: u64,
}

impl ByteFlow for Passed {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let (received, size) = (self.inner.received(), self.size);
        self.inner.poll_chunk(context).map_err(|error| match error {
            SourceError::Connection(_) => SourceError::Truncated(received, size),
            other => other,
        })
    }

    fn received(&self) -> u64 {
        self.inner.received()
    }
}

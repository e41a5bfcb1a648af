//! A NAR that somebody has: found once, and then read from any offset.

use super::error::TransferError;
use super::read_ahead::ReadAhead;
use super::resolve::resolution::Resolution;
use super::resolve::resolver::Resolver;
use super::source::SourceName;
use super::transfer::fanout::{FanoutBody, Progress};
use super::transfer::registry::{Registry, WHOLE};
use super::transfer::spool::SpoolBody;
use crate::metrics::Metrics;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// How often a NAR is fetched that is to be proved before anything of it is read, and turned out wrong: who sent that is asked no more.
const TRIES: usize = 3;

/// A NAR that somebody has.
pub struct Nar {
    pub(crate) registry: Registry,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) resolution: Arc<Resolution>,
    /// The generation of trusted keys under which it was found, or an older one.
    pub(crate) generation: u64,
    /// Nobody reads anything of it before all of it is there and right.
    pub(crate) whole: bool,
    pub(crate) metrics: Arc<Metrics>,
}

impl Nar {
    /// How long it is, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.resolution.info.nar_size
    }

    /// Its bytes from byte `from` on; `None` if no source could even begin. Small NARs are verified before the first byte comes out
    /// of this, large ones before the last; or before the first as well, if that is wanted.
    pub async fn read(&self, from: u64) -> Option<NarBody> {
        let begun = Instant::now();
        let body = self.begin(from).await?;
        self.metrics.first_byte_took.observe(begun.elapsed());
        Some(body)
    }

    async fn begin(&self, from: u64) -> Option<NarBody> {
        if self.whole && self.size() > WHOLE {
            return self.proved(from).await;
        }
        let ahead = if from == 0 { self.read_ahead.take(self.resolution.info.nar_hash, self.generation) } else { None };
        let body = match ahead {
            Some(ahead) => ahead,
            None => self.registry.reader(&self.resolution, self.generation, from).await?,
        };
        self.read_ahead.go_on();
        if self.whole && !body.keeps_all() {
            // There was no memory for it, and nobody reads that one.
            drop(body);
            return self.proved(from).await;
        }
        let mut progress = body.progress();
        // The sender is in the body, which is alive.
        let state = progress.wait_for(|progress| *progress != Progress::Pending).await.ok()?.clone();
        match state {
            Progress::Failed(error) => {
                self.failed(&error).await;
                None
            }
            Progress::Pending | Progress::Flowing => Some(NarBody(Kind::Coming(body))),
        }
    }

    /// The same of what lies on the disk once all of it was verified.
    async fn proved(&self, from: u64) -> Option<NarBody> {
        let nar = self.resolution.info.nar_hash;
        let kept = || Some(NarBody(Kind::Kept(self.registry.spools().read_proved(nar, from)?)));
        for _ in 0..TRIES {
            if let Some(kept) = kept() {
                return Some(kept);
            }
            let mut transfer = self.registry.watcher(&self.resolution, self.generation).await?;
            let mut outcome = Ok(());
            while let Some(frame) = transfer.frame().await {
                outcome = frame.map(drop);
                if outcome.is_err() {
                    break;
                }
            }
            match outcome {
                Ok(()) => {
                    let kept = kept();
                    if kept.is_none() {
                        let path = &self.resolution.info.path;
                        log::warn!(path:% = path; "{path} is not given to Nix: there is no room to keep it until it is verified ([cache] max_size, and the disk of the cache directory)");
                    }
                    return kept;
                }
                Err(TransferError::Corrupt(_)) => {}
                Err(error) => {
                    log::warn!(path:% = self.resolution.info.path, reason:% = error; "{} is not given to Nix: {error}", self.resolution.info.path);
                    self.failed(&error).await;
                    return None;
                }
            }
        }
        None
    }

    async fn failed(&self, error: &TransferError) {
        let path = &self.resolution.info.path;
        log::debug!(path:% = path, reason:% = error; "no NAR: {error}");
        self.resolver.forget(path.hash()).await;
    }
}

/// The bytes of a NAR for one reader; an error ends the connection, so that nobody takes a part for the whole.
pub struct NarBody(Kind);

enum Kind {
    /// They are on their way.
    Coming(FanoutBody),
    /// They are here, and right.
    Kept(SpoolBody),
}

impl NarBody {
    /// Who sends, or sent the last bytes; `None` before the first.
    #[must_use]
    pub fn source(&self) -> Option<SourceName> {
        match &self.0 {
            Kind::Coming(body) => body.source(),
            Kind::Kept(_) => Some(SourceName::Here),
        }
    }
}

impl Body for NarBody {
    type Data = Bytes;
    type Error = TransferError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
        match &mut self.0 {
            Kind::Coming(body) => Pin::new(body).poll_frame(context),
            Kind::Kept(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map_err(|error| TransferError::NoSource(error.to_string()))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Coming(body) => body.size_hint(),
            Kind::Kept(body) => body.size_hint(),
        }
    }
}

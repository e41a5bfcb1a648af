//! A file of an upstream as a source: decoded where it is compressed, so that it is the same bytes as everybody's.

use super::decode::{self, Codec, Decoder};
use super::direct::Direct;
use super::download::Download;
use super::upstream::Upstream;
use super::{Abilities, ByteFlow, NarId, Remote, Source, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::nix::Compression;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// How long an upstream may be silent when there is no other source.
const SILENCE: Duration = Duration::from_secs(5);
/// The same where it is compressed: a [`Download`] helps itself meanwhile, and can go on where it was.
const SILENCE_COMPRESSED: Duration = Duration::from_secs(30);

/// A NAR of an upstream, with what its narinfo said.
pub(crate) struct UpstreamNar {
    pub(crate) upstream: Arc<Upstream>,
    /// As in its narinfo.
    pub(crate) url: String,
    pub(crate) compression: Compression,
}

#[async_trait]
impl Source for UpstreamNar {
    fn remote(&self) -> &dyn Remote {
        self.upstream.as_ref()
    }

    fn abilities(&self) -> Abilities {
        let begins_anywhere = self.compression == Compression::None;
        let silence = if begins_anywhere { SILENCE } else { SILENCE_COMPRESSED };
        Abilities { begins_anywhere, silence, is_far: true, is_partial: false, is_once: false }
    }

    fn standing(&self) -> Standing {
        Standing { usable: true, tier: Tier::Upstream, latency: None, throughput: None }
    }

    fn given(&self) -> u64 {
        self.upstream.given()
    }

    fn gave(&self, bytes: u64) {
        self.upstream.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let is_plain = self.compression == Compression::None;
        let mut response = self.upstream.get(&self.url, if is_plain { from } else { 0 }).await?;
        let mut layers = decode::encodings(response.headers())?;
        if response.status() == StatusCode::PARTIAL_CONTENT && !layers.is_empty() {
            // Offsets in what is encoded are not those of the NAR.
            response = self.upstream.get(&self.url, 0).await?;
            layers = decode::encodings(response.headers())?;
        }
        layers.extend(Codec::of(&self.compression)?);
        if layers.is_empty() {
            return Ok(Box::new(Direct::new(response, from, nar.size)?));
        }
        let download = Download::new(Arc::clone(&self.upstream), self.url.clone(), response)?;
        Ok(Box::new(Decoded::new(download, layers, from, nar.size)))
    }
}

/// A file through a decoder, fed by a task that dies with this.
struct Decoded {
    output: mpsc::Receiver<Result<Bytes, SourceError>>,
    received: Arc<AtomicU64>,
    /// What broke the download: to the decoder it looks like bad input.
    broken: Arc<OnceLock<SourceError>>,
    _feeder: AbortOnDropHandle<()>,
}

impl Decoded {
    fn new(download: Download, layers: Vec<Codec>, from: u64, size: u64) -> Self {
        let Decoder { input, output } = decode::start(layers, from, size);
        let (received, broken) = (Arc::default(), Arc::default());
        let feeder = tokio::spawn(feed(download, input, Arc::clone(&received), Arc::clone(&broken)));
        Self { output, received, broken, _feeder: AbortOnDropHandle::new(feeder) }
    }
}

/// Carries a download to its decoder.
async fn feed(
    mut download: Download,
    input: mpsc::Sender<std::io::Result<Bytes>>,
    received: Arc<AtomicU64>,
    broken: Arc<OnceLock<SourceError>>,
) {
    while let Some(chunk) = download.next().await {
        let chunk = chunk.map_err(|error| {
            let text = error.to_string();
            // Before the decoder can complain about it.
            let _ = broken.set(error);
            std::io::Error::other(text)
        });
        received.fetch_add(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64), Relaxed);
        let is_over = chunk.is_err();
        if input.send(chunk).await.is_err() || is_over {
            return;
        }
    }
}

impl ByteFlow for Decoded {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = ready!(self.output.poll_recv(context));
        Poll::Ready(match (chunk, self.broken.get()) {
            (Some(Err(_)), Some(error)) => Some(Err(SourceError::Connection(error.to_string()))),
            (chunk, _) => chunk,
        })
    }

    fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

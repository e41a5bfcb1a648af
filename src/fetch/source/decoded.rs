//! What comes compressed, as the bytes of the NAR.

use super::ByteFlow;
use super::decode::{self, Codec, Decoder};
use crate::fetch::error::SourceError;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Where compressed bytes come from.
pub(crate) trait Feed: Send + 'static {
    /// The next ones; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, SourceError>>> + Send;
}

/// What comes, through a decoder that is fed by a task which dies with this.
pub(crate) struct Decoded {
    output: mpsc::Receiver<Result<Bytes, SourceError>>,
    received: Arc<AtomicU64>,
    /// What broke it: to the decoder it looks like bad input.
    broken: Arc<OnceLock<SourceError>>,
    _feeder: AbortOnDropHandle<()>,
}

impl Decoded {
    /// Bytes `from` to `size` of what `feed` gives, undone from all `layers`, the first of which is the outermost.
    pub(crate) fn new(feed: impl Feed, layers: Vec<Codec>, from: u64, size: u64) -> Self {
        let Decoder { input, output } = decode::start(layers, from, size);
        let (received, broken) = (Arc::default(), Arc::default());
        let feeder = tokio::spawn(carry(feed, input, Arc::clone(&received), Arc::clone(&broken)));
        Self { output, received, broken, _feeder: AbortOnDropHandle::new(feeder) }
    }
}

/// Carries what comes to its decoder.
async fn carry(
    mut feed: impl Feed,
    input: mpsc::Sender<std::io::Result<Bytes>>,
    received: Arc<AtomicU64>,
    broken: Arc<OnceLock<SourceError>>,
) {
    while let Some(chunk) = feed.next().await {
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

//! What this machine has of a NAR from a transfer that did not come to its end, as a source of its first bytes.

use super::unblamed::Unblamed;
use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::peers::hello::WEIGHT_MAX;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// How much is read at a time, in bytes.
const BLOCK: u64 = 256 * 1024;
/// How many blocks wait to be taken.
const AHEAD: usize = 2;
/// How long the disk may say nothing.
const SILENCE: Duration = Duration::from_secs(2);

/// A file with the first bytes of a NAR.
pub(crate) struct RestSource {
    /// Until it is read: it takes room on the disk as long as it is open.
    file: Mutex<Option<Arc<File>>>,
    length: u64,
    /// What it has was sent by others, and nobody proved it.
    remote: Unblamed,
}

impl RestSource {
    /// The first `length` bytes of a file.
    pub(crate) fn new(file: Arc<File>, length: u64) -> Self {
        Self { file: Mutex::new(Some(file)), length, remote: Unblamed(SourceId::Rest) }
    }
}

#[async_trait]
impl Source for RestSource {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: false, is_partial: false, is_once: true }
    }

    fn standing(&self) -> Standing {
        Standing {
            usable: true,
            tier: Tier::Online,
            latency: Some(Duration::ZERO),
            throughput: Some(f64::MAX),
            weight: WEIGHT_MAX,
        }
    }

    fn given(&self) -> u64 {
        0
    }

    fn gave(&self, _: u64) {}

    async fn open(&self, _: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let (blocks, receiver) = mpsc::channel(AHEAD);
        let file = self.file.lock().take().ok_or(SourceError::Barred)?;
        let length = self.length;
        // Ends with whoever takes the blocks.
        spawn_blocking(move || {
            let mut at = from;
            while at < length {
                // Lossless: at most a block.
                let mut block = vec![0; usize::try_from((length - at).min(BLOCK)).unwrap_or_default()];
                let read = file.read_exact_at(&mut block, at);
                at += block.len() as u64;
                let is_over = read.is_err();
                let block =
                    read.map(|()| Bytes::from(block)).map_err(|error| SourceError::Connection(error.to_string()));
                if blocks.blocking_send(block).is_err() || is_over {
                    return;
                }
            }
        });
        Ok(Box::new(Blocks(receiver)))
    }
}

struct Blocks(mpsc::Receiver<Result<Bytes, SourceError>>);

impl ByteFlow for Blocks {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.0.poll_recv(context)
    }

    /// Nothing comes from the network.
    fn received(&self) -> u64 {
        0
    }
}

//! A SHA-256 that runs beside a transfer, on a thread of its own, so that verifying costs the transfer no time.

use crate::nix::NarHash;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many chunks may wait to be hashed before the transfer waits for the hash. SHA-256 does 0.5 GB/s even without
/// hardware support, so that on a network the queue is empty nearly always.
const QUEUE: usize = 16;

/// A hash in the making. Dropping it stops the thread.
pub(super) struct Hasher {
    queue: mpsc::Sender<Bytes>,
    thread: JoinHandle<NarHash>,
}

impl Hasher {
    /// Starts a hash of nothing.
    pub(super) fn start() -> Self {
        let (queue, mut chunks) = mpsc::channel::<Bytes>(QUEUE);
        let thread = tokio::task::spawn_blocking(move || {
            let mut hash = Sha256::new();
            while let Some(chunk) = chunks.blocking_recv() {
                hash.update(&chunk);
            }
            NarHash::new(hash.finalize().into())
        });
        Self { queue, thread }
    }

    /// Adds the next bytes; returns once they are queued.
    pub(super) async fn push(&self, chunk: Bytes) {
        // The thread ends only when `queue` is dropped; should it have panicked, `finish` tells.
        let _ = self.queue.send(chunk).await;
    }

    /// Waits for the hash of all that was pushed. `None` if the runtime is shutting down.
    pub(super) async fn finish(self) -> Option<NarHash> {
        drop(self.queue);
        self.thread.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hashes_what_was_pushed() {
        let hasher = Hasher::start();
        for _ in 0..100 {
            hasher.push(Bytes::from_static(&[7; 1000])).await;
        }
        let expected = NarHash::new(Sha256::digest(vec![7; 100_000]).into());
        assert_eq!(hasher.finish().await, Some(expected));
    }
}

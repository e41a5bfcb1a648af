//! The SHA-256 of a NAR and the table of its pieces, made off the reactor beside whatever brings the bytes, so that it costs that no time.

use super::table::{Chain, PieceTable};
use crate::nix::NarHash;
use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

/// How many bytes are hashed at a time: long enough that the way to another thread does not count. SHA-256 does 0.5 GB/s even
/// without hardware support, so that on a network the batch before is done nearly always.
const BATCH: usize = 256 * 1024;
/// What is not longer than this in all is hashed where it is, in bytes: it takes less time than to have another thread do it and to be woken
/// by that, and no more than the reactor spends on copying as much to a socket.
const IN_PLACE: usize = 128 * 1024;

/// A hash in the making. It holds no thread while it waits for bytes, and two batches of them at most.
pub struct Hasher {
    /// What was hashed so far, in the hands of a thread or not.
    state: State,
    waiting: Vec<Bytes>,
    /// The length of `waiting`.
    length: usize,
}

enum State {
    Idle(Box<Chain>),
    Busy(JoinHandle<Box<Chain>>),
    /// The runtime is shutting down.
    Lost,
}

impl Hasher {
    /// Starts a hash of nothing.
    #[must_use]
    pub fn start() -> Self {
        Self { state: State::Idle(Box::new(Chain::start())), waiting: Vec::new(), length: 0 }
    }

    /// Adds the next bytes; waits for the batch before the last.
    pub async fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.waiting.push(chunk);
        if self.length >= BATCH {
            self.hash_waiting().await;
        }
    }

    /// Waits for the hash of all that was pushed, and its table (not of what is too long for one). `None` if the runtime is shutting down.
    pub async fn finish(mut self) -> Option<(NarHash, Option<PieceTable>)> {
        match &mut self.state {
            State::Idle(hash) if self.length <= IN_PLACE => self.waiting.iter().for_each(|chunk| hash.update(chunk)),
            _ => self.hash_waiting().await,
        }
        Some(self.idle().await?.finish())
    }

    async fn hash_waiting(&mut self) {
        let Some(mut hash) = self.idle().await else { return };
        let chunks = std::mem::take(&mut self.waiting);
        self.length = 0;
        self.state = State::Busy(spawn_blocking(move || {
            chunks.iter().for_each(|chunk| hash.update(chunk));
            hash
        }));
    }

    /// What was hashed so far, once no thread works on it.
    async fn idle(&mut self) -> Option<Box<Chain>> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(hash) => Some(hash),
            State::Busy(thread) => thread.await.ok(),
            State::Lost => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[tokio::test]
    async fn hashes_what_was_pushed() {
        for chunk in [1, 1000, IN_PLACE / 20, IN_PLACE / 20 + 1, BATCH - 1, BATCH * 3] {
            let mut hasher = Hasher::start();
            for _ in 0..20 {
                hasher.push(Bytes::from(vec![7; chunk])).await;
            }
            let expected = NarHash::new(Sha256::digest(vec![7; chunk * 20]).into());
            assert_eq!(hasher.finish().await.map(|(hash, _)| hash), Some(expected), "{chunk}");
        }
        let nothing = NarHash::new(Sha256::digest(b"").into());
        assert_eq!(Hasher::start().finish().await.map(|(hash, _)| hash), Some(nothing));
    }
}

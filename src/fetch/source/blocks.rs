//! Memory for what is decoded, used again and again: fresh memory costs a fault for each of its pages, which was a tenth of what the
//! gateway takes for a NAR (docs/performance.md).

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a block.
pub(super) const BLOCK: usize = 128 * 1024;
/// How many are kept for the next to need one: 2 MiB.
const FREE_MAX: usize = 16;

/// Those that nobody uses.
static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A block that goes back once nobody reads it any more.
pub(super) struct Block {
    bytes: Box<[u8]>,
    /// How many of its bytes are in use.
    filled: usize,
}

impl Block {
    /// One with nothing in it.
    pub(super) fn take() -> Self {
        let free = FREE.lock().pop();
        Self { bytes: free.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice()), filled: 0 }
    }

    /// Where the next bytes go; empty once it is full.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// So many bytes were put into its [`Self::rest`].
    pub(super) fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.bytes.len());
    }

    /// How many bytes are in it.
    pub(super) const fn filled(&self) -> usize {
        self.filled
    }

    /// What is in it. What takes less than half of it is copied: a NAR that is kept would take many times its size.
    pub(super) fn freeze(self) -> Bytes {
        if self.filled <= BLOCK / 2 { Bytes::copy_from_slice(self.as_ref()) } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut free = FREE.lock();
        if free.len() < FREE_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_block_is_what_was_put_there() {
        for length in [0, 1, BLOCK / 2, BLOCK / 2 + 1, BLOCK] {
            let mut block = Block::take();
            let content: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            for part in content.chunks(50_000) {
                block.rest()[..part.len()].copy_from_slice(part);
                block.fill(part.len());
            }
            assert_eq!(block.rest().len(), BLOCK - length);
            let frozen = block.freeze();
            // A part of it keeps all of it.
            let tail = frozen.slice(length / 2..);
            drop(frozen);
            let mut other = Block::take();
            other.rest().fill(0xff);
            assert!(tail == content[length / 2..], "{length}");
        }
    }
}

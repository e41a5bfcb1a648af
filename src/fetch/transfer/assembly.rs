//! The bytes of one transfer on their way from sources to readers: hashed, kept in order, and withheld until they are proved.

use super::events::Part;
use super::fanout::Fanout;
use crate::fetch::error::{SourceError, TransferError, Violation};
use crate::fetch::pieces::hasher::Hasher;
use crate::fetch::pieces::table::PieceTable;
use crate::fetch::source::SourceName;
use crate::nix::NarHash;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// How much of a NAR that is too large to be kept whole is withheld until its hash is right, in bytes.
pub(crate) const WITHHELD: u64 = 64 * 1024;

/// How far readers may read what has come of a NAR that is not verified: not at all if it is kept whole, else up to the tail.
pub(crate) const fn released(came: u64, keeps_all: bool) -> u64 {
    if keeps_all { 0 } else { came.saturating_sub(WITHHELD) }
}

/// The NAR as it comes together.
pub(crate) struct Assembly {
    readers: Arc<Fanout>,
    hasher: Hasher,
    /// How many bytes came.
    offset: u64,
    set_aside: Vec<Bytes>,
}

impl Assembly {
    /// Nothing came yet.
    pub(crate) fn new(readers: Arc<Fanout>) -> Self {
        Self { readers, hasher: Hasher::start(), offset: 0, set_aside: Vec::new() }
    }

    /// Whether it can be begun anew, because nobody reads anything before all is verified.
    pub(crate) fn is_restartable(&self) -> bool {
        self.readers.keeps_all()
    }

    /// From now on the bytes come from there.
    pub(crate) fn comes_from(&self, source: &SourceName) {
        self.readers.comes_from(source);
    }

    /// Takes in the next bytes, waiting for readers where they are behind. The inner result is the source's fault.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub(crate) async fn take(&mut self, chunk: Bytes) -> Result<Result<u64, SourceError>, TransferError> {
        let (length, size) = (chunk.len() as u64, self.readers.size());
        if length > size - self.offset {
            return Ok(Err(Violation::Size(self.offset + length, size).into()));
        }
        self.hasher.push(chunk.clone()).await;
        self.readers.write(chunk).await?;
        self.offset += length;
        self.readers.release(released(self.offset, self.is_restartable()));
        Ok(Ok(length))
    }

    /// The hash of all that came, and the table of its pieces. `None` if the program is being stopped.
    pub(crate) async fn verify(&mut self) -> Option<(NarHash, Option<PieceTable>)> {
        std::mem::replace(&mut self.hasher, Hasher::start()).finish().await
    }

    /// Begins anew; with `set_aside` what came is kept for [`Self::compare`].
    pub(crate) fn start_over(&mut self, set_aside: bool) {
        let chunks = self.readers.restart();
        if set_aside {
            self.set_aside = chunks;
        }
        (self.hasher, self.offset) = (Hasher::start(), 0);
    }

    /// Those of `parts` in which what was set aside differs from what is there now.
    pub(crate) async fn compare(&mut self, mut parts: Vec<Part>) -> Vec<Part> {
        let (right, aside) = (self.readers.kept(), std::mem::take(&mut self.set_aside));
        let compare = move || {
            parts.retain(|part| slice(&right, &part.range) != slice(&aside, &part.range));
            parts
        };
        // Megabytes are compared: not on the reactor. It fails only when the program is being stopped.
        tokio::task::spawn_blocking(compare).await.unwrap_or_default()
    }

    /// Ends it: everything is released, or readers are told what happened.
    pub(crate) fn finish(&self, outcome: Result<(), TransferError>) {
        self.readers.finish(outcome);
    }
}

/// The bytes of `range` of what `chunks` hold together.
fn slice(chunks: &[Bytes], range: &Range<u64>) -> Vec<u8> {
    let mut offset = 0;
    let mut bytes = Vec::new();
    for chunk in chunks {
        let end = offset + chunk.len() as u64;
        let inside = |at: u64| usize::try_from(at.clamp(offset, end) - offset).unwrap_or(chunk.len());
        bytes.extend_from_slice(&chunk[inside(range.start)..inside(range.end)]);
        offset = end;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn chunk(byte: u8, length: usize) -> Bytes {
        vec![byte; length].into()
    }

    #[tokio::test]
    async fn what_is_longer_than_signed_is_not_taken() {
        let readers = Fanout::new(10, 10, None);
        let _reader = readers.reader(0);
        let mut assembly = Assembly::new(readers);
        assert!(matches!(assembly.take(chunk(1, 6)).await, Ok(Ok(6))));
        let error = assembly.take(chunk(1, 5)).await.unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Violation(Violation::Size(11, 10))), "{error}");
    }

    #[tokio::test]
    async fn the_parts_that_differ_are_found() {
        let readers = Fanout::new(30, 30, None);
        let _reader = readers.reader(0);
        let mut assembly = Assembly::new(readers);
        for byte in [1, 9, 3] {
            assembly.take(chunk(byte, 10)).await.unwrap().unwrap();
        }
        assembly.start_over(true);
        for byte in [1, 2, 3] {
            assembly.take(chunk(byte, 10)).await.unwrap().unwrap();
        }
        let part = |from, range| Part { from, range };
        let parts = vec![part(0, 0..12), part(1, 12..18), part(0, 18..19), part(2, 20..30)];
        assert_eq!(assembly.compare(parts).await, [part(0, 0..12), part(1, 12..18), part(0, 18..19)]);
        let right = [[1; 10], [2; 10], [3; 10]].concat();
        let hash = assembly.verify().await.map(|(hash, _)| hash);
        assert_eq!(hash, Some(NarHash::new(Sha256::digest(right).into())));
    }

    proptest! {
        #[test]
        fn the_tail_is_withheld(came: u64, keeps_all: bool) {
            let released = released(came, keeps_all);
            prop_assert!(released == 0 || (!keeps_all && came - released == WITHHELD));
        }
    }
}

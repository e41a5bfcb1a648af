//! Pieces of a NAR that are proved by its signed SHA-256.
//!
//! SHA-256 takes its input in blocks of 64 bytes, each of which leads from one state to the next. The *table* of a NAR is what that state is
//! at each border between two pieces. A piece is right if it leads from the state before it to the state behind it: the first piece begins at the
//! constant that every SHA-256 begins with, and the last one has to lead to the NarHash that is signed.
//!
//! What that proves, and when: the last piece proves the state before it, as whoever finds another state and another end for a given hash has
//! found a preimage; that state proves the piece before, and so on towards the beginning. One link alone proves nothing until all those behind it
//! hold: before that, it says that a piece fits a table which somebody told. All links together are the ordinary check of the whole NAR. Tables
//! come from machines that nobody trusts; who sends a piece that does not fit the table it told itself contradicts itself.
//!
//! `docs/wire-protocol.md` has the form of a table, `docs/threat-model.md` what it is worth.

use crate::nix::NarHash;
use bytes::Bytes;
use sha2::block_api::compress256;
use std::ops::Range;
use thiserror::Error;

/// How long a piece is, in bytes; the last one of a NAR is what is left.
pub const PIECE: u64 = 1024 * 1024;
/// How many pieces a NAR may have: 64 GiB of them. Its table has 2 MiB then.
pub const PIECES_MAX: u32 = 64 * 1024;
/// NARs from this size on come in pieces, in bytes. Smaller ones are kept whole until they are verified, and are here before others are found.
pub const PIECES_MIN: u64 = 16 * PIECE;
/// How long a state of SHA-256 is, in bytes.
pub const LINK: usize = 32;
/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

type State = [u32; 8];

/// Where every SHA-256 begins (FIPS 180-4, 5.3.3).
const START: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Why something is no table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TableError {
    /// A NAR of that size has a table of another length.
    #[error("a table of {0} bytes where the NAR has one of {1}")]
    Length(usize, usize),
    /// The NAR has too many pieces.
    #[error("a NAR of {0} bytes has no table")]
    TooLarge(u64),
}

/// How many pieces a NAR of so many bytes has; `None` if that is more than [`PIECES_MAX`].
#[must_use]
pub fn pieces_of(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(PIECE)).ok().filter(|count| *count <= PIECES_MAX)
}

/// The bytes of these pieces of a NAR of `size` bytes.
#[must_use]
pub fn bytes_of(pieces: &Range<u32>, size: u64) -> Range<u64> {
    u64::from(pieces.start) * PIECE..(u64::from(pieces.end) * PIECE).min(size)
}

/// The states between the pieces of one NAR, each of [`LINK`] bytes, in order: one less than there are pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceTable(Bytes);

impl PieceTable {
    /// Takes what somebody told as the table of a NAR of `size` bytes. Whether it is that shows with the pieces.
    ///
    /// # Errors
    /// It has another length, or the NAR too many pieces.
    pub fn parse(bytes: Bytes, size: u64) -> Result<Self, TableError> {
        let expected = length(size)?;
        if bytes.len() != expected {
            return Err(TableError::Length(bytes.len(), expected));
        }
        Ok(Self(bytes))
    }

    /// What is told to others.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Whether `content` is this piece of the NAR with that hash and size, by this table.
    #[must_use]
    pub fn fits(&self, (nar, size): (&NarHash, u64), piece: u32, content: &[u8]) -> bool {
        let bytes = bytes_of(&(piece..piece.saturating_add(1)), size);
        let Some(before) = self.state_before(piece) else { return false };
        if bytes.start >= bytes.end || content.len() as u64 != bytes.end - bytes.start {
            return false;
        }
        let mut chain = Chain { state: before, length: bytes.start, ..Chain::start() };
        chain.update(content);
        if bytes.end == size { chain.digest() == *nar } else { self.state_before(piece + 1) == Some(chain.state) }
    }

    fn state_before(&self, piece: u32) -> Option<State> {
        let Some(link) = piece.checked_sub(1) else { return Some(START) };
        let from = usize::try_from(link).ok()? * LINK;
        let (words, _) = self.0.get(from..from + LINK)?.as_chunks::<4>();
        let mut state = State::default();
        state.iter_mut().zip(words).for_each(|(word, bytes)| *word = u32::from_be_bytes(*bytes));
        Some(state)
    }
}

/// How long the table of a NAR of so many bytes is, in bytes.
///
/// # Errors
/// It has too many pieces.
pub fn length(size: u64) -> Result<usize, TableError> {
    let count = pieces_of(size).ok_or(TableError::TooLarge(size))?;
    Ok(count.saturating_sub(1) as usize * LINK)
}

/// A SHA-256 in the making that notes its table on the way: nothing is hashed twice for that.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    state: State,
    /// What does not fill a block as yet.
    rest: Vec<u8>,
    /// How many bytes were taken in, with those of pieces before it.
    length: u64,
    links: Vec<u8>,
}

impl Chain {
    /// Of nothing so far.
    pub(crate) const fn start() -> Self {
        Self { state: START, rest: Vec::new(), length: 0, links: Vec::new() }
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // Lossless: at most a piece, or what there is.
            let room = usize::try_from(PIECE - self.length % PIECE).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.compress(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(PIECE) {
                self.links.extend(self.state.iter().flat_map(|word| word.to_be_bytes()));
            }
            bytes = later;
        }
    }

    fn compress(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let (now, later) = bytes.split_at((BLOCK - self.rest.len()).min(bytes.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() < BLOCK {
                return;
            }
            compress256(&mut self.state, self.rest.as_chunks().0);
            self.rest.clear();
        }
        let (blocks, rest) = bytes.as_chunks();
        compress256(&mut self.state, blocks);
        self.rest.extend_from_slice(rest);
    }

    /// The hash of all that was taken in, and the table.
    pub(crate) fn finish(mut self) -> (NarHash, Option<PieceTable>) {
        let table = length(self.length).ok().map(|length| {
            self.links.truncate(length);
            PieceTable(Bytes::from(std::mem::take(&mut self.links)))
        });
        (self.digest(), table)
    }

    /// The padding of FIPS 180-4, 5.1.1, and the digest.
    fn digest(mut self) -> NarHash {
        let bits = self.length.wrapping_mul(8);
        let zeros = (BLOCK * 2 - 9 - self.rest.len()) % BLOCK;
        let mut end = vec![0x80];
        end.resize(1 + zeros, 0);
        end.extend_from_slice(&bits.to_be_bytes());
        self.compress(&end);
        let mut digest = [0; LINK];
        let (words, _) = digest.as_chunks_mut::<4>();
        words.iter_mut().zip(self.state).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
        NarHash::new(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::scripted::content;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn hashed(content: &[u8], chunk: usize) -> (NarHash, PieceTable) {
        let mut chain = Chain::start();
        content.chunks(chunk).for_each(|chunk| chain.update(chunk));
        let (hash, table) = chain.finish();
        (hash, table.expect("it is not that large"))
    }

    fn piece(content: &[u8], piece: u32) -> &[u8] {
        let bytes = bytes_of(&(piece..piece + 1), content.len() as u64);
        &content[usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap()]
    }

    #[test]
    fn the_test_vector_of_the_protocol() {
        let (hash, table) = hashed(&vec![0; 2 * 1024 * 1024], 4096);
        let text = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let protocol = include_str!("../../../docs/wire-protocol.md");
        assert!(protocol.contains(&text(hash.as_bytes())) && protocol.contains(&text(&table.to_bytes())));
        assert_eq!(table.to_bytes().len(), LINK);
    }

    #[test]
    fn each_piece_fits_and_no_other() {
        let size = 3 * PIECE + 1000;
        let content = content(usize::try_from(size).unwrap());
        let (hash, table) = hashed(&content, 7777);
        assert_eq!(table.to_bytes().len(), 3 * LINK);
        assert_eq!(PieceTable::parse(table.to_bytes(), size), Ok(table.clone()));
        for number in 0..4 {
            let right = piece(&content, number);
            assert!(table.fits((&hash, size), number, right), "{number}");
            for other in (0..6).filter(|other| *other != number) {
                assert!(!table.fits((&hash, size), other, right), "{number} as {other}");
            }
            for at in [0, right.len() / 2, right.len() - 1] {
                let mut wrong = right.to_vec();
                wrong[at] ^= 1;
                assert!(!table.fits((&hash, size), number, &wrong), "{number} at {at}");
            }
            assert!(!table.fits((&hash, size), number, &right[1..]));
        }
    }

    #[test]
    fn a_forged_link_fails_on_both_of_its_sides_and_nowhere_else() {
        let size = 4 * PIECE;
        let content = content(usize::try_from(size).unwrap());
        let (hash, table) = hashed(&content, 1 << 20);
        for link in 0..3_u32 {
            let mut bytes = table.to_bytes().to_vec();
            bytes[link as usize * LINK + 5] ^= 1;
            let forged = PieceTable::parse(bytes.into(), size).unwrap();
            let fit: Vec<u32> =
                (0..4).filter(|number| forged.fits((&hash, size), *number, piece(&content, *number))).collect();
            let expected: Vec<u32> = (0..4).filter(|number| *number != link && *number != link + 1).collect();
            assert_eq!(fit, expected);
        }
    }

    #[test]
    fn a_table_has_the_length_that_the_signed_size_leaves_it() {
        for (size, links) in [(0, 0), (1, 0), (PIECE, 0), (PIECE + 1, 1), (2 * PIECE, 1), (64 << 30, 65_535)] {
            assert_eq!(length(size), Ok(links * LINK), "{size}");
            assert!(PieceTable::parse(vec![0; links * LINK + 1].into(), size).is_err());
        }
        assert_eq!(length((64 << 30) + 1), Err(TableError::TooLarge((64 << 30) + 1)));
        assert!(pieces_of(u64::MAX).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// It is SHA-256, however it is fed.
        #[test]
        fn it_is_sha_256(size in 0..300_usize, chunk in 1..200_usize) {
            let content = content(size);
            let expected = NarHash::new(Sha256::digest(&content).into());
            prop_assert_eq!(hashed(&content, chunk).0, expected);
        }

        /// Whatever is told as a table and sent as a piece, nothing panics, and what is not the piece does not fit the true table.
        #[test]
        fn anything_may_be_told(bytes in proptest::collection::vec(any::<u8>(), 0..200), size: u64, number: u32) {
            if let Ok(table) = PieceTable::parse(bytes.clone().into(), size) {
                let _ = table.fits((&NarHash::new([0; 32]), size), number, &bytes);
            }
        }
    }
}

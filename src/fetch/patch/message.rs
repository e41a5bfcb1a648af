//! What is asked: `POST /peernix/v1/patch/HASH-NARHASH`, as it is written.
//!
//! The request is the byte of the NAR from which on it is wanted (8 bytes, little-endian), and then one to [`BASES_MAX`] bases, the best first:
//! the hash part (20 bytes) and the SHA-256 of the NAR (32 bytes) of each. The answer names the base that was taken in [`BASE_HEADER`], as
//! `HASH-NARHASH`; its body is the frames of the patch from the one on that has that byte.

use crate::nix::{NarHash, StoreHash};
pub(crate) use crate::peers::link::PATCH as TARGET;
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The header of an answer that names the base.
pub const BASE_HEADER: &str = "peernix-base";
/// The most bases that are named.
pub const BASES_MAX: usize = 8;
/// The longest request, in bytes.
pub const REQUEST_MAX: usize = FROM + BASES_MAX * BASE;

const FROM: usize = 8;
const HASH: usize = 20;
const BASE: usize = HASH + 32;

/// A NAR that may serve as a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseName {
    /// The path that it is of.
    pub hash: StoreHash,
    /// Its SHA-256.
    pub nar_hash: NarHash,
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.nar_hash.to_nix32())
    }
}

/// A text or a body that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no base, or too many, or something else")]
pub struct MessageError;

impl FromStr for BaseName {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let (hash, nar_hash) = text.split_once('-').ok_or(MessageError)?;
        let hash = hash.parse().map_err(|_| MessageError)?;
        Ok(Self { hash, nar_hash: NarHash::from_nix32(nar_hash).map_err(|_| MessageError)? })
    }
}

/// The body of a request.
#[must_use]
pub fn request(from: u64, bases: &[BaseName]) -> Bytes {
    let bases = bases.iter().take(BASES_MAX);
    let bytes = bases.flat_map(|base| base.hash.as_bytes().iter().chain(base.nar_hash.as_bytes()));
    from.to_le_bytes().iter().chain(bytes).copied().collect()
}

/// Reads a request.
///
/// # Errors
/// It is none.
pub fn parse_request(body: &[u8]) -> Result<(u64, Vec<BaseName>), MessageError> {
    let (from, bases) = body.split_first_chunk::<FROM>().ok_or(MessageError)?;
    let (bases, rest) = bases.as_chunks::<BASE>();
    if !rest.is_empty() || bases.is_empty() || bases.len() > BASES_MAX {
        return Err(MessageError);
    }
    let read = |base: &[u8; BASE]| {
        let (hash, nar_hash) = base.split_first_chunk::<HASH>()?;
        Some(BaseName { hash: StoreHash::new(*hash), nar_hash: NarHash::new(nar_hash.try_into().ok()?) })
    };
    let bases = bases.iter().map(read).collect::<Option<_>>().ok_or(MessageError)?;
    Ok((u64::from_le_bytes(*from), bases))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(number: u8) -> BaseName {
        BaseName { hash: StoreHash::new([number; HASH]), nar_hash: NarHash::new([number; 32]) }
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        let bases: Vec<BaseName> = (0..20).map(base).collect();
        for count in [1, 2, BASES_MAX] {
            let body = request(77, &bases[..count]);
            assert_eq!(parse_request(&body).unwrap(), (77, bases[..count].to_vec()));
            assert!(body.len() <= REQUEST_MAX);
        }
        assert_eq!(parse_request(&request(0, &bases)).unwrap().1.len(), BASES_MAX);
        let body = request(0, &bases[..2]);
        for length in [0, FROM - 1, FROM, FROM + 1, FROM + BASE - 1, body.len() - 1] {
            assert!(parse_request(&body[..length]).is_err(), "{length}");
        }
        assert!(parse_request(&[&body[..], &[0; BASES_MAX * BASE]].concat()).is_err());
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        assert_eq!(base(7).to_string().parse(), Ok(base(7)));
        for text in ["", "-", "a-b", &base(7).to_string()[1..]] {
            assert!(text.parse::<BaseName>().is_err(), "{text}");
        }
    }
}

//! Narinfos of several paths in one exchange: `POST /peernix/v1/narinfo`, as it is written.
//!
//! The request is the hash parts, 20 bytes each, one to [`HASHES_MAX`]. The answer is one record for each of them, in any order:
//!
//! ```text
//! 20 bytes   the hash part
//! 1 byte     0: there is no such path; 1: what follows is its narinfo
//! 2 bytes    the length of what is said of its signatures, the value of `Peernix-Signed-By`; 0: nothing is said
//! …          that
//! 4 bytes    the length of the narinfo
//! …          that
//! ```
//!
//! Numbers are little-endian. Of what has no record nothing is said: an answer ends before it would be longer than [`ANSWER_MAX`], and such
//! paths are asked for alone.

use super::trusted_keys::VALUE_MAX;
use crate::nix::StoreHash;
use crate::nix::narinfo::NARINFO_MAX;
use bytes::{Buf, Bytes};
use thiserror::Error;

/// The request target.
pub const TARGET: &str = "/peernix/v1/narinfo";
/// The feature of those who answer such requests.
pub const FEATURE: &str = "narinfo-batch";
/// The most paths in one request.
pub const HASHES_MAX: usize = 256;
/// The longest request, in bytes.
pub const REQUEST_MAX: usize = HASHES_MAX * HASH_LEN;
/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = 1024 * 1024;

const HASH_LEN: usize = 20;

/// What one record says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which path.
    pub hash: StoreHash,
    /// Its narinfo; `None`: there is no such path.
    pub narinfo: Option<Signed>,
}

/// A narinfo, and what is said of its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The value of the header that goes with a narinfo otherwise.
    pub signed_by: Option<Bytes>,
    /// The narinfo's text.
    pub text: Bytes,
}

/// Something is wrong with a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// It ends within a record.
    #[error("ends within a record")]
    Short,
    /// No path at all, too many, or one twice.
    #[error("not one to {HASHES_MAX} different paths")]
    Count,
    /// A text longer than allowed.
    #[error("a text of {0} bytes")]
    Long(usize),
    /// A number that means nothing.
    #[error("a record of kind {0}")]
    Kind(u8),
    /// A node id that is none.
    #[error("a node id that is none")]
    Node,
    /// A record of a path that nobody asked for.
    #[error("a record of a path that was not asked for")]
    Unasked,
}

/// The body of a request for these paths.
#[must_use]
pub fn request(hashes: impl Iterator<Item = StoreHash>) -> Bytes {
    hashes.flat_map(|hash| *hash.as_bytes()).collect()
}

/// Reads a request.
///
/// # Errors
/// It is none.
pub fn parse_request(body: &[u8]) -> Result<Vec<StoreHash>, BatchError> {
    let (hashes, rest) = body.as_chunks::<HASH_LEN>();
    if !rest.is_empty() {
        return Err(BatchError::Short);
    }
    let hashes: Vec<StoreHash> = hashes.iter().copied().map(StoreHash::new).collect();
    let mut sorted = hashes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if hashes.is_empty() || hashes.len() > HASHES_MAX || sorted.len() < hashes.len() {
        return Err(BatchError::Count);
    }
    Ok(hashes)
}

/// The body of an answer, record by record.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    most: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self::within(ANSWER_MAX)
    }
}

impl Answer {
    /// One that does not get longer than `most` bytes.
    #[must_use]
    pub const fn within(most: usize) -> Self {
        Self { bytes: Vec::new(), most }
    }

    /// Adds a record, unless the answer would be too long; whether it did. `signed_by` as in [`Signed`]; a text that is too long for a record is
    /// left out.
    pub fn add(&mut self, hash: StoreHash, narinfo: Option<(&[u8], &[u8])>) -> bool {
        let Some((signed_by, text)) = narinfo else {
            if self.bytes.len() + HASH_LEN >= self.most {
                return false;
            }
            self.bytes.extend_from_slice(hash.as_bytes());
            self.bytes.push(0);
            return true;
        };
        let (Ok(signed_len), Ok(text_len)) = (u16::try_from(signed_by.len()), u32::try_from(text.len())) else {
            return false;
        };
        if self.bytes.len() + HASH_LEN + 1 + 2 + signed_by.len() + 4 + text.len() > self.most {
            return false;
        }
        self.bytes.extend_from_slice(hash.as_bytes());
        self.bytes.push(1);
        self.bytes.extend_from_slice(&signed_len.to_le_bytes());
        self.bytes.extend_from_slice(signed_by);
        self.bytes.extend_from_slice(&text_len.to_le_bytes());
        self.bytes.extend_from_slice(text);
        true
    }

    /// The whole.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// Reads an answer to a request for `asked`. The texts are not looked into.
///
/// # Errors
/// It is none.
pub fn parse_answer(body: Bytes, asked: &[StoreHash]) -> Result<Vec<Record>, BatchError> {
    parse(body, |hash| asked.contains(&hash))
}

/// Reads an answer that may have records of what nobody asked for, up to [`HASHES_MAX`] in all.
///
/// # Errors
/// It is none.
pub fn parse_records(body: Bytes) -> Result<Vec<Record>, BatchError> {
    parse(body, |_| true)
}

fn parse(mut body: Bytes, may_be_there: impl Fn(StoreHash) -> bool) -> Result<Vec<Record>, BatchError> {
    let mut records: Vec<Record> = Vec::new();
    while body.has_remaining() {
        let mut hash = [0; HASH_LEN];
        body.try_copy_to_slice(&mut hash).map_err(|_| BatchError::Short)?;
        let hash = StoreHash::new(hash);
        if !may_be_there(hash) {
            return Err(BatchError::Unasked);
        }
        if records.len() == HASHES_MAX {
            return Err(BatchError::Count);
        }
        if records.iter().any(|record| record.hash == hash) {
            return Err(BatchError::Count);
        }
        let narinfo = match body.try_get_u8().map_err(|_| BatchError::Short)? {
            0 => None,
            1 => {
                let signed_len = body.try_get_u16_le().map_err(|_| BatchError::Short)?;
                let signed_by = text(&mut body, usize::from(signed_len), VALUE_MAX)?;
                let text_len = body.try_get_u32_le().map_err(|_| BatchError::Short)?;
                // Too large for an address is too large.
                let text = text(&mut body, usize::try_from(text_len).unwrap_or(usize::MAX), NARINFO_MAX)?;
                Some(Signed { signed_by: (!signed_by.is_empty()).then_some(signed_by), text })
            }
            other => return Err(BatchError::Kind(other)),
        };
        records.push(Record { hash, narinfo });
    }
    Ok(records)
}

/// The next `length` bytes, without a copy.
fn text(body: &mut Bytes, length: usize, most: usize) -> Result<Bytes, BatchError> {
    if length > most {
        return Err(BatchError::Long(length));
    }
    if length > body.len() {
        return Err(BatchError::Short);
    }
    Ok(body.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    #[test]
    fn a_request_names_each_path_once() {
        let body = request([hash(1), hash(2)].into_iter());
        assert_eq!(parse_request(&body), Ok(vec![hash(1), hash(2)]));
        assert_eq!(parse_request(&body[1..]), Err(BatchError::Short));
        assert_eq!(parse_request(b""), Err(BatchError::Count));
        assert_eq!(parse_request(&request([hash(1), hash(1)].into_iter())), Err(BatchError::Count));
        let numbered = |number: u64| {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            StoreHash::new(bytes)
        };
        let many = |count: u64| parse_request(&request((0..count).map(numbered)));
        assert_eq!(many(256).map(|hashes| hashes.len()), Ok(256));
        assert_eq!(many(257), Err(BatchError::Count));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut answer = Answer::default();
        let text = vec![b'x'; ANSWER_MAX / 2];
        answer.add(hash(1), Some((b"", &text)));
        answer.add(hash(2), Some((b"", &text)));
        answer.add(hash(3), None);
        let body = answer.into_bytes();
        assert!(body.len() <= ANSWER_MAX);
        let records = parse_answer(body, &[hash(1), hash(2), hash(3)]).unwrap();
        assert_eq!(records.iter().map(|record| record.hash).collect::<Vec<_>>(), [hash(1), hash(3)]);
    }

    #[test]
    fn nobody_says_more_than_was_asked() {
        let mut answer = Answer::default();
        answer.add(hash(1), None);
        let body = answer.into_bytes();
        assert_eq!(parse_answer(body.clone(), &[hash(2)]), Err(BatchError::Unasked));
        let twice = Bytes::from([&body[..], &body[..]].concat());
        assert_eq!(parse_answer(twice, &[hash(1)]), Err(BatchError::Count));
        let mut odd = body.to_vec();
        odd[20] = 2;
        assert_eq!(parse_answer(odd.into(), &[hash(1)]), Err(BatchError::Kind(2)));
        let mut long = Answer::default();
        long.add(hash(1), Some((&vec![b'x'; VALUE_MAX + 1], b"")));
        assert_eq!(parse_answer(long.into_bytes(), &[hash(1)]), Err(BatchError::Long(VALUE_MAX + 1)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_shorter_is(
            paths in proptest::collection::vec(proptest::option::of((".{0,20}", ".{0,200}")), 1..20),
        ) {
            let mut answer = Answer::default();
            let mut expected = Vec::new();
            for (number, narinfo) in paths.iter().enumerate() {
                let hash = hash(u8::try_from(number).unwrap());
                answer.add(hash, narinfo.as_ref().map(|(by, text)| (by.as_bytes(), text.as_bytes())));
                let narinfo = narinfo.as_ref().map(|(by, text)| Signed {
                    signed_by: Some(Bytes::from(by.clone())).filter(|by| !by.is_empty()),
                    text: text.clone().into(),
                });
                expected.push(Record { hash, narinfo });
            }
            let asked: Vec<StoreHash> = expected.iter().map(|record| record.hash).collect();
            let body = answer.into_bytes();
            prop_assert_eq!(parse_answer(body.clone(), &asked), Ok(expected.clone()));
            for end in 0..body.len() {
                if let Ok(records) = parse_answer(body.slice(..end), &asked) {
                    prop_assert_eq!(&records[..], &expected[..records.len()]);
                    prop_assert!(records.len() < expected.len());
                }
            }
        }
    }
}

//! Messages as they go over NATS: signed by the node key of who wrote them, for the one place that they are written to. Servers, and whoever
//! may publish there, can keep them back and tell old ones again, and no more.
//!
//! ```text
//! version     1 byte     1
//! node id     32 bytes   who wrote it
//! serial      8 bytes    microseconds since 1970 by its clock, big-endian: of two messages to one place the later one counts
//! membership  2 bytes    the length of what follows, big-endian; 0: none
//! …                      that the writer is a member of a fleet, as in a greeting
//! payload     …
//! signature   64 bytes   ed25519, of CONTEXT, the place, a zero byte and all before
//! ```

use super::error::SiteError;
use crate::peers::hello::MEMBERSHIP_MAX;
use crate::peers::{NodeId, NodeKey};
use bytes::{Buf, Bytes};

/// What every signature begins with, so that none of them means anything elsewhere.
const CONTEXT: &[u8] = b"peernix-sites-v1\0";
const VERSION: u8 = 1;
const SIGNATURE: usize = 64;
/// All that is not payload nor membership, in bytes.
pub(super) const OVERHEAD: usize = 1 + 32 + 8 + 2 + SIGNATURE;

/// A message whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) serial: u64,
    pub(super) membership: Option<String>,
    pub(super) payload: Bytes,
}

/// Writes a message to `place`.
pub(super) fn seal(key: &NodeKey, membership: Option<&str>, place: &str, serial: u64, payload: &[u8]) -> Bytes {
    let membership = membership.filter(|text| text.len() <= MEMBERSHIP_MAX).unwrap_or_default();
    let mut bytes = Vec::with_capacity(OVERHEAD + membership.len() + payload.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(key.id().as_bytes());
    bytes.extend_from_slice(&serial.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(membership.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(membership.as_bytes());
    bytes.extend_from_slice(payload);
    let signature = key.sign(&signed(place, &bytes));
    bytes.extend_from_slice(&signature);
    bytes.into()
}

/// Reads a message that was found at `place`.
///
/// # Errors
/// It has another form, or its signature is not by who it says.
pub(super) fn open(bytes: &Bytes, place: &str) -> Result<Envelope, SiteError> {
    let length = bytes.len().checked_sub(SIGNATURE).ok_or(SiteError::Malformed("it is too short"))?;
    let mut rest = bytes.slice(..length);
    let short = |_| SiteError::Malformed("it is too short");
    if rest.try_get_u8().map_err(short)? != VERSION {
        return Err(SiteError::Malformed("it is of another version"));
    }
    let mut id = [0; 32];
    rest.try_copy_to_slice(&mut id).map_err(short)?;
    let from = NodeId::from_bytes(id).map_err(|_| SiteError::Malformed("its node id is none"))?;
    let serial = rest.try_get_u64().map_err(short)?;
    let membership = usize::from(rest.try_get_u16().map_err(short)?);
    if membership > MEMBERSHIP_MAX || membership > rest.remaining() {
        return Err(SiteError::Malformed("its membership is too long"));
    }
    let membership = std::str::from_utf8(&rest.split_to(membership))
        .map_err(|_| SiteError::Malformed("its membership is no text"))
        .map(|text| (!text.is_empty()).then(|| text.to_owned()))?;
    let signature: &[u8; 64] = bytes[length..].try_into().map_err(|_| SiteError::Signature)?;
    if !from.signed(&signed(place, &bytes[..length]), signature) {
        return Err(SiteError::Signature);
    }
    Ok(Envelope { from, serial, membership, payload: rest })
}

/// What is signed.
fn signed(place: &str, bytes: &[u8]) -> Vec<u8> {
    [CONTEXT, place.as_bytes(), b"\0", bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> NodeKey {
        NodeKey::from_seed([seed; 32])
    }

    #[test]
    fn who_wrote_it_and_where_to_is_proved() {
        let sealed = seal(&key(1), Some("member"), "peernix_index/berlin.meta", 7, b"payload");
        let read = open(&sealed, "peernix_index/berlin.meta").unwrap();
        assert_eq!((read.from, read.serial, &read.payload[..]), (key(1).id(), 7, &b"payload"[..]));
        assert_eq!(read.membership.as_deref(), Some("member"));
        assert_eq!(open(&sealed, "peernix_index/paris.meta"), Err(SiteError::Signature));
        let mut other = sealed.to_vec();
        other[1..33].copy_from_slice(key(2).id().as_bytes());
        assert_eq!(open(&other.into(), "peernix_index/berlin.meta"), Err(SiteError::Signature));
    }

    proptest! {
        #[test]
        fn nothing_can_be_changed_or_left_out(
            payload: Vec<u8>, serial: u64, membership in ".{0,20}", at: prop::sample::Index, flip in 1..=255u8,
        ) {
            let sealed = seal(&key(1), Some(&membership), "place", serial, &payload);
            let read = open(&sealed, "place").unwrap();
            prop_assert_eq!((read.serial, &read.payload[..]), (serial, &payload[..]));
            prop_assert_eq!(read.membership.unwrap_or_default(), membership);
            let mut changed = sealed.to_vec();
            changed[at.index(sealed.len())] ^= flip;
            prop_assert!(open(&changed.into(), "place").is_err());
            prop_assert!(open(&sealed.slice(..at.index(sealed.len())), "place").is_err());
        }

        #[test]
        fn nothing_of_a_stranger_panics(bytes: Vec<u8>) {
            let _ = open(&bytes.into(), "place");
        }
    }
}

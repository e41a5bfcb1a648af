//! Signatures of path infos, written `name:base64`; see [`super::key`].
//!
//! Nix's are ed25519. Others have other algorithms (ML-DSA, ECDSA), whose signatures stand beside these in the same
//! fields. Those are never judged here: they are nobody's that counts, and are passed on as they are.

use super::{FormatError, base64};
use data_encoding::BASE64;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The longest key name accepted, in bytes. Nix sets no limit; real ones have a few dozen.
pub const KEY_NAME_MAX: usize = 255;

/// The most signatures read with one object; the others are passed over. Each that names a trusted key costs 50 µs, so
/// that 1 MiB of them would cost half a second; honest objects have one to three.
pub const SIGNATURES_MAX: usize = 64;

/// The longest signature read, in characters. The largest of ML-DSA takes 6,172 and its key's name, the smallest of
/// SLH-DSA 10,476; ed25519 takes 88.
pub const SIGNATURE_MAX: usize = 16 * 1024;

/// Splits `name:base64` at its colon.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (name, encoded) = text.trim_end_matches(['\n', '\r', ' ']).split_once(':')?;
    let named = !name.is_empty() && name.len() <= KEY_NAME_MAX && name.bytes().all(|c| c.is_ascii_graphic());
    named.then_some((name, encoded))
}

/// Splits `name:base64` and decodes the second part into exactly `N` bytes.
pub(super) fn split<const N: usize>(text: &str) -> Option<(&str, Zeroizing<[u8; N]>)> {
    let (name, encoded) = parts(text)?;
    let mut bytes = Zeroizing::new([0; N]);
    base64::decode_into(encoded, bytes.as_mut_slice())?;
    Some((name, bytes))
}

/// A signature with the name of its key. Displayed as in a narinfo's `Sig`, exactly as it was read.
#[derive(Debug, Clone)]
pub struct Signature {
    text: Box<str>,
    /// Where the colon is.
    colon: usize,
    /// The bytes, if it has as many as one of ed25519.
    bytes: Option<[u8; 64]>,
}

impl Signature {
    /// An ed25519 signature by the key `name`, which has no colon in it.
    pub(super) fn new(name: &str, bytes: [u8; 64]) -> Self {
        let text = format!("{name}:{}", BASE64.encode(&bytes)).into();
        Self { text, colon: name.len(), bytes: Some(bytes) }
    }

    /// The name of the key that made it.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The part behind the colon.
    #[must_use]
    pub fn encoded(&self) -> &str {
        &self.text[self.colon + 1..]
    }

    /// Whether it can be one of ed25519, by its length: the others cannot be verified here.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.bytes.is_some()
    }

    /// The same with all its padding, if it is one of ed25519.
    #[must_use]
    pub fn canonical(&self) -> Option<Self> {
        self.bytes.map(|bytes| Self::new(self.key_name(), bytes))
    }

    /// The bytes of an ed25519 signature.
    pub(super) const fn bytes(&self) -> Option<&[u8; 64]> {
        self.bytes.as_ref()
    }
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Signature {}

impl Hash for Signature {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for Signature {
    type Err = FormatError;

    /// Reads what Nix takes for a signature: a name, and base-64 of whatever length, padded or not.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (name, encoded) = parts(text).filter(|_| text.len() <= SIGNATURE_MAX).ok_or(FormatError::Signature)?;
        if !base64::encodes_something(encoded) {
            return Err(FormatError::Signature);
        }
        let mut bytes = [0; 64];
        let bytes = base64::decode_into(encoded, &mut bytes).map(|()| bytes);
        Ok(Self { text: text[..=name.len() + encoded.len()].into(), colon: name.len(), bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_every_length_stay_as_they_are() {
        let ed25519 = BASE64.encode(&[7; 64]);
        for (encoded, is_readable) in [
            (ed25519.as_str(), true),
            (ed25519.trim_end_matches('='), true),
            // ECDSA in DER, ML-DSA-44, and one byte.
            (BASE64.encode(&[7; 71]).as_str(), false),
            (BASE64.encode(&[7; 2420]).as_str(), false),
            ("AA==", false),
        ] {
            let text = format!("cache.example.org-1:{encoded}");
            let signature: Signature = text.parse().unwrap();
            assert_eq!((signature.to_string(), signature.is_readable()), (text, is_readable));
            assert_eq!((signature.key_name(), signature.encoded()), ("cache.example.org-1", encoded));
        }
        let padded: Signature = format!("a-1:{ed25519}\n").parse().unwrap();
        assert_eq!(padded, Signature::new("a-1", [7; 64]));
    }

    #[test]
    fn what_nix_refuses_is_no_signature() {
        let long = format!("a-1:{}", "A".repeat(SIGNATURE_MAX));
        let long_name = format!("{}:AAAA", "a".repeat(KEY_NAME_MAX + 1));
        for text in
            ["", ":", "a", "a:", ":AAAA", "a:=", "a:A", "a:AA AA", "a:AA:AA", "a:é", "a b:AAAA", &long, &long_name]
        {
            assert_eq!(text.parse::<Signature>(), Err(FormatError::Signature), "{text}");
        }
    }
}

//! Who a machine is on the network: the public half of its node key, which names it.
//!
//! The node key proves identity inside TLS ([RFC 7250](https://www.rfc-editor.org/rfc/rfc7250) raw public keys) and
//! between sites what machines tell each other over NATS: it never signs store paths.

use crate::nix::{FormatError, base32};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// DER of a `SubjectPublicKeyInfo` for ed25519 up to its 32 bytes of key
/// ([RFC 8410](https://www.rfc-editor.org/rfc/rfc8410) section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A machine's name on the network: its ed25519 public key. Displayed as 52 characters of Nix base-32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// How many characters it has as text.
    pub const TEXT_LEN: usize = base32::encoded_len(32);

    /// From the bytes of a public key.
    ///
    /// # Errors
    /// Bytes that are no point of the curve, or one of small order, for which anyone can forge signatures.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, FormatError> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(FormatError::KeyBytes(bytes.len())),
        }
    }

    /// The public half of a key of our own.
    pub(crate) fn of(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }

    /// The bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it signed `message`.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }

    /// From what TLS carries: the DER of a `SubjectPublicKeyInfo`.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, FormatError> {
        let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
        Self::from_bytes(key.ok_or(FormatError::Key("raw public key", 32))?)
    }

    /// What TLS carries.
    pub(super) fn to_spki(self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32::encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Self::from_bytes(base32::decode(text)?)
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    #[test]
    fn weak_and_malformed_keys_are_no_identity() {
        // The neutral element: any signature verifies for it.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(NodeId::from_bytes(neutral).is_err());
        assert!(base32::encode(&neutral).parse::<NodeId>().is_err());
        let key = NodeKey::from_seed([1; 32]).id();
        assert!(NodeId::from_spki(&key.to_spki()[..43]).is_err());
        assert!(NodeId::from_spki(&[key.to_spki(), vec![0]].concat()).is_err());
        assert!(serde_json::from_str::<NodeId>("7").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}", der in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _: Result<NodeId, _> = text.parse();
            let _ = NodeId::from_spki(&der);
        }
    }
}

//! Signatures of path infos, written `name:base64`; see [`super::key`].

use super::{FormatError, base64};
use data_encoding::BASE64;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The longest key name accepted, in bytes. Nix sets no limit; real ones have a few dozen.
pub const KEY_NAME_MAX: usize = 255;

/// The most signatures read with one object. Each that names a trusted key costs 50 µs, so that 1 MiB of them would cost
/// half a second; honest objects have one to three.
pub const SIGNATURES_MAX: usize = 64;

/// Splits `name:base64` and decodes the second part into exactly `N` bytes.
pub(super) fn split<const N: usize>(text: &str) -> Option<(&str, Zeroizing<[u8; N]>)> {
    let (name, encoded) = text.trim_end_matches(['\n', '\r', ' ']).split_once(':')?;
    let named = !name.is_empty() && name.len() <= KEY_NAME_MAX && name.bytes().all(|c| c.is_ascii_graphic());
    if !named {
        return None;
    }
    let mut bytes = Zeroizing::new([0; N]);
    base64::decode_into(encoded, bytes.as_mut_slice())?;
    Some((name, bytes))
}

/// A signature with the name of its key. Displayed as in a narinfo's `Sig`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    pub(super) key_name: Box<str>,
    pub(super) bytes: [u8; 64],
}

impl Signature {
    /// The name of the key that made it.
    #[must_use]
    pub fn key_name(&self) -> &str {
        &self.key_name
    }
}

impl FromStr for Signature {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (name, bytes) = split::<64>(text).ok_or(FormatError::Signature)?;
        Ok(Self { key_name: name.into(), bytes: *bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, BASE64.encode(&self.bytes))
    }
}

//! Content addresses: how the name of a path follows from its content.
//!
//! Source: the Nix manual, [store path specification](https://nix.dev/manual/nix/stable/protocols/store-path).

use super::hash::Hash;
use super::{FormatError, base32, error::quote};
use std::fmt;
use std::str::FromStr;

/// What was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The bytes of a text file that may have references (`text:`), as in derivations.
    Text,
    /// The bytes of a plain file (`fixed:`).
    Flat,
    /// The NAR (`fixed:r:`).
    Recursive,
    /// The git tree (`fixed:git:`).
    Git,
}

/// The longest content address kept, in characters: the longest of those that are known has 148.
const CONTENT_ADDRESS_MAX: usize = 255;

/// A `CA` field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ContentAddress {
    /// A method and a hash.
    Known {
        /// What was hashed.
        method: Method,
        /// The hash of it.
        hash: Hash,
    },
    /// Of a kind that Nix had not when this was written. It proves nothing, and is passed on as it is.
    Unknown(Box<str>),
}

impl ContentAddress {
    fn known(text: &str) -> Option<Self> {
        let (method, hash) = if let Some(hash) = text.strip_prefix("text:") {
            (Method::Text, hash)
        } else if let Some(hash) = text.strip_prefix("fixed:r:") {
            (Method::Recursive, hash)
        } else if let Some(hash) = text.strip_prefix("fixed:git:") {
            (Method::Git, hash)
        } else {
            (Method::Flat, text.strip_prefix("fixed:")?)
        };
        // SRI has no place here: the prefix is colon-separated throughout.
        let hash = hash.parse().ok().filter(|_| hash.contains(':'))?;
        Some(Self::Known { method, hash })
    }
}

impl FromStr for ContentAddress {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        if let Some(known) = Self::known(text) {
            return Ok(known);
        }
        let is_plain = text.bytes().all(|c| c.is_ascii_graphic());
        if !is_plain || text.is_empty() || text.len() > CONTENT_ADDRESS_MAX {
            return Err(FormatError::ContentAddress(quote(text)));
        }
        Ok(Self::Unknown(text.into()))
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, hash) = match self {
            Self::Known { method, hash } => (method, hash),
            Self::Unknown(text) => return f.write_str(text),
        };
        let method = match method {
            Method::Text => "text:",
            Method::Flat => "fixed:",
            Method::Recursive => "fixed:r:",
            Method::Git => "fixed:git:",
        };
        write!(f, "{method}{}:{}", hash.algorithm().name(), base32::encode(hash.digest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::NarHash;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_is_kept() {
        let blake3 = "fixed:r:blake3:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        assert!(matches!(blake3.parse(), Ok(ContentAddress::Known { method: Method::Recursive, .. })));
        for text in ["fixed:r:sha3:00", "tree:sha256:00", "fixed:sha256-47DEQpj8HBSa", blake3] {
            assert_eq!(text.parse::<ContentAddress>().unwrap().to_string(), text);
        }
        for text in ["", "fixed:r: sha256", "a\nb", "é", &"x".repeat(CONTENT_ADDRESS_MAX + 1)] {
            assert!(text.parse::<ContentAddress>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(digest in any::<[u8; 32]>(), method in 0..4) {
            let method = ["text", "fixed", "fixed:r", "fixed:git"][usize::try_from(method).unwrap()];
            let text = format!("{method}:{}", NarHash::new(digest));
            prop_assert_eq!(text.parse::<ContentAddress>().unwrap().to_string(), text);
        }

        #[test]
        fn never_panics(text in ".{0,120}") {
            let _: Result<ContentAddress, _> = text.parse();
        }
    }
}

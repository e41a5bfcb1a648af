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

/// A `CA` field: a method and a hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentAddress {
    /// What was hashed.
    pub method: Method,
    /// The hash of it.
    pub hash: Hash,
}

impl FromStr for ContentAddress {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let malformed = || FormatError::ContentAddress(quote(text));
        let (method, hash) = if let Some(hash) = text.strip_prefix("text:") {
            (Method::Text, hash)
        } else if let Some(hash) = text.strip_prefix("fixed:r:") {
            (Method::Recursive, hash)
        } else if let Some(hash) = text.strip_prefix("fixed:git:") {
            (Method::Git, hash)
        } else if let Some(hash) = text.strip_prefix("fixed:") {
            (Method::Flat, hash)
        } else {
            return Err(malformed());
        };
        // SRI has no place here: the prefix is colon-separated throughout.
        if !hash.contains(':') {
            return Err(malformed());
        }
        Ok(Self { method, hash: hash.parse().map_err(|_| malformed())? })
    }
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Text => "text:",
            Method::Flat => "fixed:",
            Method::Recursive => "fixed:r:",
            Method::Git => "fixed:git:",
        };
        write!(f, "{method}{}:{}", self.hash.algorithm().name(), base32::encode(self.hash.digest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::NarHash;
    use proptest::prelude::*;

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

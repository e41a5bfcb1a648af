//! What a site is called.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes.
pub(super) const NAME_MAX: usize = 32;

/// A site's name: letters, digits, `-` and `_`, so that it is one token of a NATS subject and a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteName(Arc<str>);

/// Not the name of a site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a site's name is one to {NAME_MAX} letters, digits, '-' and '_'")]
pub struct BadSiteName;

impl SiteName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SiteName {
    type Err = BadSiteName;

    fn from_str(text: &str) -> Result<Self, BadSiteName> {
        let fits = (1..=NAME_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if fits { Ok(Self(text.into())) } else { Err(BadSiteName) }
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for SiteName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_token_of_a_subject() {
        for good in ["berlin", "HQ-2", "a_b", &"x".repeat(NAME_MAX)] {
            assert_eq!(good.parse::<SiteName>().unwrap().to_string(), good);
        }
        for bad in ["", "a.b", "*", ">", "a b", "ä", "a/b", &"x".repeat(NAME_MAX + 1)] {
            assert_eq!(bad.parse::<SiteName>(), Err(BadSiteName), "{bad}");
        }
    }
}

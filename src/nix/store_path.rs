//! Store paths: `/nix/store/` + 32 characters of hash + `-` + name.
//!
//! Source: the Nix manual, [store path specification](https://nix.dev/manual/nix/stable/protocols/store-path), and for
//! the name's alphabet and length what Nix itself enforces.

use super::{FormatError, base32, error::quote};
use std::fmt;
use std::str::FromStr;

/// The longest name Nix gives a store path, in bytes.
pub const NAME_MAX: usize = 211;

/// Whether `name` may follow the hash in a store path, or be the name of an output.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c);
    let dots = |prefix| name.strip_prefix(prefix).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('-'));
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(allowed) && !dots(".") && !dots("..")
}

/// The hash part of a store path: 20 bytes, 32 characters. What a substituter is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreHash([u8; 20]);

impl StoreHash {
    /// How many characters it has.
    pub const LEN: usize = 32;

    /// From its 20 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its 20 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Its first eight bytes: enough to tell the paths of all stores apart.
    #[must_use]
    pub fn prefix(&self) -> [u8; 8] {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&self.0[..8]);
        prefix
    }
}

impl FromStr for StoreHash {
    type Err = FormatError;

    /// Reads 32 characters of Nix base-32 and nothing else.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        base32::decode(text).map(Self).map_err(|_| FormatError::StoreHash)
    }
}

impl fmt::Display for StoreHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for StoreHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A store path without its store directory. Displayed as its base name, `hash-name`; ordered as that text is, because
/// signatures and NARs depend on the order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StorePath {
    hash: StoreHash,
    name: Box<str>,
}

impl StorePath {
    /// Puts a path together.
    ///
    /// # Errors
    /// A name that Nix does not allow.
    pub fn new(hash: StoreHash, name: &str) -> Result<Self, FormatError> {
        if !is_name(name) {
            return Err(FormatError::StorePathName);
        }
        Ok(Self { hash, name: name.into() })
    }

    /// The part before the first dash.
    #[must_use]
    pub const fn hash(&self) -> StoreHash {
        self.hash
    }

    /// The part after it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for StorePath {
    type Err = FormatError;

    /// Reads a base name, `hash-name`.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (hash, name) = text.split_once('-').ok_or(FormatError::StoreHash)?;
        Self::new(hash.parse()?, name)
    }
}

impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Base-32 starts at the last byte: the texts compare as the reversed bytes do.
        let reversed = |path: &Self| {
            let mut bytes = path.hash.0;
            bytes.reverse();
            bytes
        };
        reversed(self).cmp(&reversed(other)).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The directory that holds store paths, as it is written in them: `/nix/store` nearly everywhere.
///
/// This is the *logical* directory. Where the files really are is the store room's affair.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreDir(Box<str>);

impl StoreDir {
    /// Checks and takes a directory.
    ///
    /// # Errors
    /// Anything but an absolute path in normal form.
    pub fn new(dir: &str) -> Result<Self, FormatError> {
        let normal = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\n', '\0']);
        match dir.strip_prefix('/') {
            Some(rest) if rest.split('/').all(normal) => Ok(Self(dir.into())),
            _ => Err(FormatError::StoreDir(quote(dir))),
        }
    }

    /// The directory, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full text of `path`, as in narinfos and fingerprints.
    #[must_use]
    pub fn join(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.0)
    }

    /// Reads the full text of a store path.
    ///
    /// # Errors
    /// A path that is not directly inside this directory, or is no store path.
    pub fn parse(&self, text: &str) -> Result<StorePath, FormatError> {
        text.strip_prefix(self.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| FormatError::NotInStore(quote(text), self.0.to_string()))?
            .parse()
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";

    #[test]
    fn paths_of_nix_are_read() {
        let dir = StoreDir::default();
        let path = dir.parse(&format!("/nix/store/{HASH}-hello-2.12.1")).unwrap();
        assert_eq!(path.hash().to_string(), HASH);
        assert_eq!(path.name(), "hello-2.12.1");
        assert_eq!(dir.join(&path), format!("/nix/store/{HASH}-hello-2.12.1"));
    }

    #[test]
    fn names_that_nix_refuses_are_refused() {
        for name in ["", ".", "..", ".-x", "..-x", "a/b", "a b", "ä", "a\nb", &"x".repeat(212)] {
            let text = format!("{HASH}-{name}");
            assert_eq!(text.parse::<StorePath>(), Err(FormatError::StorePathName), "{name:?}");
        }
        for name in [".x", "..x", "a+b._?=-Z", &"x".repeat(211)] {
            assert!(format!("{HASH}-{name}").parse::<StorePath>().is_ok(), "{name:?}");
        }
    }

    #[test]
    fn only_direct_children_of_the_store_are_paths() {
        let dir = StoreDir::default();
        for text in ["/nix/store", "/nix/store/", "/nix/storex", "/other/store/x", "nix/store/x"] {
            assert!(dir.parse(text).is_err(), "{text}");
        }
        assert!(dir.parse(&format!("/nix/store/{HASH}-a/bin")).is_err());
        assert!(dir.parse(&format!("/nix/store/./{HASH}-a")).is_err());
    }

    #[test]
    fn store_directories_are_normal_paths() {
        for dir in ["", "/", "nix/store", "/nix/store/", "/nix//store", "/nix/../store", "/nix/./store"] {
            assert!(StoreDir::new(dir).is_err(), "{dir}");
        }
        assert_eq!(StoreDir::new("/nix/store").unwrap(), StoreDir::default());
    }

    proptest! {
        #[test]
        fn ordered_as_the_text(a in any::<([u8; 20], u8)>(), b in any::<([u8; 20], u8)>()) {
            let path = |(hash, name): ([u8; 20], u8)| {
                StorePath::new(StoreHash::new(hash), &format!("n{name}")).unwrap()
            };
            let (a, b) = (path(a), path(b));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn round_trip(hash in any::<[u8; 20]>(), name in "[0-9a-zA-Z+_?=-][0-9a-zA-Z+._?=-]{0,210}") {
            let path = StorePath::new(StoreHash::new(hash), &name).unwrap();
            prop_assert_eq!(path.to_string().parse::<StorePath>().unwrap(), path);
        }

        #[test]
        fn never_panics(text in "\\PC{0,260}") {
            let _: Result<StorePath, _> = text.parse();
            let _: Result<StoreDir, _> = StoreDir::new(&text);
        }
    }
}

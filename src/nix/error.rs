//! What can be wrong with a text or a byte stream in one of Nix's formats.

use thiserror::Error;

/// A value that does not have the form that Nix gives it.
///
/// The messages name the format and what was expected; the caller knows where the value came from and adds it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A character outside Nix's base-32 alphabet.
    #[error("'{0}' is not a character of Nix base-32 (digits and lower-case letters without e, o, u, t)")]
    Base32Character(char),
    /// A base-32 text whose length no byte string encodes to, or whose spare bits are not zero.
    #[error("{0} characters of Nix base-32 do not encode a whole number of bytes")]
    Base32Length(usize),
    /// A hash of an algorithm that Nix does not know.
    #[error("unknown hash algorithm '{0}' (expected md5, sha1, sha256, sha512 or blake3)")]
    HashAlgorithm(String),
    /// A hash whose text does not have the length or alphabet of its algorithm.
    #[error("malformed {0} hash (expected base-16, Nix base-32 or base-64 of {1} bytes)")]
    Hash(&'static str, usize),
    /// A hash without its algorithm.
    #[error("a hash must name its algorithm, as in 'sha256:…' or 'sha256-…'")]
    HashWithoutAlgorithm,
    /// A hash other than SHA-256 where only that is allowed.
    #[error("expected a sha256 hash, found {0}")]
    NotSha256(&'static str),
    /// The hash part of a store path.
    #[error("a store hash has 32 characters of Nix base-32")]
    StoreHash,
    /// The name of a store path.
    #[error("malformed store path name (1 to 211 of the characters 0-9 a-z A-Z + - . _ ? =, not '.' or '..')")]
    StorePathName,
    /// A path outside the store directory, or deeper than its top level.
    #[error("'{0}' is not a path directly inside the store directory {1}")]
    NotInStore(String, String),
    /// A store directory that is not an absolute, normal path.
    #[error("'{0}' is not an absolute path without '.', '..', doubled or trailing slashes")]
    StoreDir(String),
    /// A key that is not `name:base64`.
    #[error("malformed {0} (expected 'name:base64 of {1} bytes')")]
    Key(&'static str, usize),
    /// The two halves of a secret key do not belong together, or the bytes are no key.
    #[error("these {0} bytes are not an ed25519 key")]
    KeyBytes(usize),
    /// A signature that is not `key name:base64`.
    #[error("malformed signature (expected 'key name:base64')")]
    Signature,
    /// A content address.
    #[error("malformed content address '{0}' (expected a text without blanks, such as 'fixed:r:sha256:…')")]
    ContentAddress(String),
    /// What names an output of a derivation.
    #[error("malformed output '{0}' (expected '{1}' and the name of an output)")]
    DrvOutput(String, &'static str),
    /// A line of a narinfo or nix-cache-info without ': ', or that was cut.
    #[error("line {0} is not of the form 'Key: value'")]
    Line(usize),
    /// A field that may stand there once was there twice.
    #[error("field {0} occurs twice")]
    Duplicate(&'static str),
    /// A mandatory field was missing or empty.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field whose value is malformed.
    #[error("field {0}: {1}")]
    Field(&'static str, Box<FormatError>),
    /// A number that is not one, or is out of range.
    #[error("'{0}' is not a number in the range allowed")]
    Number(String),
    /// A name that no directory entry can have.
    #[error("'{0}' cannot be the name of a directory entry")]
    EntryName(String),
    /// A name or target that is not UTF-8 where only text can stand.
    #[error("'{0}' is not UTF-8, which JSON needs")]
    NotUtf8(String),
    /// A text that is not the JSON expected, and what its parser says.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// The input is larger than any honest one.
    #[error("larger than the limit of {0} {1}")]
    TooLarge(usize, &'static str),
}

impl FormatError {
    /// Says in which field of a record the error was.
    pub(crate) fn in_field(self, field: &'static str) -> Self {
        Self::Field(field, Box::new(self))
    }

    /// What a JSON parser says; it may quote what a stranger wrote.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        Self::Json(quote(&error.to_string()))
    }
}

/// A value in an error message: at most 64 characters of it, without anything that could disturb a terminal or a log.
pub(crate) fn quote(value: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String =
        value.chars().take(MOST).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '\u{fffd}' }).collect();
    if value.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

//! The keys that sign what was built here, and the keys that may sign what enters; both change while the service runs.
//!
//! [`SigningKeys`] has this machine's own keys and their way through life: a key is *active* and signs; once it is
//! replaced it is in *grace* and signs beside its successor, so that machines that know only one of the two find a
//! signature that counts; then it is *retired*: its secret half is destroyed, its public half still tells what was built
//! here. A key that is *revoked* signs nothing and vouches for nothing any more. [`TrustList`] has everybody else's keys.
//!
//! Keys are told apart by their [`fingerprint`]. Files are private, written whole or not at all, and one that is damaged
//! is reported and left as it is.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod ring;
mod signing;
mod stored;
mod trust;
mod trust_file;
mod view;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

pub use error::KeysError;
pub use signing::{KeySource, Rotated, Signing, SigningKeys, SigningOptions};
pub use trust::TrustList;
pub use view::{KeyState, KeyView, Managed, Origin, TrustedView};

use crate::nix::PublicKey;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The longest time that a replaced key may go on signing.
pub const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest name of a key of our own, in bytes: a host's name has up to 64, and there is room for a number.
pub const NAME_MAX: usize = 200;
/// The longest comment or reason, in bytes.
pub const COMMENT_MAX: usize = 256;
/// How many characters a fingerprint has.
pub const FINGERPRINT_LEN: usize = 16;

/// The short name of a key: the first 16 hexadecimal digits of the SHA-256 of its 32 public bytes. The name before the
/// colon is not part of it, because the one who made the key chose that.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    let mut digits = HEXLOWER.encode(&Sha256::digest(key.as_bytes()));
    digits.truncate(FINGERPRINT_LEN);
    digits
}

/// Checks a text that people wrote for people: a comment, a reason.
fn check_comment(text: &str) -> Result<(), KeysError> {
    let fits = text.len() <= COMMENT_MAX && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(KeysError::Comment) }
}

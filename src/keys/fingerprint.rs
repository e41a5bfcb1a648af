//! How keys are told apart.

use crate::nix::PublicKey;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

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

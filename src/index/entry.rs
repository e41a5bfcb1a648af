//! What stands for a store path in an index: 48 bits, too few to ask for the path by.

use sha2::{Digest, Sha256};
use std::fmt;

/// How many bits an entry has. Of two million paths four in a thousand million others would be taken for one of them.
pub(crate) const BITS: u32 = 48;
/// The length of a [`Salt`], in bytes.
pub(crate) const SALT: usize = 16;

/// What stands for a path: the first 48 bits of the SHA-256 of a salt and the beginning of its hash part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry([u8; 6]);

impl Entry {
    /// Of a number below 2^48.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number >> BITS != 0 {
            return None;
        }
        let [_, _, a, b, c, d, e, f] = number.to_be_bytes();
        Some(Self([a, b, c, d, e, f]))
    }

    /// The same as a number; entries are ordered as these are.
    #[must_use]
    pub const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.number())
    }
}

/// What the machines of a group make their entries with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt([u8; SALT]);

impl Salt {
    /// That of machines which talk to everybody: no secret.
    pub const OPEN: Self = Self(*b"peernix-index-v1");

    /// As it came.
    #[must_use]
    pub const fn new(bytes: [u8; SALT]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SALT] {
        &self.0
    }

    /// What stands for the path whose hash part begins with these eight bytes: as good as all twenty where 48 bits are left.
    #[must_use]
    pub fn entry(&self, prefix: [u8; 8]) -> Entry {
        let digest = Sha256::new().chain_update(self.0).chain_update(prefix).finalize();
        let mut entry = [0; 6];
        entry.copy_from_slice(&digest[..6]);
        Entry(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreHash;

    #[test]
    fn entries_are_numbers_of_48_bits() {
        let number = 0x1234_5678_9abc;
        let entry = Entry::new(number).unwrap();
        assert_eq!((entry.number(), format!("{entry:?}")), (number, "123456789abc".to_owned()));
        assert!(Entry::new(1 << 48).is_none() && Entry::new((1 << 48) - 1).is_some());
        assert!(Entry::new(255) < Entry::new(256));
    }

    #[test]
    fn an_entry_follows_from_salt_and_hash() {
        // The vector of docs/wire-protocol.md.
        let hash: StoreHash = "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr".parse().unwrap();
        let entry = Salt::OPEN.entry(hash.prefix());
        assert_ne!(entry, Salt::new([0; SALT]).entry(hash.prefix()));
        assert!(include_str!("../../docs/wire-protocol.md").contains(&format!("\n    {entry:?}\n")), "{entry:?}");
    }
}

//! Hashes as Nix writes them: `sha256:` and base-16 or Nix base-32, or SRI (`sha256-` and base-64).

use super::{FormatError, base32, base64};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use std::fmt;
use std::str::FromStr;

/// A hash algorithm that Nix knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// 16 bytes; only in old fixed-output derivations.
    Md5,
    /// 20 bytes; only in old fixed-output derivations.
    Sha1,
    /// 32 bytes; the one that matters.
    Sha256,
    /// 64 bytes.
    Sha512,
    /// 32 bytes; of content addresses only, since Nix 2.27 and where that is switched on.
    Blake3,
}

impl HashAlgorithm {
    /// The name before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// The length of a digest in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl FromStr for HashAlgorithm {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        match name {
            "md5" => Ok(Self::Md5),
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            "blake3" => Ok(Self::Blake3),
            _ => Err(FormatError::HashAlgorithm(super::error::quote(name))),
        }
    }
}

/// A digest with its algorithm. Displayed as Nix does in narinfos: `sha256:` and Nix base-32.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hash {
    algorithm: HashAlgorithm,
    /// `algorithm.size()` bytes.
    digest: Vec<u8>,
}

impl Hash {
    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The digest, as long as the algorithm says.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// The digest in base-16, as it enters the computation of store paths.
    #[must_use]
    pub fn to_base16(&self) -> String {
        HEXLOWER.encode(&self.digest)
    }

    /// Reads the digest part, in whichever of the three alphabets its length tells.
    fn parse_digest(algorithm: HashAlgorithm, text: &str) -> Result<Self, FormatError> {
        let size = algorithm.size();
        let malformed = || FormatError::Hash(algorithm.name(), size);
        let digest = if text.len() == size * 2 {
            // Nix reads upper-case hexadecimal too.
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| malformed())?
        } else if text.len() == base32::encoded_len(size) {
            let mut digest = vec![0; size];
            base32::decode_into(text, &mut digest).map_err(|_| malformed())?;
            digest
        } else if text.len() == size.div_ceil(3) * 4 {
            return Self::parse_base64(algorithm, text);
        } else {
            return Err(malformed());
        };
        Ok(Self { algorithm, digest })
    }

    fn parse_base64(algorithm: HashAlgorithm, text: &str) -> Result<Self, FormatError> {
        let size = algorithm.size();
        let mut digest = vec![0; size];
        base64::decode_into(text, &mut digest).ok_or(FormatError::Hash(algorithm.name(), size))?;
        Ok(Self { algorithm, digest })
    }
}

impl FromStr for Hash {
    type Err = FormatError;

    /// Reads `algorithm:digest` (base-16, Nix base-32 or base-64) and SRI `algorithm-base64`.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        if let Some((algorithm, digest)) = text.split_once(':') {
            Self::parse_digest(algorithm.parse()?, digest)
        } else if let Some((algorithm, digest)) = text.split_once('-') {
            Self::parse_base64(algorithm.parse()?, digest)
        } else {
            Err(FormatError::HashWithoutAlgorithm)
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), base32::encode(&self.digest))
    }
}

/// The SHA-256 of an uncompressed NAR: what a signature covers, and the same on every machine that has the path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NarHash([u8; 32]);

impl NarHash {
    /// How many characters it has in Nix base-32, without `sha256:`.
    pub const NIX32_LEN: usize = base32::encoded_len(32);

    /// From the bytes of a digest.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 52 characters without the algorithm, as they stand in NAR URLs.
    #[must_use]
    pub fn to_nix32(&self) -> String {
        base32::encode(&self.0)
    }

    /// Reads what [`Self::to_nix32`] writes.
    ///
    /// # Errors
    /// Anything but 52 characters of Nix base-32.
    pub fn from_nix32(text: &str) -> Result<Self, FormatError> {
        base32::decode(text).map(Self)
    }
}

impl FromStr for NarHash {
    type Err = FormatError;

    /// Reads every form of [`struct@Hash`], as long as it is SHA-256.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        Self::try_from(&text.parse::<Hash>()?)
    }
}

impl TryFrom<&Hash> for NarHash {
    type Error = FormatError;

    fn try_from(hash: &Hash) -> Result<Self, FormatError> {
        match (hash.algorithm(), hash.digest().try_into()) {
            (HashAlgorithm::Sha256, Ok(digest)) => Ok(Self(digest)),
            (other, _) => Err(FormatError::NotSha256(other.name())),
        }
    }
}

impl From<NarHash> for Hash {
    fn from(hash: NarHash) -> Self {
        Self { algorithm: HashAlgorithm::Sha256, digest: hash.0.to_vec() }
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

    #[test]
    fn all_forms_are_one_value() {
        // Each form as `nix hash to-base16`, `to-base32`, `to-base64` and `to-sri` print it.
        for text in [
            EMPTY,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            // As others write SRI, and Nix reads it.
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        ] {
            assert_eq!(text.parse::<NarHash>().unwrap().to_string(), EMPTY, "{text}");
        }
    }

    #[test]
    fn malformed_hashes_are_refused() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256-",
            "sha3:00",
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7",
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c7e",
            "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            // Only SRI goes without padding: elsewhere the length tells the alphabet.
            "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            // Two base-64 texts one after the other, of the right length together.
            "sha256-47DEQg==j8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha256-3bDQ1Z0=OeiO7PDX5Re5xXZt4SCr0coHZMpr/8t3jZe2",
            "sha256:zmdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        ] {
            assert!(text.parse::<Hash>().is_err(), "{text}");
        }
        let sha1 = "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709";
        assert_eq!(sha1.parse::<NarHash>(), Err(FormatError::NotSha256("sha1")));
    }

    proptest! {
        #[test]
        fn round_trip(bytes in any::<[u8; 32]>()) {
            let hash = NarHash::new(bytes);
            prop_assert_eq!(hash.to_string().parse::<NarHash>().unwrap(), hash);
            prop_assert_eq!(NarHash::from_nix32(&hash.to_nix32()).unwrap(), hash);
            let base16 = format!("sha256:{}", Hash::from(hash).to_base16());
            prop_assert_eq!(base16.parse::<NarHash>().unwrap(), hash);
            let sri = format!("sha256-{}", BASE64.encode(&bytes));
            prop_assert_eq!(sri.parse::<NarHash>().unwrap(), hash);
        }

        #[test]
        fn never_panics(text in ".{0,120}") {
            let _: Result<Hash, _> = text.parse();
        }
    }
}

//! The keys that sign path infos and verify signatures: ed25519, written `name:base64`.
//!
//! Source: the Nix manual on `nix key` and
//! [signatures](https://nix.dev/manual/nix/stable/protocols/nix-archive), RFC 8032 for ed25519. A secret key's 64 bytes
//! are seed and public key, as libsodium lays them out.

use super::signature::{KEY_NAME_MAX, split};
use super::{FormatError, PathInfo, Signature, StoreDir};
use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, Zeroizing};

/// A key that signs store paths. Its bytes are wiped when it is dropped and never printed.
pub struct SecretKey {
    name: Box<str>,
    key: SigningKey,
}

impl SecretKey {
    /// Makes a key from a random `seed` of 32 bytes.
    ///
    /// # Errors
    /// A name that is empty, too long or holds a colon or anything but printable ASCII.
    pub fn from_seed(name: &str, mut seed: [u8; 32]) -> Result<Self, FormatError> {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        let named =
            !name.is_empty() && name.len() <= KEY_NAME_MAX && name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
        if !named {
            return Err(FormatError::Key("secret key", 64));
        }
        Ok(Self { name: name.into(), key })
    }

    /// The name before the colon.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `info` as a path of `store_dir`.
    #[must_use]
    pub fn sign(&self, info: &PathInfo, store_dir: &StoreDir) -> Signature {
        self.sign_text(&info.fingerprint(store_dir))
    }

    /// Signs what has another form than a path info, by its own fingerprint.
    #[must_use]
    pub fn sign_text(&self, fingerprint: &str) -> Signature {
        Signature::new(&self.name, self.key.sign(fingerprint.as_bytes()).to_bytes())
    }

    /// The text of a key file, as `nix key generate-secret` writes it. Handle it as the secret it is.
    #[must_use]
    pub fn to_file(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.key.to_keypair_bytes());
        Zeroizing::new(format!("{}:{}", self.name, BASE64.encode(bytes.as_slice())))
    }
}

impl FromStr for SecretKey {
    type Err = FormatError;

    /// Reads a key file; blanks and newlines at its end do not matter.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (name, bytes) = split::<64>(text).ok_or(FormatError::Key("secret key", 64))?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| FormatError::KeyBytes(64))?;
        Ok(Self { name: name.into(), key })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A key that verifies. Displayed as in `trusted-public-keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: Box<str>,
    key: VerifyingKey,
}

impl PublicKey {
    /// The name before the colon.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key, without its name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether `signature` is this key's over `fingerprint`.
    #[must_use]
    pub fn verify(&self, fingerprint: &str, signature: &Signature) -> bool {
        let Some(bytes) = signature.bytes().filter(|_| signature.key_name() == &*self.name) else { return false };
        let bytes = ed25519_dalek::Signature::from_bytes(bytes);
        // `strict` refuses keys and signatures of small order, which would verify for more than one message.
        self.key.verify_strict(fingerprint.as_bytes(), &bytes).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let (name, bytes) = split::<32>(text).ok_or(FormatError::Key("public key", 32))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| FormatError::KeyBytes(32))?;
        Ok(Self { name: name.into(), key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

/// The public keys whose signatures count. Several may have one name: a name is chosen by whoever makes a key. (Nix goes by
/// the first of a name alone; who wants the same leaves out the others.)
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(HashMap<Box<str>, Vec<PublicKey>>);

impl TrustedKeys {
    /// The key that vouches for `info`, if one does.
    #[must_use]
    pub fn voucher<'a>(&'a self, info: &PathInfo, store_dir: &StoreDir) -> Option<&'a PublicKey> {
        self.valid(&info.signatures, || info.fingerprint(store_dir)).next().map(|(key, _)| key)
    }

    /// The signatures of `info` that are valid and by these keys, each with its key.
    #[must_use]
    pub fn signers<'a, 'b>(&'a self, info: &'b PathInfo, store_dir: &StoreDir) -> Vec<(&'a PublicKey, &'b Signature)> {
        self.valid(&info.signatures, || info.fingerprint(store_dir)).collect()
    }

    /// The signatures of `info` that are valid and by these keys.
    #[must_use]
    pub fn valid_signatures(&self, info: &PathInfo, store_dir: &StoreDir) -> Vec<Signature> {
        self.valid_of(&info.signatures, || info.fingerprint(store_dir))
    }

    /// Those of `signatures` that are valid for what has this `fingerprint`, and by these keys.
    #[must_use]
    pub fn valid_of(&self, signatures: &[Signature], fingerprint: impl FnOnce() -> String) -> Vec<Signature> {
        self.valid(signatures, fingerprint).map(|(_, signature)| signature.clone()).collect()
    }

    /// Those of `signatures` that are valid for what has this `fingerprint`, and by these keys, each with its key.
    #[must_use]
    pub fn signers_of<'a, 'b>(
        &'a self,
        signatures: &'b [Signature],
        fingerprint: &str,
    ) -> Vec<(&'a PublicKey, &'b Signature)> {
        self.valid(signatures, || fingerprint.to_owned()).collect()
    }

    fn valid<'a, 'b>(
        &'a self,
        signatures: &'b [Signature],
        fingerprint: impl FnOnce() -> String,
    ) -> impl Iterator<Item = (&'a PublicKey, &'b Signature)> {
        // Names first: the fingerprint and the curve arithmetic are for signatures that have a chance.
        let named = signatures.iter().filter(|signature| signature.is_readable());
        let mut candidates = named.filter_map(|it| Some((self.0.get(it.key_name())?, it))).peekable();
        let fingerprint = candidates.peek().map(|_| fingerprint()).unwrap_or_default();
        candidates.filter_map(move |(keys, signature)| {
            keys.iter().find(|key| key.verify(&fingerprint, signature)).map(|key| (key, signature))
        })
    }

    /// Whether a key has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether no key is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the keys, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// The keys, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values().flatten()
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut trusted = Self::default();
        for key in keys {
            let same_name = trusted.0.entry(key.name.clone()).or_default();
            if !same_name.contains(&key) {
                same_name.push(key);
            }
        }
        trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info() -> PathInfo {
        PathInfo::example()
    }

    #[test]
    fn a_signature_holds_for_its_path_and_key_only() {
        let dir = StoreDir::default();
        let key = SecretKey::from_seed("a-1", [7; 32]).unwrap();
        let mut info = info();
        let signature = key.sign(&info, &dir);
        info.signatures = vec![signature.clone()];
        let trusted: TrustedKeys = [key.public()].into_iter().collect();
        assert_eq!(trusted.voucher(&info, &dir), Some(&key.public()));

        let other = SecretKey::from_seed("a-1", [8; 32]).unwrap();
        let stranger: TrustedKeys = [other.public()].into_iter().collect();
        assert_eq!(stranger.voucher(&info, &dir), None, "same name, other key");
        let renamed = SecretKey::from_seed("b-1", [7; 32]).unwrap();
        let renamed: TrustedKeys = [renamed.public()].into_iter().collect();
        assert_eq!(renamed.voucher(&info, &dir), None, "same key, other name");

        let forged = PathInfo { references: vec![], ..info.clone() };
        assert_eq!(trusted.voucher(&forged, &dir), None, "references are covered");
        let forged = PathInfo { nar_size: info.nar_size + 1, ..info.clone() };
        assert_eq!(trusted.voucher(&forged, &dir), None, "the size is covered");
        assert_eq!(trusted.voucher(&info, &StoreDir::new("/gnu/store").unwrap()), None, "the store is covered");
    }

    #[test]
    fn key_files_of_nix_are_read() {
        // Written by `nix key generate-secret --key-name test-1` and `nix key convert-secret-to-public`.
        let secret: SecretKey = include_str!("../../tests/golden/keys/test-1.secret").parse().unwrap();
        let public: PublicKey = include_str!("../../tests/golden/keys/test-1.public").parse().unwrap();
        assert_eq!(secret.public(), public);
        assert_eq!(secret.to_file().as_str(), include_str!("../../tests/golden/keys/test-1.secret").trim_end());
        assert_eq!(public.to_string(), include_str!("../../tests/golden/keys/test-1.public").trim_end());
    }

    #[test]
    fn signatures_of_nix_verify_and_are_reproduced() {
        // Signed by `nix store sign` with the key above; ed25519 signatures are deterministic.
        let dir = StoreDir::default();
        let text = include_str!("../../tests/golden/narinfo/xz.narinfo");
        let info = crate::nix::NarInfo::parse(text, &dir).unwrap().info;
        let secret: SecretKey = include_str!("../../tests/golden/keys/test-1.secret").parse().unwrap();
        let trusted: TrustedKeys = [secret.public()].into_iter().collect();
        assert_eq!(trusted.voucher(&info, &dir), Some(&secret.public()));
        assert_eq!(info.signatures, [secret.sign(&info, &dir)]);
    }

    #[test]
    fn malformed_keys_are_refused() {
        for text in ["", ":", "a", "a:", "a:AAAA", "a b:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
            assert!(text.parse::<SecretKey>().is_err(), "{text}");
        }
        // Two base-64 texts one after the other, of the right length together.
        assert!("a:3bDQ1Z0=OeiO7PDX5Re5xXZt4SCr0coHZMpr/8t3jZe2".parse::<PublicKey>().is_err());
        let mismatched = format!("a:{}", BASE64.encode(&[1; 64]));
        assert_eq!(mismatched.parse::<SecretKey>().unwrap_err(), FormatError::KeyBytes(64));
    }

    #[test]
    fn padding_may_be_left_out_as_in_nix() {
        let (dir, key) = (StoreDir::default(), SecretKey::from_seed("a-1", [7; 32]).unwrap());
        let unpadded: PublicKey = key.public().to_string().trim_end_matches('=').parse().unwrap();
        assert_eq!(unpadded, key.public());
        assert_eq!(key.to_file().trim_end_matches('=').parse::<SecretKey>().unwrap().public(), unpadded);
        let mut info = info();
        info.signatures = vec![key.sign(&info, &dir).to_string().trim_end_matches('=').parse().unwrap()];
        assert_eq!(TrustedKeys::from_iter([unpadded]).voucher(&info, &dir), Some(&key.public()));
    }

    #[test]
    fn signatures_of_other_algorithms_count_for_nothing_and_hide_nothing() {
        let (dir, key) = (StoreDir::default(), SecretKey::from_seed("a-1", [7; 32]).unwrap());
        let trusted = TrustedKeys::from_iter([key.public()]);
        let mut info = info();
        let others = [71, 2420, 4627].map(|size| format!("a-1:{}", BASE64.encode(&vec![7; size])).parse().unwrap());
        info.signatures = others.to_vec();
        assert_eq!(trusted.voucher(&info, &dir), None);
        let good = key.sign(&info, &dir);
        info.signatures.push(good.clone());
        assert_eq!(trusted.voucher(&info, &dir), Some(&key.public()));
        assert_eq!(trusted.valid_signatures(&info, &dir), [good]);
    }

    #[test]
    fn keys_of_one_name_all_count() {
        let dir = StoreDir::default();
        let [a, b, c] = [7, 8, 9].map(|seed| SecretKey::from_seed("a-1", [seed; 32]).unwrap());
        let trusted: TrustedKeys = [a.public(), b.public(), a.public()].into_iter().collect();
        assert_eq!(trusted.all().count(), 2);
        for (key, counts) in [(&a, true), (&b, true), (&c, false)] {
            let mut info = info();
            info.signatures = vec![key.sign(&info, &dir)];
            assert_eq!(trusted.voucher(&info, &dir).is_some(), counts);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = SecretKey::from_seed("a-1", [7; 32]).unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("a-1") && !shown.contains(&key.to_file()[4..12]), "{shown}");
    }

    proptest! {
        #[test]
        fn round_trip(seed in any::<[u8; 32]>(), name in "[!-9;-~]{1,40}") {
            let key = SecretKey::from_seed(&name, seed).unwrap();
            prop_assert_eq!(&key.to_file().parse::<SecretKey>().unwrap().public(), &key.public());
            prop_assert_eq!(&key.public().to_string().parse::<PublicKey>().unwrap(), &key.public());
            let signature = key.sign(&info(), &StoreDir::default());
            prop_assert_eq!(signature.to_string().parse::<Signature>().unwrap(), signature);
        }

        #[test]
        fn never_panics(text in ".{0,120}") {
            let _: Result<SecretKey, _> = text.parse();
            let _: Result<PublicKey, _> = text.parse();
            let _: Result<Signature, _> = text.parse();
        }
    }
}

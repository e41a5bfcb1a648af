//! Whose signatures the one who asks accepts, told with every request, and who signed what is told in return.
//!
//! ```text
//! GET /0mdqa9w1p6cmli6976v4wi0sw9r4p5pr.narinfo HTTP/1.1
//! Peernix-Trusted-Keys: cache.nixos.org-1 example.org-2
//! Peernix-Trusted-Fingerprints: cache.nixos.org-1:3f8a9c0d5e6b7a81 example.org-2:00c1d2e3f4a5b6c7
//!
//! HTTP/1.1 200 OK
//! Peernix-Signed-By: cache.nixos.org-1:3f8a9c0d5e6b7a81
//! ```
//!
//! Machines of different people trust different keys. An honest share answers "not found" for a path that carries no
//! signature by one of these, so that an answer without such a signature is a lie and not a difference of opinion.
//!
//! A name is chosen by whoever makes a key, and two keys may have one: a cache that made a new key under the old name, two
//! machines called "nixos". A signature says no more than the name. So a signature under a trusted name that does not verify
//! is no lie, but by another key, unless the one who sent it says that it has verified it by this very key. The first header is for
//! machines with a Peernix that knew names only.

use crate::keys::{FINGERPRINT_LEN, fingerprint};
use crate::nix::{PublicKey, TrustedKeys};
use crate::resilience::Versioned;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use parking_lot::Mutex;

/// The names of the keys that are trusted.
pub const TRUSTED_KEYS_HEADER: &str = "peernix-trusted-keys";
/// The same, each with its fingerprint.
pub const TRUSTED_FINGERPRINTS_HEADER: &str = "peernix-trusted-fingerprints";
/// Of an answer: which of those keys signed what it tells; the sender has verified that.
pub const SIGNED_BY_HEADER: &str = "peernix-signed-by";
/// The longest value of each, in bytes.
pub(super) const VALUE_MAX: usize = 4096;

/// What peers are told at the moment, with every request.
#[derive(Debug, Default)]
pub(super) struct TrustedKeysHeaders {
    keys: Versioned<TrustedKeys>,
    /// The values, with the generation of the keys that they were made of.
    made: Mutex<Option<(u64, Values)>>,
}

/// The values of the two headers; none if no key is trusted, which asks for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Values {
    names: Option<HeaderValue>,
    fingerprints: Option<HeaderValue>,
}

impl TrustedKeysHeaders {
    pub(super) fn new(keys: Versioned<TrustedKeys>) -> Self {
        Self { keys, made: Mutex::default() }
    }

    /// Adds them to a request that is sent now.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let Values { names, fingerprints } = self.values();
        headers.extend(names.map(|names| (hyper::header::HeaderName::from_static(TRUSTED_KEYS_HEADER), names)));
        let name = hyper::header::HeaderName::from_static(TRUSTED_FINGERPRINTS_HEADER);
        headers.extend(fingerprints.map(|fingerprints| (name, fingerprints)));
    }

    fn values(&self) -> Values {
        let keys = self.keys.now();
        let mut made = self.made.lock();
        match &*made {
            Some((generation, values)) if *generation == keys.generation => values.clone(),
            _ => {
                let values = Values::of(&keys);
                *made = Some((keys.generation, values.clone()));
                values
            }
        }
    }
}

impl Values {
    fn of(keys: &TrustedKeys) -> Self {
        let mut names: Vec<&str> = keys.names().collect();
        let mut pairs: Vec<String> = keys.all().map(pair).collect();
        // What does not fit is left out: the same ones each time.
        names.sort_unstable();
        pairs.sort_unstable();
        Self { names: list(names), fingerprints: list(pairs.iter().map(String::as_str)) }
    }
}

/// A key as the headers name it.
fn pair(key: &PublicKey) -> String {
    format!("{}:{}", key.name(), fingerprint(key))
}

/// As many of these words as fit, with blanks between them; `None` if there are none.
fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut text = String::new();
    for word in words {
        if text.len() + 1 + word.len() > VALUE_MAX {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    (!text.is_empty()).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

/// The words of a header; `None` without the header, none at all if it is malformed.
fn words<'a>(headers: &'a HeaderMap, header: &str) -> Option<impl Iterator<Item = &'a str>> {
    let text = headers.get(header)?.to_str().ok().filter(|text| text.len() <= VALUE_MAX).unwrap_or_default();
    Some(text.split(' ').filter(|word| !word.is_empty()))
}

/// Who signed something that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The name that the signature has.
    name: Box<str>,
    /// The key, as the headers name it, if the signature was verified by it.
    verified: Option<Box<str>>,
}

impl Signer {
    /// Of a signature that this key has made.
    #[must_use]
    pub fn verified(key: &PublicKey) -> Self {
        Self { name: key.name().into(), verified: Some(pair(key).into()) }
    }

    /// Of a signature by a key that is not known here.
    #[must_use]
    pub fn claimed(name: &str) -> Self {
        Self { name: name.into(), verified: None }
    }
}

/// What may be told to the one who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: that it is not here.
    Nothing,
    /// What is here, in the words of Peernix 0.1 before fingerprints, which takes what it cannot read for a lie.
    InOldWords,
    /// What is here, and by which of the keys that it accepts it was signed, if that was verified.
    All(Option<HeaderValue>),
}

/// What may be told of something with these `signers` to the one who sent these headers.
#[must_use]
pub fn judge(headers: &HeaderMap, signers: &[Signer]) -> Verdict {
    if let Some(accepted) = words(headers, TRUSTED_FINGERPRINTS_HEADER) {
        let accepted: Vec<&str> = accepted.collect();
        let verified = signers.iter().filter_map(|signer| signer.verified.as_deref());
        let signed_by = list(verified.filter(|verified| accepted.contains(verified)));
        let may_be_by = |signer: &Signer| {
            let is_it = |pair: &&str| pair.rsplit_once(':').is_some_and(|(name, _)| *name == *signer.name);
            signer.verified.is_none() && accepted.iter().any(is_it)
        };
        return match signed_by {
            None if !signers.iter().any(may_be_by) => Verdict::Nothing,
            signed_by => Verdict::All(signed_by),
        };
    }
    let Some(mut names) = words(headers, TRUSTED_KEYS_HEADER) else { return Verdict::All(None) };
    let is_accepted = names.any(|name| signers.iter().any(|signer| *signer.name == *name));
    if is_accepted { Verdict::InOldWords } else { Verdict::Nothing }
}

/// The keys by which an answer says that it was signed.
#[derive(Debug, Clone, Default)]
pub struct SignedBy(Option<HeaderValue>);

impl SignedBy {
    /// What an answer with these headers says.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(SIGNED_BY_HEADER).filter(|value| value.len() <= VALUE_MAX).cloned())
    }

    /// What such a value says that came without a header; one that is none says nothing.
    #[must_use]
    pub fn of_value(value: Option<Bytes>) -> Self {
        let value = value.filter(|value| value.len() <= VALUE_MAX);
        Self(value.and_then(|value| HeaderValue::from_maybe_shared(value).ok()))
    }

    /// Whether it says so of `key`.
    #[must_use]
    pub fn names(&self, key: &PublicKey) -> bool {
        let Some(Ok(text)) = self.0.as_ref().map(HeaderValue::to_str) else { return false };
        // Whoever names nobody costs nothing; a fingerprint is made only of a key whose name is there.
        let parts = |word: &str| {
            word.rsplit_once(':').is_some_and(|(name, digits)| name == key.name() && digits.len() == FINGERPRINT_LEN)
        };
        text.split(' ').any(parts) && text.split(' ').any(|word| word == pair(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::SecretKey;

    fn key(name: &str, seed: u8) -> PublicKey {
        SecretKey::from_seed(name, [seed; 32]).unwrap().public()
    }

    /// The headers of one who trusts these.
    fn asker(keys: &[PublicKey]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        TrustedKeysHeaders::new(Versioned::new(keys.iter().cloned().collect())).add_to(&mut headers);
        headers
    }

    /// The same one before it knew fingerprints.
    fn old_asker(keys: &[PublicKey]) -> HeaderMap {
        let mut headers = asker(keys);
        headers.remove(TRUSTED_FINGERPRINTS_HEADER);
        headers
    }

    #[test]
    fn the_words_are_those_of_the_protocol() {
        // As docs/wire-protocol.md has them: the public keys of RFC 8032, tests 1 and 2.
        let keys = [
            "cache.nixos.org-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "example.org-2:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
        ];
        let headers = asker(&keys.map(|key| key.parse().unwrap()));
        assert_eq!(headers[TRUSTED_KEYS_HEADER], "cache.nixos.org-1 example.org-2");
        assert_eq!(
            headers[TRUSTED_FINGERPRINTS_HEADER],
            "cache.nixos.org-1:21fe31dfa154a261 example.org-2:39f713d0a644253f"
        );
    }

    #[test]
    fn a_key_is_told_from_another_of_its_name() {
        let (mine, other) = (key("nixos-1", 1), key("nixos-1", 2));
        let headers = asker(std::slice::from_ref(&mine));
        let Verdict::All(Some(told)) = judge(&headers, &[Signer::verified(&mine)]) else { panic!() };
        assert_eq!(told, pair(&mine));
        let answer = HeaderMap::from_iter([(SIGNED_BY_HEADER.parse().unwrap(), told)]);
        let signed_by = SignedBy::of(&answer);
        assert!(signed_by.names(&mine) && !signed_by.names(&other) && !SignedBy::default().names(&mine));

        assert_eq!(judge(&headers, &[Signer::verified(&other)]), Verdict::Nothing, "it is not for them");
        assert_eq!(judge(&headers, &[]), Verdict::Nothing);
        let unknown = Signer::claimed("nixos-1");
        assert_eq!(judge(&headers, &[unknown]), Verdict::All(None), "it may be by theirs, and nobody says so");
        assert_eq!(judge(&headers, &[Signer::claimed("nixos")]), Verdict::Nothing);
        assert_eq!(judge(&HeaderMap::new(), &[]), Verdict::All(None), "who tells nothing is told everything");
        let malformed = HeaderMap::from_iter([
            (TRUSTED_FINGERPRINTS_HEADER.parse().unwrap(), HeaderValue::from_bytes(b"nixos-1:\xff").unwrap()),
            (TRUSTED_KEYS_HEADER.parse().unwrap(), HeaderValue::from_static("nixos-1")),
        ]);
        assert_eq!(judge(&malformed, &[Signer::verified(&mine)]), Verdict::Nothing);
    }

    #[test]
    fn who_knows_names_only_is_understood() {
        let headers = old_asker(&[key("a-1", 1), key("b-1", 1)]);
        for signer in [Signer::claimed("a-1"), Signer::verified(&key("b-1", 9))] {
            assert_eq!(judge(&headers, &[signer]), Verdict::InOldWords);
        }
        for name in ["a", "a-1 b-1", "c-1"] {
            assert_eq!(judge(&headers, &[Signer::claimed(name)]), Verdict::Nothing, "{name}");
        }
    }

    #[test]
    fn values_are_bounded_and_always_the_same() {
        assert_eq!((list([]), list([&*"x".repeat(VALUE_MAX + 1)])), (None, None));
        let many: Vec<PublicKey> = (0..1000).map(|number| key(&format!("key-{number:04}"), 1)).collect();
        for told in asker(&many).values() {
            assert!(told.len() <= VALUE_MAX && told.to_str().unwrap().starts_with("key-0000"), "{told:?}");
        }
        let long = HeaderValue::from_str(&format!("{} {}", pair(&many[0]), "x".repeat(VALUE_MAX))).unwrap();
        let answer = HeaderMap::from_iter([(SIGNED_BY_HEADER.parse().unwrap(), long)]);
        assert!(!SignedBy::of(&answer).names(&many[0]));
    }

    #[test]
    fn the_headers_follow_the_keys() {
        let keys = Versioned::new(TrustedKeys::from_iter([key("b-1", 1), key("a-1", 1)]));
        let headers = TrustedKeysHeaders::new(keys.clone());
        assert_eq!((headers.values(), headers.values()), (Values::of(&keys.now()), Values::of(&keys.now())));
        assert_eq!(headers.values().names.unwrap(), "a-1 b-1");
        keys.set([key("c-1", 1)].into_iter().collect());
        assert_eq!(headers.values().names.unwrap(), "c-1");
        keys.set(TrustedKeys::default());
        assert_eq!(headers.values(), Values::default());
    }
}

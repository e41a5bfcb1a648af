//! `Peernix-Trusted-Keys`: the names of the keys whose signatures the one who asks accepts.
//!
//! ```text
//! GET /0mdqa9w1p6cmli6976v4wi0sw9r4p5pr.narinfo HTTP/1.1
//! Peernix-Trusted-Keys: cache.nixos.org-1 example.org-2
//! ```
//!
//! Machines of different people trust different keys. An honest share answers "not found" for a path that carries no
//! signature by one of these names, so that an answer without such a signature is a lie and not a difference of opinion.

use crate::nix::TrustedKeys;
use crate::resilience::Versioned;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use parking_lot::Mutex;

/// The header.
pub const TRUSTED_KEYS_HEADER: &str = "peernix-trusted-keys";
/// The longest value, in bytes.
const VALUE_MAX: usize = 4096;

/// What peers are told at the moment, with every request.
#[derive(Debug, Default)]
pub(super) struct TrustedKeysHeader {
    keys: Versioned<TrustedKeys>,
    /// The value, with the generation of the keys that it was made of.
    made: Mutex<Option<(u64, Option<HeaderValue>)>>,
}

impl TrustedKeysHeader {
    pub(super) fn new(keys: Versioned<TrustedKeys>) -> Self {
        Self { keys, made: Mutex::default() }
    }

    /// The value for a request that is sent now; `None` if no key is trusted, which asks for everything.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        let keys = self.keys.now();
        let mut made = self.made.lock();
        match &*made {
            Some((generation, value)) if *generation == keys.generation => value.clone(),
            _ => {
                let mut names: Vec<&str> = keys.names().collect();
                // What does not fit is left out: the same ones each time.
                names.sort_unstable();
                let value = value(&names);
                *made = Some((keys.generation, value.clone()));
                value
            }
        }
    }
}

/// The value that tells these names, or as many of them as fit; `None` if there are none.
fn value(names: &[&str]) -> Option<HeaderValue> {
    let mut text = String::new();
    for name in names {
        if text.len() + 1 + name.len() > VALUE_MAX {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(name);
    }
    (!text.is_empty()).then(|| HeaderValue::from_str(&text).ok()).flatten()
}

/// Whether the one who sent these headers accepts signatures by the key of this name. Without the header it does.
#[must_use]
pub fn accepts(headers: &HeaderMap, name: &str) -> bool {
    match headers.get(TRUSTED_KEYS_HEADER).map(HeaderValue::to_str) {
        None => true,
        Some(Ok(names)) if names.len() <= VALUE_MAX => names.split(' ').any(|accepted| accepted == name),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::SecretKey;

    #[test]
    fn names_arrive_as_they_were_sent() {
        let headers = HeaderMap::from_iter([(TRUSTED_KEYS_HEADER.parse().unwrap(), value(&["a-1", "b-1"]).unwrap())]);
        assert!(accepts(&headers, "a-1") && accepts(&headers, "b-1"));
        assert!(!accepts(&headers, "a") && !accepts(&headers, "a-1 b-1") && !accepts(&headers, "c-1"));
        assert!(accepts(&HeaderMap::new(), "c-1"), "who tells nothing is told everything");
        assert_eq!(value(&[]), None);
        assert_eq!(value(&[&"x".repeat(VALUE_MAX + 1)]), None);
        let many: Vec<String> = (0..1000).map(|number| format!("key-{number:04}")).collect();
        let told = value(&many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(told.len() <= VALUE_MAX && told.to_str().unwrap().starts_with("key-0000 key-0001 "));
    }

    #[test]
    fn the_header_follows_the_keys() {
        let key = |name| SecretKey::from_seed(name, [7; 32]).unwrap().public();
        let keys = Versioned::new(TrustedKeys::from_iter([key("b-1"), key("a-1")]));
        let header = TrustedKeysHeader::new(keys.clone());
        assert_eq!((header.value(), header.value()), (value(&["a-1", "b-1"]), value(&["a-1", "b-1"])));
        keys.set([key("c-1")].into_iter().collect());
        assert_eq!(header.value(), value(&["c-1"]));
        keys.set(TrustedKeys::default());
        assert_eq!(header.value(), None);
    }
}

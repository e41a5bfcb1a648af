//! So many at once of each: connections of an address, transfers to an address, calls of a user.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// A limit that holds for each key by itself. Keys of which nothing is held take no memory. Clones are the same.
#[derive(Debug)]
pub struct KeyedLimit<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K: Eq + Hash> {
    limit: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// One of the permits of a key, given back when it is dropped.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    key: K,
}

impl<K: Eq + Hash> Clone for KeyedLimit<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone> KeyedLimit<K> {
    /// At most `limit` permits at once for each key.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, held: Mutex::default() }))
    }

    /// A permit for `key`, unless there are too many already.
    #[must_use]
    pub fn try_take(&self, key: K) -> Option<Permit<K>> {
        let mut held = self.0.held.lock();
        let count = held.get(&key).copied().unwrap_or_default();
        if count >= self.0.limit {
            return None;
        }
        held.insert(key.clone(), count + 1);
        drop(held);
        Some(Permit { inner: Arc::clone(&self.0), key })
    }

    /// How many keys are in use.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.held.lock().len()
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut held = self.inner.held.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own() {
        let limit = KeyedLimit::new(2);
        let first = limit.try_take("a").unwrap();
        let _second = limit.try_take("a").unwrap();
        assert!(limit.try_take("a").is_none());
        assert!(limit.try_take("b").is_some());
        assert_eq!(limit.keys(), 1, "nothing is kept of who left or was refused");
        drop(first);
        assert!(limit.try_take("a").is_some());
    }
}

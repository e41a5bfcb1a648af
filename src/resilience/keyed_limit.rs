//! So many at once of each: connections of an address, transfers to an address, calls of a user.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A limit that holds for each key by itself. Keys of which nothing is held or awaited take no memory. Clones are the same.
#[derive(Debug)]
pub struct KeyedLimit<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K: Eq + Hash> {
    limit: usize,
    entries: Mutex<HashMap<K, Entry>>,
}

#[derive(Debug)]
struct Entry {
    semaphore: Arc<Semaphore>,
    /// How many hold a permit or wait for one.
    users: usize,
}

/// One of the permits of a key, given back when it is dropped.
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    // In this order: the permit is back before the user is gone.
    _permit: OwnedSemaphorePermit,
    _user: User<K>,
}

/// One who holds or awaits a permit. The last one of a key takes the key away.
#[derive(Debug)]
struct User<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    key: Option<K>,
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
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner { limit, entries: Mutex::default() }))
    }

    /// A permit for `key`, unless there are too many already.
    #[must_use]
    pub fn try_take(&self, key: K) -> Option<Permit<K>> {
        let (user, semaphore) = self.enter(key);
        let permit = semaphore.try_acquire_owned().ok()?;
        Some(Permit { _permit: permit, _user: user })
    }

    /// Waits for a permit for `key`. Those who wait for one key get theirs in the order in which they came. `None` never
    /// comes: no semaphore here is ever closed.
    pub async fn take(&self, key: K) -> Option<Permit<K>> {
        let (user, semaphore) = self.enter(key);
        let permit = semaphore.acquire_owned().await.ok()?;
        Some(Permit { _permit: permit, _user: user })
    }

    /// How many keys are in use.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.0.entries.lock().len()
    }

    fn enter(&self, key: K) -> (User<K>, Arc<Semaphore>) {
        let mut entries = self.0.entries.lock();
        let new = || Entry { semaphore: Arc::new(Semaphore::new(self.0.limit)), users: 0 };
        let entry = entries.entry(key.clone()).or_insert_with(new);
        entry.users += 1;
        (User { inner: Arc::clone(&self.0), key: Some(key) }, Arc::clone(&entry.semaphore))
    }
}

impl<K: Eq + Hash> Drop for User<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut entries = self.inner.entries.lock();
        if let Some(entry) = entries.get_mut(&key) {
            entry.users -= 1;
            if entry.users == 0 {
                entries.remove(&key);
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

    #[tokio::test]
    async fn who_waits_is_next() {
        let limit = KeyedLimit::new(1);
        let first = limit.take("a").await;
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.take("a").await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap());
        assert_eq!(limit.keys(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_nothing() {
        let limit = KeyedLimit::new(1);
        let first = limit.try_take("a");
        let wait = tokio::time::timeout(std::time::Duration::from_secs(1), limit.take("a")).await;
        assert!(wait.is_err());
        assert_eq!(limit.keys(), 1);
        drop(first);
        assert_eq!(limit.keys(), 0);
    }
}

//! A value that changes while it is used: trust, policy, keys, upstreams.
//!
//! Whoever works with it takes it once, and goes by that to the end. What is found under one version is remembered under its
//! generation, so that nothing that was found under another is found again, not even by work that began before the change.

use std::sync::Arc;
use tokio::sync::watch;

/// A value at one time. A cheap handle: clones share the value.
#[derive(Debug)]
pub struct Version<T> {
    /// The value.
    pub value: Arc<T>,
    /// Another one after each change, larger than all before.
    pub generation: u64,
}

impl<T> Clone for Version<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), generation: self.generation }
    }
}

impl<T> std::ops::Deref for Version<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The value that holds now. Clones are the same: what one of them sets all of them give.
#[derive(Debug)]
pub struct Versioned<T>(watch::Sender<Version<T>>);

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Default> Default for Versioned<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Versioned<T> {
    /// Begins with `value`, generation 0.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(watch::Sender::new(Version { value: Arc::new(value), generation: 0 }))
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Version<T> {
        self.0.borrow().clone()
    }

    /// The generation of what holds now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.borrow().generation
    }

    /// Puts another value in force.
    pub fn set(&self, value: T) {
        self.update(|_| Some(value));
    }

    /// Puts in force what `change` makes of the value that holds, if anything; nobody else changes it meanwhile. True if it
    /// made something.
    pub fn update(&self, change: impl FnOnce(&T) -> Option<T>) -> bool {
        self.0.send_if_modified(|version| match change(&version.value) {
            Some(value) => {
                *version = Version { value: Arc::new(value), generation: version.generation + 1 };
                true
            }
            None => false,
        })
    }

    /// Tells of changes from now on, and when this value is gone for good.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Version<T>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_version_stays_what_it_was() {
        let keys = Versioned::new(vec!["a"]);
        let (before, other) = (keys.now(), keys.clone());
        let mut changes = keys.subscribe();
        other.set(vec!["b"]);
        assert!(changes.has_changed().unwrap());
        assert_eq!((before.value.as_slice(), before.generation), (&["a"][..], 0));
        assert_eq!((keys.now().value.as_slice(), keys.generation()), (&["b"][..], 1));
        changes.changed().await.unwrap();
        assert!(!keys.update(|_| None) && !changes.has_changed().unwrap());
        assert!(keys.update(|now| Some([now.as_slice(), &["c"]].concat())));
        assert_eq!(keys.now().as_slice(), ["b", "c"]);
    }
}

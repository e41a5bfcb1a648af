//! What the share goes by, which changes while it serves: the policy and the keys that sign.
//!
//! A request takes the rules once. What is found under them is remembered with them, so that nothing that other rules
//! allowed is found again, not even from a request that began before they changed.

use super::known::KnownPaths;
use crate::keys::Signing;
use crate::resilience::{Version, Versioned};
use crate::store::{Offered, SharePolicy, Store};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// The rules that hold at one time, and the paths that were found under them. The secrets of the keys are not among them:
/// nothing here keeps those of a key that signs no more.
pub(super) struct Rules {
    /// That of the configuration, with the keys of this machine in it.
    pub(super) policy: Arc<SharePolicy>,
    pub(super) known: KnownPaths,
    pub(super) offered: Arc<Offered>,
    /// Of the policy and of the keys that they were made of.
    generations: (u64, u64),
}

/// The rules that hold now.
pub(super) struct CurrentRules {
    store: Store,
    policy: Versioned<SharePolicy>,
    signing: Versioned<Signing>,
    made: Mutex<Arc<Rules>>,
}

impl CurrentRules {
    pub(super) fn new(store: Store, policy: Versioned<SharePolicy>, signing: Versioned<Signing>) -> Self {
        let made = Mutex::new(Arc::new(Rules::new(&store, &policy.now(), &signing.now())));
        Self { store, policy, signing, made }
    }

    /// Tell when the rules may be others, from now on.
    pub(super) fn changes(&self) -> (watch::Receiver<Version<SharePolicy>>, watch::Receiver<Version<Signing>>) {
        (self.policy.subscribe(), self.signing.subscribe())
    }

    /// The rules that hold now.
    pub(super) fn now(&self) -> Arc<Rules> {
        self.with_keys().0
    }

    /// The same, and the keys that sign what was built here.
    pub(super) fn with_keys(&self) -> (Arc<Rules>, Arc<Signing>) {
        // Locked before anything is looked at, so that what is older never comes later.
        let mut made = self.made.lock();
        let (policy, signing) = (self.policy.now(), self.signing.now());
        if made.generations != (policy.generation, signing.generation) {
            *made = Arc::new(Rules::new(&self.store, &policy, &signing));
        }
        (Arc::clone(&made), signing.value)
    }
}

impl Rules {
    fn new(store: &Store, policy: &Version<SharePolicy>, signing: &Version<Signing>) -> Self {
        let generations = (policy.generation, signing.generation);
        let policy = Arc::new(policy.with_own_keys(signing.own.clone()));
        let offered = Offered::new(store, Arc::clone(&policy));
        Self { policy, known: KnownPaths::new(), offered, generations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{PathInfo, SecretKey, StoreDir};
    use crate::store::{Audience, Decision, PolicyOptions, Reason, SharePolicyMode, StoreOptions, ValidPath};

    fn policy(mode: SharePolicyMode) -> SharePolicy {
        SharePolicy::new(PolicyOptions { mode, ..PolicyOptions::default() }, StoreDir::default()).unwrap()
    }

    #[tokio::test]
    async fn they_are_made_anew_when_something_changed_and_only_then() {
        let (configured, signing) = (Versioned::new(policy(SharePolicyMode::Off)), Versioned::<Signing>::default());
        let store = Store::open(StoreOptions::default()).await.unwrap();
        let rules = CurrentRules::new(store, configured.clone(), signing.clone());
        let before = rules.now();
        assert!(Arc::ptr_eq(&before, &rules.now()));

        // Signed here, but the store has forgotten that it was built here.
        let key = SecretKey::from_seed("own-1", [7; 32]).unwrap();
        let mut info = PathInfo::example();
        info.signatures = vec![key.sign(&info, &StoreDir::default())];
        let path = ValidPath { info, registration_time: 1, ultimate: false };
        let decide = |rules: &Rules| rules.policy.decide(&path, Audience::Enrolled);
        configured.set(policy(SharePolicyMode::SignedAndOwn));
        assert_eq!(decide(&rules.now()), Decision::Refuse(Reason::NoCountingSignature));
        signing.set(Signing { keys: Arc::default(), own: [key.public()].into_iter().collect() });
        let (after, keys) = rules.with_keys();
        assert_eq!((decide(&after), keys.own.is_empty()), (Decision::Serve, false));
        assert!(Arc::ptr_eq(&after, &rules.now()));
        assert_eq!(decide(&before), Decision::Refuse(Reason::Off), "who took them goes by them to the end");
        configured.set(policy(SharePolicyMode::SignedAndOwn));
        assert_eq!(decide(&rules.now()), Decision::Serve, "another policy keeps the keys");
        assert!(!Arc::ptr_eq(&after, &rules.now()), "and begins with nothing found");
    }
}

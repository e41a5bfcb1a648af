//! What the share goes by, which changes while it serves: the policy and the keys that sign.
//!
//! A request takes the rules once. What is put together under them is remembered under their number, so that nothing that
//! other rules allowed is found again, not even from a request that began before they changed.

use super::Share;
use crate::nix::{SecretKey, StoreHash, TrustedKeys};
use crate::store::{Audience, Decision, SharePolicy, StoreError, ValidPath};
use parking_lot::RwLock;
use std::sync::Arc;

/// The rules that hold at one time.
pub(super) struct Rules {
    pub(super) policy: Arc<SharePolicy>,
    /// The keys that sign what was built here.
    pub(super) keys: Arc<[Arc<SecretKey>]>,
    /// Another one after each change.
    pub(super) number: u64,
}

/// The rules that hold now.
pub(super) struct CurrentRules(RwLock<Arc<Rules>>);

impl CurrentRules {
    pub(super) fn new(policy: Arc<SharePolicy>, keys: Arc<[Arc<SecretKey>]>) -> Self {
        Self(RwLock::new(Arc::new(Rules { policy, keys, number: 0 })))
    }

    pub(super) fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read())
    }

    fn change(&self, change: impl FnOnce(&Rules) -> Rules) {
        let mut now = self.0.write();
        *now = Arc::new(Rules { number: now.number + 1, ..change(&now) });
    }
}

/// Why a path would be served or refused: for the administrator's eyes.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What the store knows of it.
    pub path: Arc<ValidPath>,
    /// What anyone on the network gets.
    pub anyone: Decision,
    /// What an enrolled machine gets.
    pub enrolled: Decision,
    /// The names of our keys that would sign it, beside the signatures that it has.
    pub signed_here_by: Vec<String>,
}

impl Share {
    /// Puts another policy in force. Every request that begins after this is answered by it; a NAR on its way is sent to
    /// its end.
    pub fn set_policy(&self, policy: Arc<SharePolicy>) {
        self.rules.change(|now| Rules { policy, keys: Arc::clone(&now.keys), number: 0 });
        self.known.forget();
    }

    /// Signs with other keys from now on, and counts as built here what `own` signed. The rest of the policy stays.
    pub fn set_signing_keys(&self, signing: Arc<[Arc<SecretKey>]>, own: TrustedKeys) {
        self.rules.change(|now| Rules { policy: Arc::new(now.policy.with_own_keys(own)), keys: signing, number: 0 });
        self.known.forget();
    }

    /// What would be answered to a request for this hash, and why; `None` if there is no such path here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn explain(&self, hash: StoreHash) -> Result<Option<Explanation>, StoreError> {
        let Some(path) = self.store.path_info(hash).await? else { return Ok(None) };
        let rules = self.rules.now();
        let [anyone, enrolled] =
            [Audience::Anyone, Audience::Enrolled].map(|audience| rules.policy.decide(&path, audience));
        let is_new = |name: &&str| !path.info.signatures.iter().any(|signature| signature.key_name() == *name);
        let signers = rules.keys.iter().map(|key| key.name()).filter(|_| path.ultimate);
        let signed_here_by = signers.filter(is_new).map(str::to_owned).collect();
        Ok(Some(Explanation { path, anyone, enrolled, signed_here_by }))
    }
}

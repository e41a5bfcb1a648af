//! The share itself: what all its endpoints work with.

use super::check_queue::CheckQueue;
use super::rules::CurrentRules;
use super::upload::Upload;
use crate::http::protocol::body::Body;
use crate::http::server::limits::Limits;
use crate::keys::Signing;
use crate::nix::StoreHash;
use crate::resilience::{Rates, Versioned};
use crate::store::{Audience, Decision, SharePolicy, Store, StoreError, ValidPath};
use bytes::Bytes;
use hyper::Response;
use std::sync::Arc;

/// What a share is made of.
pub struct ShareOptions {
    /// Where everything comes from.
    pub store: Store,
    /// What may be shared, as the configuration says. Every request that begins after a change is answered by it; a NAR on
    /// its way is sent to its end.
    pub policy: Versioned<SharePolicy>,
    /// The keys that sign what was built here, and those whose signatures say so; changes are followed as of the policy.
    pub signing: Versioned<Signing>,
    /// How many bytes a second may leave, 0 for no limit (`[share] upload_limit`), until [`Share::set_uploads`].
    pub upload_limit: u64,
    /// Of these, the number of transfers.
    pub limits: Limits,
    /// What is compressed.
    pub compression: ShareCompression,
}

/// What a share compresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareCompression {
    /// NARs for peers that ask for it (`[share] compression`).
    pub peers: bool,
    /// NARs for anybody else, whose narinfos say so (`[share] plain_compression`).
    pub plain: bool,
}

/// The share. It has up to two listeners; limits and caches are theirs together.
pub struct Share {
    pub(super) store: Store,
    pub(super) rules: CurrentRules,
    pub(super) upload: Upload,
    pub(super) checks: CheckQueue,
    pub(super) compression: ShareCompression,
}

/// An answer, if what was asked for is here and may be shared.
pub(super) type Answer = Result<Option<Response<Body>>, StoreError>;

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
    /// Puts a share together.
    #[must_use]
    pub fn new(options: ShareOptions) -> Arc<Self> {
        let ShareOptions { store, policy, signing, upload_limit, limits, compression } = options;
        let (rules, upload) = (CurrentRules::new(store.clone(), policy, signing), Upload::new(upload_limit, &limits));
        Arc::new(Self { store, rules, upload, checks: CheckQueue::new(), compression })
    }

    /// Keeps to these limits from now on, and sends nothing from the store while it is `paused`.
    pub fn set_uploads(&self, rates: Rates, paused: bool) {
        self.upload.set(rates, paused);
    }

    /// How many answers from the store are on their way, and how many wait until others are done.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        self.upload.load()
    }

    /// Gives a part of a NAR back when it may leave for other sites, within the limits of all that does; `None`: nothing leaves at the moment.
    pub async fn paced(&self, part: Bytes) -> Option<Bytes> {
        self.upload.part(part).await
    }

    /// Whether nothing is sent from the store at the moment.
    pub(super) fn is_paused(&self) -> bool {
        self.upload.is_paused()
    }

    /// What would be answered to a request for this hash, and why; `None` if there is no such path here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn explain(&self, hash: StoreHash) -> Result<Option<Explanation>, StoreError> {
        let Some(path) = self.store.path_info(hash).await? else { return Ok(None) };
        let (rules, signing) = self.rules.with_keys();
        let [anyone, enrolled] =
            [Audience::Anyone, Audience::Enrolled].map(|audience| rules.policy.decide(&path, audience));
        let signers = signing.missing(&path.info, self.store.dir()).filter(|_| path.ultimate);
        let signed_here_by = signers.map(|key| key.name().to_owned()).collect();
        Ok(Some(Explanation { path, anyone, enrolled, signed_here_by }))
    }
}

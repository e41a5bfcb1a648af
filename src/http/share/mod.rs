//! The face towards other machines: what this machine's own store offers, as far as the policy shares it.
//!
//! It answers from the store and nothing else; nothing is ever fetched on somebody's behalf. What may not be shared looks
//! like what is not there, and so does everything that fails before its first byte: whoever asks has other sources, and
//! a Nix that asks us directly must never see an error.

mod known;
mod nar;
mod records;
mod rules;

use super::reply::{self, keep, media};
use super::seldom::Seldom;
use super::throttle::Throttle;
use super::turns::Turns;
use super::{Body, Handler, Limits, Request, Route};
use crate::nix::SecretKey;
use crate::nix::cache_info::CacheInfo;
use crate::peers::{Admission, Peers, hello};
use crate::store::{Audience, SharePolicy, Store, StoreError};
use bytes::Bytes;
use hyper::Response;
use known::KnownPaths;
use rules::CurrentRules;
pub use rules::Explanation;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The priority of the share as an ordinary cache: before cache.nixos.org (40), behind our own gateway (10).
pub const PRIORITY: i32 = 30;

/// What a share is made of.
pub struct ShareOptions {
    /// Where everything comes from.
    pub store: Store,
    /// What may be shared.
    pub policy: Arc<SharePolicy>,
    /// The keys that sign what was built here.
    pub signing_keys: Arc<[Arc<SecretKey>]>,
    /// How many bytes a second may leave, 0 for no limit (`[share] upload_limit`).
    pub upload_limit: u64,
    /// Of these, the number of transfers.
    pub limits: Limits,
}

/// The share. It has up to two faces; limits, caches and counters are theirs together.
pub struct Share {
    store: Store,
    rules: CurrentRules,
    known: KnownPaths,
    throttle: Option<Arc<Throttle>>,
    turns: Arc<Turns>,
    cache_info: Bytes,
    complaints: Seldom,
    /// NARs, or parts of them, that were begun.
    pub nars_begun: AtomicU64,
    /// Requests for paths that are here and may not be shared.
    pub refusals: AtomicU64,
}

impl Share {
    /// Puts a share together.
    #[must_use]
    pub fn new(options: ShareOptions) -> Arc<Self> {
        let ShareOptions { store, policy, signing_keys, upload_limit, limits } = options;
        let cache_info = CacheInfo { store_dir: store.dir().clone(), want_mass_query: true, priority: Some(PRIORITY) };
        Arc::new(Self {
            store,
            rules: CurrentRules::new(policy, signing_keys),
            known: KnownPaths::new(),
            throttle: Throttle::new(upload_limit),
            turns: Turns::new(&limits),
            cache_info: cache_info.render().into(),
            complaints: Seldom::new(),
            nars_begun: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        })
    }

    /// Its face as an ordinary binary cache, for anyone (`[share] plain_listen`).
    #[must_use]
    pub fn plain(self: &Arc<Self>) -> ShareFace {
        ShareFace { share: Arc::clone(self), towards: Towards::Anyone }
    }

    /// Its face towards peers, on a TLS listener that lets in whom `admission` admits.
    #[must_use]
    pub fn towards_peers(self: &Arc<Self>, peers: Peers, admission: Admission) -> ShareFace {
        ShareFace { share: Arc::clone(self), towards: Towards::Peers(peers, admission) }
    }
}

/// An answer, if what was asked for is here and may be shared.
type Found = Result<Option<Response<Body>>, StoreError>;

/// Who is on the other side of a face.
enum Towards {
    Anyone,
    Peers(Peers, Admission),
}

/// One face of a [`Share`].
pub struct ShareFace {
    share: Arc<Share>,
    towards: Towards,
}

impl ShareFace {
    fn audience(&self, request: &Request) -> Audience {
        match (&self.towards, request.caller.node) {
            (Towards::Peers(_, admission), Some(node)) => match admission.audience(node) {
                crate::peers::Audience::Enrolled => Audience::Enrolled,
                crate::peers::Audience::Anyone => Audience::Anyone,
            },
            (Towards::Anyone, _) | (Towards::Peers(..), None) => Audience::Anyone,
        }
    }

    /// A peer greets, and is greeted.
    fn hello(&self, request: &Request) -> Response<Body> {
        let (Towards::Peers(peers, _), Some(node)) = (&self.towards, request.caller.node) else {
            return reply::not_found();
        };
        if let Some(port) = hello::share_port(&request.headers) {
            peers.introduced(node, request.caller.address, port);
        }
        reply::ok(media::JSON, keep::NEVER, peers.hello_response())
    }

    async fn health(&self) -> Response<Body> {
        let state = if self.share.store.check().await.is_ok() { "ready" } else { "no store" };
        reply::json(&serde_json::json!({ "state": state }))
    }

    fn index(&self) -> Response<Body> {
        reply::text(match self.towards {
            Towards::Anyone => {
                "Peernix: a binary cache with what this machine's Nix store shares.\n\n\
                 To use it, add its address to nix.conf:\n\n\
                 \x20   extra-substituters = http://THIS-HOST:PORT\n\n\
                 Only signed paths are here; Nix accepts those whose key is in its trusted-public-keys.\n"
            }
            Towards::Peers(..) => "Peernix: this port is for other machines with Peernix.\n",
        })
    }
}

impl Handler for ShareFace {
    async fn answer(&self, request: Request) -> Response<Body> {
        let share = &self.share;
        let audience = self.audience(&request);
        let found = match &request.route {
            Route::NarInfo(hash) => share.narinfo(*hash, audience, &request.headers).await,
            Route::Nar(name) => share.nar(name, audience, &request).await,
            Route::Listing(hash) => share.listing(*hash, audience, &request).await,
            Route::Log(derivation) => share.log(derivation, audience, &request).await,
            Route::Realisation(output) => share.realisation(output, audience).await,
            Route::BuildTrace(key) => share.build_trace(key, audience).await,
            Route::DebugInfo(id) => share.debuginfo(id, audience).await,
            Route::CacheInfo => Ok(Some(reply::ok(media::CACHE_INFO, keep::SHORT, share.cache_info.clone()))),
            Route::Health => Ok(Some(self.health().await)),
            Route::Version => Ok(Some(reply::version())),
            Route::Index => Ok(Some(self.index())),
            Route::Hello => Ok(Some(self.hello(&request))),
            // The gateway's, and nobody else's business.
            Route::Metrics | Route::Peers => Ok(None),
        };
        let found = found.unwrap_or_else(|error| {
            complain(&share.complaints, &request.route, &error);
            None
        });
        found.unwrap_or_else(reply::not_found)
    }
}

/// Tells the administrator about trouble with the store.
fn complain(seldom: &Seldom, about: &Route, error: &StoreError) {
    if is_trouble(error) {
        log::log!(seldom.level(), path:% = about, reason:% = error; "the share says 'not found': trouble with the store");
    } else {
        log::debug!(path:% = about, reason:% = error; "not served");
    }
}

/// Whether somebody has to do something about it, or it is the life of a store.
fn is_trouble(error: &StoreError) -> bool {
    match error {
        StoreError::Missing { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Database { .. }
        | StoreError::Record { .. }
        | StoreError::DaemonIo { .. }
        | StoreError::DaemonSilent { .. }
        | StoreError::Protocol { .. }
        | StoreError::Refused(_)
        | StoreError::RootNotInTime
        | StoreError::NeedsDaemon { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Io { .. }
        | StoreError::Configuration { .. } => true,
        StoreError::Gone(_)
        | StoreError::NotValid(_)
        | StoreError::TooManyPins { .. }
        | StoreError::Argument(_)
        | StoreError::Changed { .. }
        | StoreError::Limit { .. }
        | StoreError::NoListing(_)
        | StoreError::Range { .. }
        | StoreError::Closed => false,
        StoreError::Shared(error) => is_trouble(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_from_life() {
        assert!(is_trouble(&StoreError::Refused("no".into())));
        assert!(is_trouble(&StoreError::Shared(Arc::new(StoreError::Refused("no".into())))));
        assert!(!is_trouble(&StoreError::Shared(Arc::new(StoreError::Closed))));
    }
}

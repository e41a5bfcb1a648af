//! The face towards other machines: what this machine's own store offers, as far as the policy shares it.
//!
//! It answers from the store, and peers also from what is on its way into it; nothing is ever fetched on somebody's behalf. What may not be shared looks
//! like what is not there, and so does everything that fails for good before its first byte: whoever asks has other sources, and
//! a Nix that asks us directly must not see an error without end. But a store that cannot be read at the moment is no answer, and
//! a 404 would be remembered as one: that is 503, which Nix asks again, and which peers take for what it is.

mod check_queue;
mod compressed;
mod core;
mod documents;
mod given;
mod known;
mod landing;
mod measure;
mod nar;
mod narinfo;
mod offer;
mod partial;
mod patch;
mod patch_work;
mod pieces;
mod rules;
mod self_check;
mod spare;
mod status;
mod throttle;
mod upload;
mod upload_slots;

pub use self::check_queue::ShareEvent;
pub use self::core::{Explanation, Share, ShareCompression, ShareOptions};
pub use self::status::{hello, holders, index};

use self::core::Answer;
use super::protocol::body::Body;
use super::protocol::reply::{self, keep, media};
use super::protocol::routes::Route;
use super::server::listener::{Handler, Request};
use crate::copies::Copies;
use crate::fetch::SiteDesk;
use crate::fetch::pieces::tables::Tables;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::peers::{self, Admission, NodeId, Peers};
use crate::resilience::LogThrottle;
use crate::store::{Audience, StoreError};
use hyper::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a peer waits for a narinfo before it is told that we are busy. It waits a second, and then takes us for stalled.
const PEER_PATIENCE: Duration = Duration::from_millis(800);

/// Times in which the store cannot be read.
static TROUBLE: LogThrottle = LogThrottle::new();

impl Share {
    /// What it answers as an ordinary binary cache, to anyone (`[share] plain_listen`).
    #[must_use]
    pub fn plain(self: &Arc<Self>) -> ShareHandler {
        ShareHandler {
            share: Arc::clone(self),
            towards: Towards::Anyone,
            site: None,
            tables: None,
            patches: None,
            copies: None,
        }
    }

    /// What it answers to peers, on a TLS listener that lets in whom `admission` admits; they are told `index`.
    #[must_use]
    pub fn towards_peers(self: &Arc<Self>, peers: Peers, index: Index, admission: Admission) -> ShareHandler {
        let towards = Towards::Peers(peers, index, admission);
        ShareHandler { share: Arc::clone(self), towards, site: None, tables: None, patches: None, copies: None }
    }
}

/// Who is on the other side of a listener.
enum Towards {
    Anyone,
    Peers(Peers, Index, Admission),
}

/// What a [`Share`] answers on one of its listeners.
pub struct ShareHandler {
    share: Arc<Share>,
    towards: Towards,
    site: Option<SiteDesk>,
    tables: Option<Tables>,
    patches: Option<Arc<Metrics>>,
    copies: Option<Copies>,
}

impl ShareHandler {
    /// The same, where peers agree on who downloads what, and stream what is on its way.
    #[must_use]
    pub fn with_site(self, site: Option<SiteDesk>) -> Self {
        Self { site, ..self }
    }

    /// The same, where peers are told what proves the pieces of a NAR.
    #[must_use]
    pub fn with_pieces(self, tables: Option<Tables>) -> Self {
        Self { tables, ..self }
    }

    /// The same, where peers are sent what a NAR differs in from another one; they are counted.
    #[must_use]
    pub fn with_patches(self, patches: Option<Arc<Metrics>>) -> Self {
        Self { patches, ..self }
    }

    /// The same, where members of the fleet are held copies for.
    #[must_use]
    pub fn with_copies(self, copies: Option<Copies>) -> Self {
        Self { copies, ..self }
    }

    /// Who asks, if it agrees with us and others on who downloads what.
    fn claimant(&self, request: &Request) -> Option<NodeId> {
        match (&self.towards, &self.site, request.caller.node) {
            (Towards::Peers(peers, ..), Some(_), Some(node)) => {
                peers.get(node).filter(|peer| peer.claims()).map(|_| node)
            }
            _ => None,
        }
    }

    fn audience(&self, request: &Request) -> Audience {
        match (&self.towards, request.caller.node) {
            (Towards::Peers(_, _, admission), Some(node)) => match admission.audience(node) {
                peers::Audience::Enrolled => Audience::Enrolled,
                peers::Audience::Anyone => Audience::Anyone,
            },
            (Towards::Anyone, _) | (Towards::Peers(..), None) => Audience::Anyone,
        }
    }
}

impl ShareHandler {
    /// What a machine is told that is no member of the fleet, where only members are let in: why, whatever it asks. It may show that it is
    /// one when it greets us, and join.
    fn refusal(&self, request: &Request) -> Option<Response<Body>> {
        let (Towards::Peers(peers, _, admission), Some(node)) = (&self.towards, request.caller.node) else {
            return None;
        };
        let fleet = admission.fleet().filter(|_| request.route != Route::Pair)?;
        let is_greeting = request.route == Route::Hello;
        let shown = if is_greeting { peers::hello::membership(&request.headers) } else { None };
        let refusal = fleet.present(node, shown).err()?;
        if is_greeting {
            log::debug!(peer:% = node, address:% = request.caller.address, reason:% = refusal; "peer not let in: {refusal}");
            peers.told_refused(node, &refusal);
        }
        Some(reply::forbidden(&refusal.to_string()))
    }

    /// The answer, or that we are busy, before a peer takes us for stalled.
    async fn in_time(&self, answer: impl Future<Output = Answer>) -> Answer {
        match self.towards {
            Towards::Anyone => answer.await,
            Towards::Peers(..) => timeout(PEER_PATIENCE, answer).await.unwrap_or_else(|_| Ok(Some(reply::busy()))),
        }
    }

    /// Whether an error leaves open what is here. A Nix is told so only of what passes; to a peer it is no harm.
    fn is_no_answer(&self, error: &StoreError) -> bool {
        let is_unreadable = matches!(
            error.inner(),
            StoreError::Unreadable { .. } | StoreError::Database { .. } | StoreError::DaemonIo { .. }
        );
        error.is_passing() || (is_unreadable && matches!(self.towards, Towards::Peers(..)))
    }
}

impl Handler for ShareHandler {
    async fn answer(&self, request: Request) -> Response<Body> {
        if let Some(refusal) = self.refusal(&request) {
            return refusal;
        }
        let share = &self.share;
        if request.route.is_of_paths() && share.is_paused() {
            // A narinfo would promise what is not sent then. A peer that was promised something just before goes elsewhere, and does not
            // hold it against us.
            let was_promised = request.route.is_stream() && matches!(self.towards, Towards::Peers(..));
            return if was_promised { reply::busy() } else { reply::not_found() };
        }
        let audience = self.audience(&request);
        // On the heap while they last: else the room for the largest of them would be in each connection, idle ones included.
        let found = match &request.route {
            Route::NarInfo(hash) => self.in_time(Box::pin(share.narinfo(*hash, audience, &request))).await,
            Route::PeerixNarInfo(hash) => match self.towards {
                Towards::Anyone => Box::pin(share.narinfo_for_peerix(*hash)).await,
                Towards::Peers(..) => Ok(None),
            },
            Route::Nar(name) => Box::pin(share.nar(name, audience, &request, self.claimant(&request))).await,
            Route::Listing(hash) => Box::pin(share.listing(*hash, audience, &request)).await,
            Route::Log(derivation) => Box::pin(share.log(derivation, audience, &request)).await,
            Route::Realisation(output) => Box::pin(share.realisation(output, audience, &request.headers)).await,
            Route::BuildTrace(key) => Box::pin(share.build_trace(key, audience, &request.headers)).await,
            Route::DebugInfo(id) => Box::pin(share.debuginfo(id, audience)).await,
            Route::CacheInfo => Ok(Some(status::cache_info(share.store.dir()))),
            Route::Health => Ok(Some(status::health(&share.store).await)),
            Route::Version => Ok(Some(reply::version())),
            Route::Index => Ok(Some(match self.towards {
                Towards::Anyone => landing::landing(&share.rules.now().policy, &request),
                Towards::Peers(..) => reply::text(status::INDEX_FOR_PEERS),
            })),
            Route::Hello => Ok(match (&self.towards, request.caller.node) {
                (Towards::Peers(peers, _, admission), Some(node)) => {
                    if admission.fleet().is_none() {
                        // Where anybody is let in, members are told of the fleet all the same, if they show that they are.
                        let _ = peers.fleet().present(node, peers::hello::membership(&request.headers));
                    }
                    peers::hello::damaged(&request.headers).into_iter().for_each(|hash| share.suspect(hash, audience));
                    Some(hello(peers, node, &request))
                }
                _ => None,
            }),
            Route::NarInfos => match self.towards {
                Towards::Anyone => Ok(None),
                Towards::Peers(..) => self.in_time(Box::pin(share.narinfos(audience, &request))).await,
            },
            Route::PeerIndex(whose, known) => Ok(match (&self.towards, request.caller.node) {
                (Towards::Peers(peers, told, _), Some(node)) => index(peers, told, node, *whose, *known).await,
                _ => None,
            }),
            Route::Holders => Ok(match (&self.towards, request.caller.node) {
                (Towards::Peers(peers, index, _), Some(node)) => holders(peers, index, node, &request.body).await,
                _ => None,
            }),
            Route::Claim => Ok(match (&self.site, request.caller.node) {
                (Some(site), Some(node)) => Some(partial::claim(&site.claims, node, &request)),
                _ => None,
            }),
            Route::Copies => Ok(match (&self.copies, request.caller.node) {
                (Some(copies), Some(node)) if audience == Audience::Enrolled => {
                    let answer = copies.answer(node, &request.body).await;
                    Some(answer.map_or_else(|_| reply::bad_request(), |body| reply::ok(media::JSON, keep::NEVER, body)))
                }
                _ => None,
            }),
            Route::Fleet => Ok(match (&self.towards, request.caller.node) {
                (Towards::Peers(peers, ..), Some(node)) => status::fleet(peers, node),
                _ => None,
            }),
            Route::Pair => Ok(match (&self.towards, request.caller.node) {
                (Towards::Peers(peers, ..), Some(node)) => status::pair(peers, node, &request.body).await,
                _ => None,
            }),
            Route::Partial(nar) => match &self.site {
                Some(site) => Box::pin(share.partial(&site.spools, *nar, &request)).await,
                None => Ok(None),
            },
            Route::UpstreamNarInfo(upstream, hash) => Ok(match (&self.site, request.caller.node) {
                (Some(site), Some(_)) => {
                    let text = site.narinfos.answer(*upstream, *hash).await;
                    text.map(|text| reply::ok(media::NARINFO, keep::NEVER, text))
                }
                _ => None,
            }),
            Route::Pieces(name) => match &self.tables {
                Some(tables) => self.in_time(Box::pin(share.pieces(tables, name, audience))).await,
                None => Ok(None),
            },
            Route::Patch(name) => match &self.patches {
                Some(metrics) => self.in_time(Box::pin(share.patch(name, audience, &request, metrics))).await,
                None => Ok(None),
            },
            Route::Measure(bytes) => match self.towards {
                Towards::Anyone => Ok(None),
                Towards::Peers(..) => Ok(Some(share.measure(*bytes, &request).await)),
            },
            // The gateway's, and nobody else's business.
            Route::Metrics | Route::Peers | Route::Page(_) => Ok(None),
        };
        match found {
            Ok(found) => found.unwrap_or_else(reply::not_found),
            Err(error) => {
                complain(&request.route, &error);
                if self.is_no_answer(&error) { reply::busy() } else { reply::not_found() }
            }
        }
    }
}

/// Tells the administrator about trouble with the store.
fn complain(about: &Route, error: &StoreError) {
    if is_trouble(error) {
        log::log!(TROUBLE.level(), path:% = about, reason:% = error; "the share has no answer: trouble with the store");
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
        | StoreError::Busy { .. }
        | StoreError::Record { .. }
        | StoreError::DaemonIo { .. }
        | StoreError::DaemonSilent { .. }
        | StoreError::ShutOut { .. }
        | StoreError::NotMember { .. }
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

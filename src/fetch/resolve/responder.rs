//! Who can be asked for a path: peers and upstreams, each with the form of its answers.

use super::resolution::Holder;
use super::retries::Retries;
use super::verify::{self, Refusal, Trust, Whose};
use crate::fetch::error::{Kind, SourceError, Violation};
use crate::fetch::source::decode::Codec;
use crate::fetch::source::peer::{PeerSource, nar_url};
use crate::fetch::source::upstream::{Upstream, collect};
use crate::fetch::source::upstream_health::{Nothing, is_passing};
use crate::fetch::source::upstream_nar::UpstreamNar;
use crate::fetch::source::upstreams::Upstreams;
use crate::fetch::source::{Remote, Source};
use crate::index::Index;
use crate::nix::{Compression, NarInfo, StoreHash};
use crate::peers::trusted_keys::SignedBy;
use crate::peers::{NodeId, Peer, PeerEvent, Peers};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a peer may take to the head of a narinfo.
const PEER_HEAD: Duration = Duration::from_secs(1);
/// The longest URL in an upstream's narinfo, in bytes.
const URL_MAX: usize = 4096;

/// Somebody who can be asked for a path.
#[async_trait]
pub(crate) trait Responder: Send + Sync {
    /// Who it is.
    fn remote(&self) -> &dyn Remote;

    /// Whether it answers of late, so that its answer is worth waiting for. Peers that do not are not asked.
    fn works(&self) -> bool {
        true
    }

    /// Upstreams of a higher tier are asked when those of lower ones do not have it.
    fn tier(&self) -> u8 {
        0
    }

    /// What sends a NAR that it is said to have, without being asked whether it does; `None` where only its answer says how.
    fn source(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// How long it usually takes to answer, if that is known.
    fn latency(&self) -> Option<Duration> {
        None
    }

    /// Asks for the path and proves the answer. `None`: it does not have it, or nothing that counts here.
    ///
    /// # Errors
    /// It could not be asked, or lied.
    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError>;

    /// A small document, at `target` (with the slash at its beginning). `None`: it does not have it.
    ///
    /// # Errors
    /// It could not be asked, or the document is larger than `limit` bytes.
    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError>;
}

/// All who can be asked now.
#[derive(Clone, Default)]
pub(crate) struct Responders {
    /// The best first.
    pub(crate) peers: Vec<Arc<dyn Responder>>,
    /// How many of them, from the first, are said to have what is looked for.
    pub(crate) holders: usize,
    /// In the order of preference, those that are worth asking.
    pub(crate) upstreams: Vec<Arc<dyn Responder>>,
    /// There are others that may have it, and are left alone for a while.
    pub(crate) is_partial: bool,
}

/// Where they come from.
pub(crate) trait Network: Send + Sync {
    /// All who can be asked now.
    fn responders(&self) -> Responders;

    /// The same for one path: without those that are known not to have it.
    fn responders_for(&self, _: StoreHash) -> Responders {
        self.responders()
    }

    /// A peer was asked for a path, and had it or not.
    fn tried(&self, _: NodeId, _: StoreHash, _: bool) {}

    /// Other keys are trusted than before.
    fn trust_changed(&self) {}

    /// Moves when a peer may have more than before.
    fn more(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Every upstream, those included that are left alone.
    fn upstreams(&self) -> Vec<Arc<dyn Responder>>;

    /// Tells who comes and goes from now on.
    fn subscribe(&self) -> broadcast::Receiver<PeerEvent>;
}

/// The peers of this machine and its upstreams.
pub(crate) struct Surroundings {
    pub(crate) peers: Peers,
    /// Who of them has what.
    pub(crate) index: Index,
    pub(crate) upstreams: Arc<Upstreams>,
}

impl Surroundings {
    fn with(&self, peers: Vec<Arc<Peer>>, holders: usize) -> Responders {
        let all = self.upstreams.now();
        let upstreams: Vec<_> = all.iter().filter(|upstream| upstream.is_available()).map(cache).collect();
        let is_partial = self.peers.has_others() || upstreams.len() < all.len();
        let peers = peers.into_iter().map(|peer| Arc::new(PeerSource(peer)) as Arc<dyn Responder>);
        Responders { peers: peers.collect(), holders, upstreams, is_partial }
    }
}

impl Network for Surroundings {
    fn responders(&self) -> Responders {
        self.with(self.peers.candidates(), 0)
    }

    fn responders_for(&self, hash: StoreHash) -> Responders {
        let (peers, holders) = self.index.pick(hash, self.peers.candidates());
        self.with(peers, holders)
    }

    fn tried(&self, id: NodeId, hash: StoreHash, had_it: bool) {
        self.index.tried(id, hash, had_it);
    }

    fn trust_changed(&self) {
        self.index.forgive();
    }

    fn more(&self) -> Option<watch::Receiver<u64>> {
        Some(self.index.more())
    }

    fn upstreams(&self) -> Vec<Arc<dyn Responder>> {
        self.upstreams.now().iter().map(cache).collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.peers.subscribe()
    }
}

#[async_trait]
impl Responder for PeerSource {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn latency(&self) -> Option<Duration> {
        self.0.latency()
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        if trust.keys.is_empty() {
            // Nothing that it could say would count, and that would not be its fault.
            return Ok(None);
        }
        self.must_not_be_barred(hash)?;
        let target = format!("/{hash}.narinfo");
        let response = timeout(PEER_HEAD, self.get(&target, None)).await;
        let response = response.unwrap_or(Err(SourceError::Stalled(PEER_HEAD)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(SourceError::Status(other.as_u16())),
        }
        let asked = Asked::Peer(SignedBy::of(response.headers()));
        let text = collect(response.into_body(), verify::LIMIT).await?;
        let NarInfo { info, url, compression, .. } = match believe(trust, text, hash, asked).await? {
            Ok(believed) => believed,
            Err(Refusal::Lie(violation)) => return Err(violation.into()),
            Err(reason) => {
                log::debug!(peer:% = self.0.id(), path:% = hash; "not for us: {reason}");
                return Ok(None);
            }
        };
        // The protocol leaves a peer no choice of these, so whoever sends something else tries something.
        if url != nar_url(hash, &info.nar_hash) || compression != Compression::None {
            return Err(Violation::Url(url.chars().take(200).collect()).into());
        }
        let (source, file_size) = (Arc::new(Self(Arc::clone(&self.0))), Some(info.nar_size));
        Ok(Some(Holder { info, source, compression, file_size }))
    }

    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        let response = self.get(target, None).await?;
        match response.status() {
            StatusCode::OK => collect(response.into_body(), limit).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(SourceError::Status(other.as_u16())),
        }
    }
}

/// An upstream that is asked.
struct UpstreamCache(Arc<Upstream>);

fn cache(upstream: &Arc<Upstream>) -> Arc<dyn Responder> {
    Arc::new(UpstreamCache(Arc::clone(upstream)))
}

impl UpstreamCache {
    /// The text of a narinfo, asked for again while the trouble looks as if it passed.
    async fn text(&self, hash: StoreHash) -> Result<Option<Bytes>, SourceError> {
        let upstream = &self.0;
        let (begun, url) = (Instant::now(), format!("{hash}.narinfo"));
        let mut retries = Retries::new(begun);
        loop {
            let error = match upstream.document(&url, verify::LIMIT).await {
                Err(error) if is_passing(&error) => error,
                answer => return answer,
            };
            let again =
                if upstream.is_worth_retries() { retries.next(upstream.busy_until(), Instant::now()) } else { None };
            let Some(pause) = again else {
                upstream.came_to_nothing(Nothing::Failed, begun);
                return Err(error);
            };
            log::debug!(upstream:% = upstream, path:% = hash, reason:% = error; "asking again in {pause:.1?}");
            sleep(pause).await; // backoff
        }
    }
}

#[async_trait]
impl Responder for UpstreamCache {
    fn remote(&self) -> &dyn Remote {
        self.0.as_ref()
    }

    fn works(&self) -> bool {
        self.0.works()
    }

    fn tier(&self) -> u8 {
        self.0.options.tier
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        let upstream = &self.0;
        let Some(text) = self.text(hash).await? else { return Ok(None) };
        // An upstream may simply be signed by a key that is not trusted here: no lie.
        let useless = |kind, reason: &dyn std::fmt::Display| {
            let level = upstream.complain(kind);
            log::log!(level, upstream:% = upstream, path:% = hash, reason:% = reason; "what an upstream has is not usable: {reason}");
            Ok(None)
        };
        match believe(trust, text, hash, Asked::Upstream(Arc::clone(upstream))).await? {
            Ok(NarInfo { url, .. }) if url.len() > URL_MAX => Err(SourceError::TooLarge(URL_MAX)),
            // What cannot be had is not there: Nix is promised nothing that nobody can give.
            Ok(NarInfo { compression, .. }) if Codec::of(&compression).is_err() => {
                useless(Kind::Compression, &format_args!("compressed with {compression}"))
            }
            Ok(NarInfo { info, .. }) if !upstream.options.may_give(info.path.name()) => {
                useless(Kind::Name, &format_args!("the configuration takes no '{}' from it", info.path.name()))
            }
            Ok(NarInfo { info, url, compression, file_size, .. }) => {
                match upstream.address(&url).await {
                    Ok(_) => {}
                    // Not to know is no answer.
                    Err(error @ SourceError::Unavailable(_)) => return Err(error),
                    Err(error) => return useless(error.kind(), &error),
                }
                let nar = UpstreamNar { upstream: Arc::clone(upstream), url, compression: compression.clone() };
                Ok(Some(Holder { info, source: Arc::new(nar), compression, file_size }))
            }
            Err(reason) => useless(reason.kind(), &reason),
        }
    }

    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        let begun = Instant::now();
        let answer = self.0.document(target.trim_start_matches('/'), limit).await;
        if answer.as_ref().is_err_and(is_passing) {
            self.0.came_to_nothing(Nothing::Failed, begun);
        }
        answer
    }
}

/// Who sent a narinfo.
enum Asked {
    /// A peer, which says that it was signed by these keys.
    Peer(SignedBy),
    Upstream(Arc<Upstream>),
}

/// Verifies off the reactor.
async fn believe(
    trust: &Arc<Trust>,
    text: Bytes,
    hash: StoreHash,
    asked: Asked,
) -> Result<Result<NarInfo, Refusal>, SourceError> {
    let trust = Arc::clone(trust);
    let believed = tokio::task::spawn_blocking(move || match &asked {
        Asked::Peer(signed_by) => trust.believe(&text, hash, Whose::Peer(signed_by)),
        Asked::Upstream(upstream) => trust.believe(&text, hash, Whose::Upstream(upstream.only())),
    });
    believed.await.map_err(|stopped| SourceError::Unavailable(stopped.to_string()))
}

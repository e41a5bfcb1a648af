//! An upstream that is asked for a path.

use super::resolution::Holder;
use super::responder::Responder;
use super::upstream_narinfos::{Said, UpstreamNarinfos};
use super::verify::{Asked, Refusal, Trust, believe};
use crate::fetch::error::{Kind, SourceError};
use crate::fetch::source::Remote;
use crate::fetch::source::decode::Codec;
use crate::fetch::source::upstream::Upstream;
use crate::fetch::source::upstream_health::{Nothing, is_passing};
use crate::fetch::source::upstream_nar::{Unproved, UpstreamNar};
use crate::nix::{NarInfo, StoreHash};
use crate::peers::trusted_keys::SignedBy;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

/// The longest URL in an upstream's narinfo, in bytes.
const URL_MAX: usize = 4096;

/// An upstream that is asked.
struct UpstreamCache(Arc<Upstream>, UpstreamNarinfos);

pub(super) fn cache(upstream: &Arc<Upstream>, narinfos: &UpstreamNarinfos) -> Arc<dyn Responder> {
    Arc::new(UpstreamCache(Arc::clone(upstream), narinfos.clone()))
}

impl UpstreamCache {
    /// What is left of a narinfo that another machine told: what a trusted key signed, if the upstream may vouch by it, and a URL that leads nowhere
    /// but to the upstream. `None`: nothing.
    async fn told(&self, trust: &Arc<Trust>, text: Bytes, hash: StoreHash) -> Result<Option<NarInfo>, SourceError> {
        let by_peer = believe(trust, text.clone(), hash, Asked::Peer(SignedBy::default())).await?;
        let narinfo = match by_peer {
            Ok(narinfo) if self.0.only().is_none() => Ok(narinfo),
            Ok(_) => believe(trust, text, hash, Asked::Upstream(Arc::clone(&self.0))).await?,
            Err(reason) => Err(reason),
        };
        Ok(match narinfo {
            Ok(narinfo) => Some(narinfo).filter(|narinfo| !leads_elsewhere(&narinfo.url)),
            Err(reason) => {
                log::debug!(upstream:% = self.0, path:% = hash, reason:% = reason; "what another machine tells of the upstream is not believed: {reason}");
                None
            }
        })
    }

    /// What is left of the upstream's narinfo; a reason: it is of no use. With whether another machine told it.
    async fn believed(
        &self,
        trust: &Arc<Trust>,
        hash: StoreHash,
    ) -> Result<Option<(Result<NarInfo, Refusal>, bool)>, SourceError> {
        let Self(upstream, narinfos) = self;
        let Some(Said { mut text, is_told }) = narinfos.text(upstream, hash).await? else { return Ok(None) };
        if is_told {
            if let Some(narinfo) = self.told(trust, text, hash).await? {
                return Ok(Some((Ok(narinfo), true)));
            }
            let Some(own) = narinfos.own(upstream, hash).await? else { return Ok(None) };
            text = own;
        }
        Ok(Some((believe(trust, text, hash, Asked::Upstream(Arc::clone(upstream))).await?, false)))
    }
}

/// Whether a URL in a narinfo is not relative to the cache that has it.
fn leads_elsewhere(url: &str) -> bool {
    url.contains("://") || url.starts_with('/')
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
        let Some((believed, is_told)) = self.believed(trust, hash).await? else { return Ok(None) };
        // An upstream may simply be signed by a key that is not trusted here: no lie.
        let useless = |kind, reason: &dyn std::fmt::Display| {
            let level = upstream.complain(kind);
            log::log!(level, upstream:% = upstream, path:% = hash, reason:% = reason; "what an upstream has is not usable: {reason}");
            Ok(None)
        };
        match believed {
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
                // Nobody signs the URL.
                let unproved = is_told.then(|| Unproved { hash, store_dir: trust.store_dir.clone() });
                let nar =
                    UpstreamNar { upstream: Arc::clone(upstream), url, compression: compression.clone(), unproved };
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

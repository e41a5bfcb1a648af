//! An upstream that is asked for a path.

use super::resolution::Holder;
use super::responder::Responder;
use super::retries::Retries;
use super::verify::{self, Asked, Trust, believe};
use crate::fetch::error::{Kind, SourceError};
use crate::fetch::source::Remote;
use crate::fetch::source::decode::Codec;
use crate::fetch::source::upstream::Upstream;
use crate::fetch::source::upstream_health::{Nothing, is_passing};
use crate::fetch::source::upstream_nar::UpstreamNar;
use crate::nix::{NarInfo, StoreHash};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// The longest URL in an upstream's narinfo, in bytes.
const URL_MAX: usize = 4096;

/// An upstream that is asked.
struct UpstreamCache(Arc<Upstream>);

pub(super) fn cache(upstream: &Arc<Upstream>) -> Arc<dyn Responder> {
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

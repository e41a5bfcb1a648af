//! A peer that is asked for a path.

use super::batches::Batches;
use super::exchanges::NarInfos;
use super::resolution::Holder;
use super::responder::Responder;
use super::verify::{Asked, Refusal, Trust, believe};
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::peer::{PeerSource, nar_url};
use crate::fetch::source::upstream::collect;
use crate::fetch::source::{Remote, Source};
use crate::nix::{Compression, NarInfo, StoreHash};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// A peer, and what is asked of all peers at the moment.
pub(crate) struct PeerResponder {
    pub(crate) source: Arc<PeerSource>,
    pub(crate) batches: Arc<Batches<NarInfos>>,
}

#[async_trait]
impl Responder for PeerResponder {
    fn remote(&self) -> &dyn Remote {
        self.source.as_ref()
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::clone(&self.source) as Arc<dyn Source>)
    }

    fn works(&self) -> bool {
        self.source.0.is_worth_waiting_for()
    }

    fn latency(&self) -> Option<Duration> {
        self.source.0.latency()
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        if trust.keys.is_empty() {
            // Nothing that it could say would count, and that would not be its fault.
            return Ok(None);
        }
        self.source.must_not_be_barred(hash)?;
        let Some((text, signed_by)) = self.batches.ask(&self.source, hash).await? else { return Ok(None) };
        let NarInfo { info, url, compression, .. } = match believe(trust, text, hash, Asked::Peer(signed_by)).await? {
            Ok(believed) => believed,
            Err(Refusal::Lie(violation)) => return Err(violation.into()),
            Err(reason) => {
                log::debug!(peer:% = self.source.0.id(), path:% = hash; "not for us: {reason}");
                return Ok(None);
            }
        };
        // The protocol leaves a peer no choice of these, so whoever sends something else tries something.
        if url != nar_url(hash, &info.nar_hash) || compression != Compression::None {
            return Err(Violation::Url(url.chars().take(200).collect()).into());
        }
        let (source, file_size) = (Arc::clone(&self.source) as Arc<dyn Source>, Some(info.nar_size));
        Ok(Some(Holder { info, source, compression, file_size }))
    }

    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        let response = self.source.get(target, None).await?;
        match response.status() {
            StatusCode::OK => collect(response.into_body(), limit).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(SourceError::Status(other.as_u16())),
        }
    }
}

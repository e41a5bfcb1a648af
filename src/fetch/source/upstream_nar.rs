//! A file of an upstream as a source: decoded where it is compressed, so that it is the same bytes as everybody's.

use super::decode::{self, Codec};
use super::decoded::{Decoded, Feed};
use super::direct::Direct;
use super::download::Download;
use super::upstream::Upstream;
use super::{Abilities, ByteFlow, NarId, Remote, Source, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::nix::Compression;
use crate::peers::hello::WEIGHT_MAX;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// How long an upstream may be silent when there is no other source.
const SILENCE: Duration = Duration::from_secs(5);
/// The same where it is compressed: a [`Download`] helps itself meanwhile, and can go on where it was.
const SILENCE_COMPRESSED: Duration = Duration::from_secs(30);

/// A NAR of an upstream, with what its narinfo said.
pub(crate) struct UpstreamNar {
    pub(crate) upstream: Arc<Upstream>,
    /// As in its narinfo.
    pub(crate) url: String,
    pub(crate) compression: Compression,
}

#[async_trait]
impl Source for UpstreamNar {
    fn remote(&self) -> &dyn Remote {
        self.upstream.as_ref()
    }

    fn abilities(&self) -> Abilities {
        let begins_anywhere = self.compression == Compression::None;
        let silence = if begins_anywhere { SILENCE } else { SILENCE_COMPRESSED };
        Abilities { begins_anywhere, silence, is_far: true, is_partial: false, is_once: false }
    }

    fn standing(&self) -> Standing {
        Standing { usable: true, tier: Tier::Upstream, latency: None, throughput: None, weight: WEIGHT_MAX }
    }

    fn given(&self) -> u64 {
        self.upstream.given()
    }

    fn gave(&self, bytes: u64) {
        self.upstream.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let is_plain = self.compression == Compression::None;
        let mut response = self.upstream.get(&self.url, if is_plain { from } else { 0 }).await?;
        let mut layers = decode::encodings(response.headers())?;
        if response.status() == StatusCode::PARTIAL_CONTENT && !layers.is_empty() {
            // Offsets in what is encoded are not those of the NAR.
            response = self.upstream.get(&self.url, 0).await?;
            layers = decode::encodings(response.headers())?;
        }
        layers.extend(Codec::of(&self.compression)?);
        if layers.is_empty() {
            return Ok(Box::new(Direct::new(response, from, nar.size)?));
        }
        let download = Download::new(Arc::clone(&self.upstream), self.url.clone(), response)?;
        Ok(Box::new(Decoded::new(download, layers, from, nar.size)))
    }
}

impl Feed for Download {
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        Self::next(self).await
    }
}

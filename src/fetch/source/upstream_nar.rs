//! A file of an upstream as a source: decoded where it is compressed, so that it is the same bytes as everybody's.

use super::decode::{self, Codec};
use super::decoded::{Decoded, Feed};
use super::direct::Direct;
use super::download::Download;
use super::upstream::Upstream;
use super::{Abilities, ByteFlow, NarId, Remote, Source, Standing, Tier};
use crate::fetch::error::{SourceError, Violation};
use crate::nix::narinfo::NARINFO_MAX;
use crate::nix::{Compression, FormatError, NarInfo, StoreDir, StoreHash};
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
    /// `None`: the upstream said that itself.
    pub(crate) unproved: Option<Unproved>,
}

/// What another machine told of a NAR: where it is nobody signs.
pub(crate) struct Unproved {
    /// Of this path.
    pub(crate) hash: StoreHash,
    /// Whose narinfo it is.
    pub(crate) store_dir: StoreDir,
}

impl UpstreamNar {
    /// The file at this place.
    async fn open_at(
        &self,
        (url, compression): (&str, &Compression),
        nar: &NarId,
        from: u64,
    ) -> Result<Box<dyn ByteFlow>, SourceError> {
        let is_plain = *compression == Compression::None;
        let mut response = self.upstream.get(url, if is_plain { from } else { 0 }).await?;
        let mut layers = decode::encodings(response.headers())?;
        if response.status() == StatusCode::PARTIAL_CONTENT && !layers.is_empty() {
            // Offsets in what is encoded are not those of the NAR.
            response = self.upstream.get(url, 0).await?;
            layers = decode::encodings(response.headers())?;
        }
        layers.extend(Codec::of(compression)?);
        if layers.is_empty() {
            return Ok(Box::new(Direct::new(response, from, nar.size)?));
        }
        let download = Download::new(Arc::clone(&self.upstream), url.to_owned(), response)?;
        Ok(Box::new(Decoded::new(download, layers, from, nar.size)))
    }

    /// Where the upstream itself says that it is.
    async fn place(&self, told: &Unproved) -> Result<(String, Compression), SourceError> {
        let Unproved { hash, store_dir } = told;
        let text = self.upstream.document(&format!("{hash}.narinfo"), NARINFO_MAX).await?;
        let text = text.ok_or(SourceError::Status(StatusCode::NOT_FOUND.as_u16()))?;
        let text = std::str::from_utf8(&text).map_err(|_| Violation::from(FormatError::Line(1)))?;
        let narinfo = NarInfo::parse(text, store_dir).map_err(Violation::from)?;
        Ok((narinfo.url, narinfo.compression))
    }
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
        let told = (&*self.url, &self.compression);
        let Some(unproved) = &self.unproved else { return self.open_at(told, nar, from).await };
        // Both at once: it is seldom wrong.
        let (opened, place) = tokio::join!(self.open_at(told, nar, from), self.place(unproved));
        let (url, compression) = place?;
        if (&*url, &compression) == told {
            return opened;
        }
        log::debug!(upstream:% = self.upstream, path:% = unproved.hash; "the file is not where another machine said");
        self.open_at((&url, &compression), nar, from).await
    }
}

impl Feed for Download {
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        Self::next(self).await
    }
}

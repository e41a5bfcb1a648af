//! The bytes of an upstream's file as they are sent, resumed where they break off.
//!
//! A compressed file cannot go on from another source; what can be saved of a broken download is saved here.

use super::decode::{Codec, encodings};
use super::direct::{Extent, extent};
use super::upstream::Upstream;
use crate::fetch::error::SourceError;
use crate::resilience::Schedule;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{ETAG, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the upstream may be silent before the file is asked for again.
const STALL: Duration = Duration::from_secs(10);
/// How often in a row the file may fail to go on before it is given up.
const CHANCES: u32 = 4;
/// The pauses before it is asked for again.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(250), factor: 2, most: Duration::from_secs(2), spread: false };

/// A file on its way.
pub(crate) struct Download {
    upstream: Arc<Upstream>,
    url: String,
    body: Incoming,
    offset: u64,
    /// How long the file is, if the upstream tells.
    size: Option<u64>,
    etag: Option<HeaderValue>,
    /// What was done to it on its way.
    layers: Vec<Codec>,
    failures: u32,
}

impl Download {
    /// The file at `url`, which `upstream` begins to send with `response`.
    ///
    /// # Errors
    /// As for [`extent`] and [`encodings`].
    pub(crate) fn new(upstream: Arc<Upstream>, url: String, response: Response<Incoming>) -> Result<Self, SourceError> {
        let Extent { total: size, .. } = extent(&response, 0)?;
        let (etag, layers) = (response.headers().get(ETAG).cloned(), encodings(response.headers())?);
        Ok(Self { upstream, url, body: response.into_body(), offset: 0, size, etag, layers, failures: 0 })
    }

    /// The next bytes; `None` at the end of the file.
    ///
    /// # Errors
    /// It does not go on, or is another file by now.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        loop {
            let error = match timeout(STALL, self.body.frame()).await {
                Err(_) => SourceError::Stalled(STALL),
                Ok(Some(Err(error))) => SourceError::Connection(error.to_string()),
                Ok(None) => match self.size {
                    Some(size) if self.offset < size => SourceError::Truncated(self.offset, size),
                    _ => return None,
                },
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Err(_trailers) => continue,
                    Ok(chunk) => {
                        self.offset += chunk.len() as u64;
                        self.failures = 0;
                        return Some(Ok(chunk));
                    }
                },
            };
            match self.resume(error).await {
                Ok(body) => self.body = body,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Opens the same file again where it broke off.
    async fn resume(&mut self, mut error: SourceError) -> Result<Incoming, SourceError> {
        // Without a length and a name nobody can tell whether the rest belongs to the same file.
        while self.failures < CHANCES && (self.size.is_some() || self.has_name()) {
            log::info!(upstream:% = self.upstream, bytes = self.offset, reason:% = error; "resuming a download");
            self.failures += 1;
            sleep(PAUSES.after(self.failures)).await; // backoff
            match self.upstream.get(&self.url, self.offset).await {
                Ok(response) if self.is_continued_by(&response) => return Ok(response.into_body()),
                Ok(_) => return Err(SourceError::Changed),
                Err(again) => error = again,
            }
        }
        Err(error)
    }

    fn is_continued_by(&self, response: &Response<Incoming>) -> bool {
        let Ok(Extent { first, total }) = extent(response, self.offset) else { return false };
        let is_as_long = match (self.size, total) {
            (Some(size), Some(total)) => size == total,
            _ => self.has_name(),
        };
        let has_same_name = response.headers().get(ETAG) == self.etag.as_ref();
        let is_as_encoded = encodings(response.headers()).is_ok_and(|layers| layers == self.layers);
        first == self.offset && is_as_long && has_same_name && is_as_encoded
    }

    /// Whether the upstream gave it a tag that no other file has: a weak one may stand for something that is merely as good.
    fn has_name(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| etag.as_bytes().starts_with(b"\""))
    }
}

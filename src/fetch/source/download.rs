//! The bytes of an upstream's file as they are, resumed where they break off.
//!
//! A compressed file cannot go on from another source; what can be saved of a broken download is saved here.

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
    failures: u32,
}

impl Download {
    /// Opens the file at `url`.
    ///
    /// # Errors
    /// As for [`Upstream::get`] and [`extent`].
    pub(crate) async fn open(upstream: Arc<Upstream>, url: String) -> Result<Self, SourceError> {
        let response = upstream.get(&url, 0).await?;
        let Extent { total, .. } = extent(&response, 0)?;
        let etag = response.headers().get(ETAG).cloned();
        Ok(Self { upstream, url, body: response.into_body(), offset: 0, size: total, etag, failures: 0 })
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
        // Without a length nobody can tell whether the rest belongs to the same file.
        while self.failures < CHANCES && self.size.is_some() {
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
        let goes_on = Extent { first: self.offset, total: self.size };
        extent(response, self.offset).is_ok_and(|extent| extent == goes_on)
            && response.headers().get(ETAG) == self.etag.as_ref()
    }
}

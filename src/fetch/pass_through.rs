//! An upstream's file on its way to Nix as it is: Nix decodes and verifies it as it always did.

use super::error::{Lie, SourceError, TransferError};
use super::ledger::{SourceName, Trace};
use super::lookup::Lookup;
use super::source::content_range;
use super::stream::Stream;
use super::upstream::Upstream;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, ETAG, HeaderValue};
use hyper::{Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// How long an upstream may be silent.
const STALL: Duration = Duration::from_secs(10);
/// How often in a row the file may fail to go on before it is given up.
const CHANCES: u32 = 4;
/// The pause before the first retry; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// An upstream's answer, opened before the transfer begins so that a failure is known before Nix is answered.
pub(super) struct Opened {
    body: Incoming,
    /// The length of the whole file in bytes, if the upstream tells.
    pub(super) size: Option<u64>,
    etag: Option<HeaderValue>,
    offset: u64,
}

/// Opens the file at `url` from byte `offset` on.
///
/// # Errors
/// As for [`Upstream::get`]; another length than `size` where that is known; a content encoding, which would change the
/// bytes.
pub(super) async fn open(
    upstream: &Upstream,
    url: &str,
    offset: u64,
    size: Option<u64>,
) -> Result<Opened, SourceError> {
    let response = upstream.get(url, offset).await?;
    let headers = response.headers();
    let total = match response.status() {
        StatusCode::OK if offset == 0 => response.body().size_hint().exact(),
        StatusCode::PARTIAL_CONTENT => match content_range(headers) {
            Some((first, total)) if first == offset => Some(total),
            _ => return Err(Lie::Range.into()),
        },
        other => return Err(SourceError::Status(other.as_u16())),
    };
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(SourceError::Status(response.status().as_u16()));
    }
    if let (Some(total), Some(size)) = (total, size)
        && total != size
    {
        return Err(Lie::Size(total, size).into());
    }
    let etag = headers.get(ETAG).cloned();
    Ok(Opened { body: response.into_body(), size: total, etag, offset })
}

/// The transfer of an upstream's file.
pub(super) struct PassThrough {
    pub(super) lookup: Arc<Lookup>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) url: String,
    pub(super) stream: Arc<Stream>,
    pub(super) trace: Arc<Trace>,
}

impl PassThrough {
    /// Runs it to its end, which the stream tells.
    pub(super) async fn run(self, opened: Opened) -> Result<(), TransferError> {
        let outcome = self.copy(opened).await;
        let metrics = &self.lookup.metrics;
        match &outcome {
            Ok(()) => metrics.transfers_completed.add(1),
            Err(TransferError::Abandoned) => {
                log::debug!(upstream:% = self.upstream; "a download was given up: nobody reads");
            }
            Err(error) => {
                metrics.transfers_failed.add(1);
                log::info!(upstream:% = self.upstream, reason:% = error; "a download failed: {error}");
            }
        }
        self.stream.finish(outcome.clone());
        outcome
    }

    async fn copy(&self, opened: Opened) -> Result<(), TransferError> {
        let Opened { mut body, size, etag, mut offset } = opened;
        let mut failures = 0;
        self.trace.flows_from(SourceName::Upstream(self.upstream.host()));
        loop {
            let error = match tokio::time::timeout(STALL, body.frame()).await {
                Err(_) => SourceError::Stalled(STALL),
                Ok(Some(Err(error))) => SourceError::Connection(error.to_string()),
                Ok(None) => match size {
                    Some(size) if offset < size => SourceError::Truncated(offset, size),
                    _ => return Ok(()),
                },
                Ok(Some(Ok(frame))) => {
                    if let Ok(chunk) = frame.into_data() {
                        offset += chunk.len() as u64;
                        failures = 0;
                        self.lookup.metrics.fetched_upstream_bytes.add(chunk.len() as u64);
                        self.upstream.gave(chunk.len() as u64);
                        self.trace.reached(offset);
                        self.stream.write(chunk, 0).await?;
                    }
                    continue;
                }
            };
            body = self.resume(&error, offset, size, etag.as_ref(), &mut failures).await?;
        }
    }

    /// Opens the same file again at `offset`.
    async fn resume(
        &self,
        error: &SourceError,
        offset: u64,
        size: Option<u64>,
        etag: Option<&HeaderValue>,
        failures: &mut u32,
    ) -> Result<Incoming, TransferError> {
        let mut reason = error.to_string();
        // Without a length nobody can tell whether the rest belongs to the same file.
        while let (Some(size), true) = (size, *failures < CHANCES) {
            log::info!(upstream:% = self.upstream, bytes = offset, reason = reason.as_str(); "resuming a download");
            tokio::time::sleep(PAUSE.saturating_mul(1 << *failures)).await; // backoff
            *failures += 1;
            self.lookup.metrics.transfers_failed_over.add(1);
            self.trace.failed_over();
            match self.upstream.get(&self.url, offset).await {
                Ok(response) if same_file(&response, offset, size, etag) => return Ok(response.into_body()),
                Ok(_) => return Err(TransferError::NoSource("the file changed at its upstream".to_owned())),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(TransferError::NoSource(reason))
    }
}

/// Whether an answer continues the file that was begun.
fn same_file(response: &Response<Incoming>, offset: u64, size: u64, etag: Option<&HeaderValue>) -> bool {
    let continues = response.status() == StatusCode::PARTIAL_CONTENT
        && content_range(response.headers()) == Some((offset, size))
        && !response.headers().contains_key(CONTENT_ENCODING);
    // From the start again, should nothing have come.
    let begins =
        offset == 0 && response.status() == StatusCode::OK && response.body().size_hint().exact() == Some(size);
    (continues || begins) && response.headers().get(ETAG) == etag
}

//! A body that is the NAR itself, and the one check of what an answer with a body says of it.

use super::ByteFlow;
use crate::fetch::error::{SourceError, Violation};
use bytes::{Buf, Bytes};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_RANGE;
use hyper::{HeaderMap, Response, StatusCode};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// What of a file an answer brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Its first byte.
    pub(crate) first: u64,
    /// How long the whole file is, if told.
    pub(crate) total: Option<u64>,
}

/// What an answer brings to the request for all from byte `from` on. Some servers ignore ranges, and begin at 0.
///
/// # Errors
/// Another status, or another range than was asked for.
pub(crate) fn extent<B: Body>(response: &Response<B>, from: u64) -> Result<Extent, SourceError> {
    let status = response.status();
    match status {
        StatusCode::OK => Ok(Extent { first: 0, total: response.body().size_hint().exact() }),
        StatusCode::PARTIAL_CONTENT if from > 0 => match content_range(response.headers()) {
            Some((first, total)) if first == from => Ok(Extent { first, total }),
            // harmonia before 3.2 mislabels; whatever it is, it is not what was asked for.
            _ => Err(Violation::Range.into()),
        },
        other => Err(SourceError::Status(other.as_u16())),
    }
}

/// First byte and total of `bytes FIRST-LAST/TOTAL`, if it reaches to the end. Where the total is not known (`*`), the body tells.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse::<u64>().ok()?) };
    (first <= last && total.is_none_or(|total| last.checked_add(1) == Some(total))).then_some((first, total))
}

/// That an answer brings just these bytes of a file of `size`.
///
/// # Errors
/// Another status or range.
pub(crate) fn is_part<B: Body>(response: &Response<B>, bytes: &Range<u64>, size: u64) -> Result<(), SourceError> {
    let status = response.status();
    if status != StatusCode::PARTIAL_CONTENT {
        return Err(SourceError::Status(status.as_u16()));
    }
    let expected = format!("bytes {}-{}/{size}", bytes.start, bytes.end.saturating_sub(1));
    let said = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    if said != Some(expected.as_str()) {
        // A damaged path has another length, as a whole.
        let total = said.and_then(|said| said.rsplit_once('/')?.1.parse().ok()).filter(|total| *total != size);
        return Err(total.map_or(Violation::Range, |total| Violation::Size(total, size)).into());
    }
    Ok(())
}

/// The body of an answer as the NAR, of which it skips what was not asked for.
pub(crate) struct Direct {
    body: Incoming,
    skip: u64,
    received: u64,
    /// Its length was told: then an end before that is none.
    has_length: bool,
}

impl Direct {
    /// The NAR of `size` bytes from byte `from` on. It may come without a length: that all is there, whoever reads it has to see.
    ///
    /// # Errors
    /// As for [`extent`], or another length.
    pub(crate) fn new(response: Response<Incoming>, from: u64, size: u64) -> Result<Self, SourceError> {
        let Extent { first, total } = extent(&response, from)?;
        if let Some(total) = total.filter(|total| *total != size) {
            return Err(Violation::Size(total, size).into());
        }
        let body = response.into_body();
        Ok(Self { has_length: body.size_hint().exact().is_some(), body, skip: from - first, received: 0 })
    }
}

impl Direct {
    /// These bytes of a NAR of `size` bytes, at least one, and no others.
    ///
    /// # Errors
    /// The answer brings anything else.
    pub(crate) fn part(response: Response<Incoming>, bytes: &Range<u64>, size: u64) -> Result<Self, SourceError> {
        is_part(&response, bytes, size)?;
        if response.body().size_hint().exact() != Some(bytes.end - bytes.start) {
            return Err(Violation::Range.into());
        }
        Ok(Self { body: response.into_body(), skip: 0, received: 0, has_length: true })
    }
}

impl ByteFlow for Direct {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        loop {
            let mut chunk = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                None if self.body.is_end_stream() || !self.has_length => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(SourceError::Connection("the body ended early".to_owned())))),
                Some(Err(error)) => return Poll::Ready(Some(Err(SourceError::Connection(error.to_string())))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => chunk,
                    Err(_trailers) => continue,
                },
            };
            self.received += chunk.len() as u64;
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(skipped);
            self.skip -= skipped as u64;
            if !chunk.is_empty() {
                return Poll::Ready(Some(Ok(chunk)));
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[test]
    fn content_ranges_must_reach_the_end() {
        let range = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        for value in [
            "bytes 5-8/10",
            "bytes 9-5/10",
            "bytes */10",
            "bytes 9-5/*",
            "5-9/10",
            "bytes 5-18446744073709551615/0",
            "",
        ] {
            assert_eq!(range(value), None, "{value}");
        }
    }

    #[test]
    fn a_part_is_just_what_was_asked_for() {
        let of = |status: u16, range: &str, bytes| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"01234")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(CONTENT_RANGE, range.parse().unwrap());
            is_part(&response, &bytes, 20).is_ok()
        };
        assert!(of(206, "bytes 5-9/20", 5..10));
        for (status, range, bytes) in [
            (200, "bytes 5-9/20", 5..10),
            (206, "bytes 5-9/21", 5..10),
            (206, "bytes 5-9/*", 5..10),
            (206, "bytes 4-8/20", 5..10),
            (206, "bytes 5-10/20", 5..10),
        ] {
            assert!(!of(status, range, bytes), "{status} {range}");
        }
    }

    #[test]
    fn an_answer_is_what_was_asked_for_or_begins_at_zero() {
        let of = |status: u16, range: Option<&str>, from| {
            let mut response = Response::new(Full::new(Bytes::from_static(b"01234")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().extend(range.map(|range| (CONTENT_RANGE, range.parse().unwrap())));
            extent(&response, from).ok()
        };
        assert_eq!(of(200, None, 0), Some(Extent { first: 0, total: Some(5) }));
        assert_eq!(of(200, None, 5), Some(Extent { first: 0, total: Some(5) }), "the range was ignored");
        assert_eq!(of(206, Some("bytes 5-9/10"), 5), Some(Extent { first: 5, total: Some(10) }));
        for (status, range, from) in [
            (206, Some("bytes 4-9/10"), 5),
            (206, None, 5),
            (206, Some("bytes 0-9/10"), 0),
            (404, None, 0),
            (204, None, 0),
        ] {
            assert_eq!(of(status, range, from), None, "{status} {range:?} from {from}");
        }
    }
}

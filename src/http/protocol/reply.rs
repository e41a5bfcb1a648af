//! The forms of our answers: which headers go with which status.

use super::body::Body;
use super::range::Part;
use bytes::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue,
    IF_NONE_MATCH, RETRY_AFTER,
};
use hyper::{HeaderMap, Response, StatusCode};
use std::ops::Range;

/// The media types that we send.
pub mod media {
    use hyper::header::HeaderValue;

    /// Plain text.
    pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    /// A page for a browser.
    pub const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    /// A narinfo.
    pub const NARINFO: HeaderValue = HeaderValue::from_static("text/x-nix-narinfo");
    /// `nix-cache-info`.
    pub const CACHE_INFO: HeaderValue = HeaderValue::from_static("text/x-nix-cache-info");
    /// A NAR, compressed or not.
    pub const NAR: HeaderValue = HeaderValue::from_static("application/x-nix-nar");
    /// Bytes in a form of our own.
    pub const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
    /// JSON.
    pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
}

/// For how long others may keep an answer.
pub mod keep {
    use hyper::header::HeaderValue;

    /// Not at all: what is not here may be here in a second.
    pub const NEVER: HeaderValue = HeaderValue::from_static("no-store");
    /// An hour: signatures may be added to a path.
    pub const SHORT: HeaderValue = HeaderValue::from_static("public, max-age=3600");
    /// For ever: the content is named by its hash.
    pub const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
}

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

fn reply(status: StatusCode, media: HeaderValue, keep: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media);
    response.headers_mut().insert(CACHE_CONTROL, keep);
    response
}

/// 200 with a body in memory.
pub fn ok(media: HeaderValue, keep: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    reply(StatusCode::OK, media, keep, body.into())
}

/// 200 with JSON of this entity tag; or 304 and nothing else, if the client says that it has that.
#[must_use]
pub fn tagged_json(headers: &HeaderMap, etag: HeaderValue, body: Bytes) -> Response<Body> {
    if etag.to_str().is_ok_and(|etag| has_already(headers, etag)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let mut response = ok(media::JSON, keep::NEVER, body);
    response.headers_mut().insert(ETAG, etag);
    response
}

/// Whether the caller is a browser: curl and Nix take anything.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("text/html")))
}

/// 200 with plain text that is true only now.
pub fn text(body: impl Into<Body>) -> Response<Body> {
    ok(media::TEXT, keep::NEVER, body)
}

/// 200 with JSON that is true only now. A value that cannot be written (there is none in this program) is not found.
#[must_use]
pub fn json(value: &impl serde::Serialize) -> Response<Body> {
    serde_json::to_vec(value).map_or_else(|_| not_found(), |text| ok(media::JSON, keep::NEVER, Bytes::from(text)))
}

/// The version of this program.
#[must_use]
pub fn version() -> Response<Body> {
    text(concat!("peernix ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// 403: who asks is no member of the fleet whose members are let in; the text says why.
#[must_use]
pub fn forbidden(why: &str) -> Response<Body> {
    reply(StatusCode::FORBIDDEN, media::TEXT, keep::NEVER, format!("{why}\n").into())
}

/// 404: every other refusal and every failure looks like this one: a path that may not be shared is not here, and Nix asks its next cache.
#[must_use]
pub fn not_found() -> Response<Body> {
    reply(StatusCode::NOT_FOUND, media::TEXT, keep::NEVER, "404 Not Found\n".into())
}

/// 503: it cannot be said now what is here, or not be sent now; worth another try in a second. For the share alone; a Nix that
/// asks the gateway must never see it.
#[must_use]
pub fn busy() -> Response<Body> {
    let mut response =
        reply(StatusCode::SERVICE_UNAVAILABLE, media::TEXT, keep::NEVER, "503 Service Unavailable\n".into());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// 400, for a request that HTTP does not allow. The connection ends with it.
#[must_use]
pub fn bad_request() -> Response<Body> {
    closing(reply(StatusCode::BAD_REQUEST, media::TEXT, keep::NEVER, "400 Bad Request\n".into()))
}

/// 405, for anything but these methods.
#[must_use]
pub fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response =
        reply(StatusCode::METHOD_NOT_ALLOWED, media::TEXT, keep::NEVER, "405 Method Not Allowed\n".into());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 421, for what is not sent over HTTP/2.
#[must_use]
pub fn misdirected() -> Response<Body> {
    let status = StatusCode::MISDIRECTED_REQUEST;
    reply(status, media::TEXT, keep::NEVER, "421 Misdirected Request: over HTTP/1.1 only\n".into())
}

/// The same answer, and the connection ends with it.
#[must_use]
pub fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Something with a length and parts: the head is made here, the bytes where they are.
#[derive(Debug)]
pub struct Ranged<'a> {
    /// The strong entity tag, in its quotes.
    pub etag: &'a str,
    /// What it is.
    pub media: HeaderValue,
    /// How long others may keep it.
    pub keep: HeaderValue,
    /// How long it is, in bytes.
    pub length: u64,
}

/// What is to be sent of a [`Ranged`].
#[derive(Debug)]
pub enum Send {
    /// This, which is complete: the answer to a HEAD, 304 or 416.
    Head(Response<Body>),
    /// This, once [`Body::stream`] of these bytes is put in.
    Bytes(Response<Body>, Range<u64>),
}

impl Ranged<'_> {
    /// The head of the answer to a request with these headers, `head` being whether it was a HEAD.
    #[must_use]
    pub fn begin(self, headers: &HeaderMap, head: bool) -> Send {
        let length = self.length;
        let tag = HeaderValue::from_str(self.etag).ok();
        let with_tag = |mut response: Response<Body>| {
            response.headers_mut().insert(ACCEPT_RANGES, BYTES);
            if let Some(tag) = tag {
                response.headers_mut().insert(ETAG, tag);
            }
            response
        };
        if has_already(headers, self.etag) {
            let response = reply(StatusCode::NOT_MODIFIED, self.media, self.keep, Body::empty());
            return Send::Head(with_tag(response));
        }
        // A range is defined for GET alone.
        let part = if head { Part::Whole } else { Part::wanted(headers, length, self.etag) };
        let (status, part, content_range) = match part {
            Part::Whole if head => {
                let response = reply(StatusCode::OK, self.media, self.keep, Body::announced(length));
                return Send::Head(with_tag(response));
            }
            Part::Whole => (StatusCode::OK, 0..length, None),
            Part::Bytes(part) => {
                let text = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                (StatusCode::PARTIAL_CONTENT, part, Some(text))
            }
            Part::Unsatisfiable => {
                let response = reply(StatusCode::RANGE_NOT_SATISFIABLE, media::TEXT, keep::NEVER, Body::empty());
                return Send::Head(with_content_range(with_tag(response), &format!("bytes */{length}")));
            }
        };
        let mut response = with_tag(reply(status, self.media, self.keep, Body::empty()));
        if let Some(text) = content_range {
            response = with_content_range(response, &text);
        }
        Send::Bytes(response, part)
    }

    /// The answer whose bytes are in memory.
    #[must_use]
    pub fn answer(self, headers: &HeaderMap, head: bool, bytes: &Bytes) -> Response<Body> {
        match self.begin(headers, head) {
            Send::Head(response) => response,
            Send::Bytes(response, part) => {
                let whole = 0..bytes.len();
                let inside = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).clamp(whole.start, whole.end);
                response.map(|_| bytes.slice(inside(part.start)..inside(part.end)).into())
            }
        }
    }
}

fn with_content_range(mut response: Response<Body>, text: &str) -> Response<Body> {
    // Digits and punctuation of our own are always a value.
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

/// Whether `If-None-Match` names this tag.
fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    let names = |text: &str| {
        text.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    };
    headers.get_all(IF_NONE_MATCH).iter().any(|value| value.to_str().is_ok_and(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::RANGE;

    fn ranged(headers: &[(hyper::header::HeaderName, &'static str)], head: bool) -> Response<Body> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        Ranged { etag: "\"a\"", media: media::NAR, keep: keep::FOREVER, length: 5 }.answer(
            &headers,
            head,
            &Bytes::from_static(b"01234"),
        )
    }

    fn content_range(response: &Response<Body>) -> Option<&str> {
        response.headers().get(CONTENT_RANGE).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn whole_parts_and_nothing() {
        let whole = ranged(&[], false);
        assert_eq!((whole.status(), whole.body().length()), (StatusCode::OK, Some(5)));
        assert_eq!(whole.headers()[ACCEPT_RANGES], "bytes");
        assert_eq!(whole.headers()[ETAG], "\"a\"");
        assert_eq!(content_range(&whole), None);

        let part = ranged(&[(RANGE, "bytes=1-2")], false);
        assert_eq!((part.status(), part.body().length()), (StatusCode::PARTIAL_CONTENT, Some(2)));
        assert_eq!(content_range(&part), Some("bytes 1-2/5"));

        let beyond = ranged(&[(RANGE, "bytes=5-")], false);
        assert_eq!((beyond.status(), beyond.body().length()), (StatusCode::RANGE_NOT_SATISFIABLE, Some(0)));
        assert_eq!(content_range(&beyond), Some("bytes */5"));
    }

    #[test]
    fn a_head_tells_the_length_of_the_whole() {
        let head = ranged(&[(RANGE, "bytes=1-2")], true);
        assert_eq!((head.status(), head.body().length()), (StatusCode::OK, Some(5)));
    }

    #[test]
    fn nobody_is_sent_what_they_have() {
        for tags in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            let response = ranged(&[(IF_NONE_MATCH, tags)], false);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tags}");
        }
        assert_eq!(ranged(&[(IF_NONE_MATCH, "\"b\"")], false).status(), StatusCode::OK);
    }
}

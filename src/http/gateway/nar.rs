//! `/nar/…`: the content of a path, from whoever has it.

use crate::fetch::{Fetcher, NarBody, SourceName};
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, Ranged, Send, keep, media};
use crate::http::protocol::routes::NarName;
use crate::nix::Compression;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};

/// Names who sends the NAR, for people who look at answers: `peer NODEID` or `upstream HOST`. Who sends as the head leaves: a large NAR may
/// be gone on with by somebody else.
const SOURCE: HeaderName = HeaderName::from_static("peernix-source");

/// `/nar/HASH-NARHASH.nar`; where it comes from is only for the eyes of this machine, `local`.
pub(super) async fn nar(
    fetcher: &Fetcher,
    name: NarName,
    headers: &HeaderMap,
    head: bool,
    local: bool,
) -> Response<Body> {
    let NarName { hash, nar_hash, compression: Compression::None } = name else { return reply::not_found() };
    // The oldest URL forms, of caches that were here before, do not say which NAR. Nix knows what it wants.
    let nar_hash = match nar_hash {
        Some(nar_hash) => nar_hash,
        None => match fetcher.narinfo(hash).await {
            Some(resolution) => resolution.info.nar_hash,
            None => return reply::not_found(),
        },
    };
    let Some(nar) = fetcher.open(hash, nar_hash).await else { return reply::not_found() };
    let (length, etag) = (nar.size(), format!("\"{}\"", nar_hash.to_nix32()));
    match (Ranged { etag: &etag, media: media::NAR, keep: keep::FOREVER, length }).begin(headers, head) {
        Send::Head(response) => response,
        // A part that ends before the end cannot be verified in time; whoever asks for one gets the whole.
        Send::Bytes(_, part) if part.end < length => match nar.read(0).await {
            Some(body) => {
                let source = source(&body, local);
                with_source(reply::ok(media::NAR, keep::FOREVER, Body::stream(Some(length), body)), source)
            }
            None => reply::not_found(),
        },
        Send::Bytes(response, part) => match nar.read(part.start).await {
            Some(body) => {
                let source = source(&body, local);
                with_source(response.map(|_| Body::stream(Some(part.end - part.start), body)), source)
            }
            None => reply::not_found(),
        },
    }
}

/// Who sends, as far as the caller may know.
fn source(body: &NarBody, local: bool) -> Option<HeaderValue> {
    let name = body.source().filter(|_| local)?;
    let text = match &name {
        SourceName::Peer(id) => format!("peer {id}"),
        SourceName::Upstream(host) => format!("upstream {host}"),
        other @ (SourceName::Site(_) | SourceName::Here) => other.to_string(),
    };
    HeaderValue::from_str(&text).ok()
}

fn with_source(mut response: Response<Body>, source: Option<HeaderValue>) -> Response<Body> {
    response.headers_mut().extend(source.map(|source| (SOURCE, source)));
    response
}

//! `/nar/…`: the content of a path, from whoever has it.

use crate::fetch::{Fetcher, NarRequest};
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, Ranged, Send, keep, media};
use crate::http::protocol::routes::NarName;
use hyper::{HeaderMap, Response};

/// `/nar/HASH-NARHASH.nar`.
pub(super) async fn nar(fetcher: &Fetcher, name: NarName, headers: &HeaderMap, head: bool) -> Response<Body> {
    // The oldest URL form does not say which NAR; no narinfo of ours ever had it.
    let NarName { hash, nar_hash: Some(nar_hash), compression } = name else { return reply::not_found() };
    let request = NarRequest { hash, nar_hash, compression };
    let Some(length) = fetcher.size(&request).await else { return reply::not_found() };
    let Some(length) = length else {
        // An upstream that does not tell: whole or not at all.
        if head {
            return reply::ok(media::NAR, keep::FOREVER, Body::empty());
        }
        return match fetcher.nar(&request, None, 0).await {
            Some(body) => reply::ok(media::NAR, keep::FOREVER, Body::empty()).map(|_| Body::stream(None, body)),
            None => reply::not_found(),
        };
    };
    let etag = format!("\"{}.{}\"", nar_hash.to_nix32(), request.compression);
    match (Ranged { etag: &etag, media: media::NAR, keep: keep::FOREVER, length }).begin(headers, head) {
        Send::Head(response) => response,
        // A part that ends before the end cannot be verified in time; whoever asks for one gets the whole.
        Send::Bytes(_, part) if part.end < length => match fetcher.nar(&request, Some(length), 0).await {
            Some(body) => reply::ok(media::NAR, keep::FOREVER, Body::stream(Some(length), body)),
            None => reply::not_found(),
        },
        Send::Bytes(response, part) => match fetcher.nar(&request, Some(length), part.start).await {
            Some(body) => response.map(|_| Body::stream(Some(part.end - part.start), body)),
            None => reply::not_found(),
        },
    }
}

//! `/nar/…`: the content of a path, from whoever has it.

use crate::fetch::Fetcher;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, Ranged, Send, keep, media};
use crate::http::protocol::routes::NarName;
use crate::nix::Compression;
use hyper::{HeaderMap, Response};

/// `/nar/HASH-NARHASH.nar`.
pub(super) async fn nar(fetcher: &Fetcher, name: NarName, headers: &HeaderMap, head: bool) -> Response<Body> {
    // The oldest URL form does not say which NAR; no narinfo of ours ever had it.
    let NarName { hash, nar_hash: Some(nar_hash), compression: Compression::None } = name else {
        return reply::not_found();
    };
    let Some(nar) = fetcher.open(hash, nar_hash).await else { return reply::not_found() };
    let (length, etag) = (nar.size(), format!("\"{}\"", nar_hash.to_nix32()));
    match (Ranged { etag: &etag, media: media::NAR, keep: keep::FOREVER, length }).begin(headers, head) {
        Send::Head(response) => response,
        // A part that ends before the end cannot be verified in time; whoever asks for one gets the whole.
        Send::Bytes(_, part) if part.end < length => match nar.read(0).await {
            Some(body) => reply::ok(media::NAR, keep::FOREVER, Body::stream(Some(length), body)),
            None => reply::not_found(),
        },
        Send::Bytes(response, part) => match nar.read(part.start).await {
            Some(body) => response.map(|_| Body::stream(Some(part.end - part.start), body)),
            None => reply::not_found(),
        },
    }
}

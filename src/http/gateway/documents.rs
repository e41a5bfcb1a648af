//! Listings, build logs, debug information: what no signature covers comes from the upstreams alone. Realisations and build
//! traces are signed, and come from whoever has them.

use crate::fetch::Fetcher;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::Route;
use crate::nix::trace::TraceId;
use hyper::Response;
use hyper::header::HeaderValue;

/// What an upstream has under this route.
pub(super) async fn document(fetcher: &Fetcher, route: &Route, media: HeaderValue) -> Response<Body> {
    match fetcher.document(route.to_string().trim_start_matches('/')).await {
        Some(document) => reply::ok(media, keep::NEVER, document),
        None => reply::not_found(),
    }
}

/// What somebody has under this route, which is that of `id`, with a signature by a key that is trusted.
pub(super) async fn trace(fetcher: &Fetcher, route: &Route, id: TraceId) -> Response<Body> {
    match fetcher.trace(&route.to_string(), id).await {
        Some(trace) => reply::ok(media::JSON, keep::NEVER, trace),
        None => reply::not_found(),
    }
}

//! Listings, build logs, realisations, debug information: what no signature covers comes from the upstreams alone.

use crate::fetch::Fetcher;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep};
use crate::http::protocol::routes::Route;
use hyper::Response;
use hyper::header::HeaderValue;

/// What an upstream has under this route.
pub(super) async fn document(fetcher: &Fetcher, route: &Route, media: HeaderValue) -> Response<Body> {
    match fetcher.document(route.to_string().trim_start_matches('/')).await {
        Some(document) => reply::ok(media, keep::NEVER, document),
        None => reply::not_found(),
    }
}

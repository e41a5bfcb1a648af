//! `/HASH.narinfo`: what somebody in reach has, under a URL of our own.

use crate::fetch::Fetcher;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::nix::{NarInfo, StoreDir, StoreHash};
use hyper::Response;

/// `/HASH.narinfo`.
pub(super) async fn narinfo(fetcher: &Fetcher, store_dir: &StoreDir, hash: StoreHash) -> Response<Body> {
    let Some(found) = fetcher.narinfo(hash).await else { return reply::not_found() };
    let (compression, file_size) = found.representation();
    let nar_hash = Some(found.info.nar_hash);
    let url = NarName { hash, nar_hash, compression: compression.clone() }.to_string();
    let info = found.info.clone();
    let narinfo = NarInfo { info, url, compression, file_hash: None, file_size, extra: vec![] };
    reply::ok(media::NARINFO, keep::NEVER, narinfo.render(store_dir))
}

//! `/HASH.narinfo`: what somebody in reach has, under a URL of our own.

use crate::fetch::Fetcher;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::nix::{Compression, NarInfo, StoreDir, StoreHash};
use hyper::Response;

/// `/HASH.narinfo`. Whoever has it in whatever form: from here the NAR comes as it is, so that any source can go on where another
/// stopped.
pub(super) async fn narinfo(fetcher: &Fetcher, store_dir: &StoreDir, hash: StoreHash) -> Response<Body> {
    let Some(resolution) = fetcher.narinfo(hash).await else { return reply::not_found() };
    let narinfo = resolution.narinfo(|info| {
        let (nar_hash, file_size) = (Some(info.nar_hash), Some(info.nar_size));
        let url = NarName { hash, nar_hash, compression: Compression::None }.to_string();
        let compression = Compression::None;
        let narinfo = NarInfo { info: info.clone(), url, compression, file_hash: None, file_size, extra: vec![] };
        narinfo.render(store_dir).into()
    });
    reply::ok(media::NARINFO, keep::NEVER, narinfo)
}

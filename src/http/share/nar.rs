//! `/nar/…`: the content of a path.

use super::core::{Answer, Share};
use super::known::KnownPath;
use crate::fetch::claims::{CHILDREN_MAX, given_at_once};
use crate::fetch::pieces::table::PIECE;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, Ranged, keep, media};
use crate::http::protocol::routes::NarName;
use crate::http::server::listener::Request;
use crate::nix::Compression;
use crate::peers::NodeId;
use crate::peers::compression::{COMPRESSED_HEADER, SMALL, ZSTD, wished};
use crate::store::Audience;
use hyper::header::HeaderValue;
use std::sync::Arc;

/// From this size on it counts how many are given one NAR, in bytes: what is smaller is gone before anybody else asks.
const SPREAD_MIN: u64 = 256 * 1024;

impl Share {
    /// `/nar/HASH-NARHASH.nar` in all its forms.
    ///
    /// Who asks as `spreads` agrees with others on who streams what from whom: what several of them are given already it may find with those, if
    /// they may pass it on.
    pub(super) async fn nar(
        self: &Arc<Self>,
        name: &NarName,
        audience: Audience,
        request: &Request,
        spreads: Option<NodeId>,
    ) -> Answer {
        // What is compressed is for those that were told so, be it a month ago, and has no parts.
        let is_zstd = name.compression == Compression::Zstd && request.caller.node.is_none();
        if name.compression != Compression::None && !is_zstd {
            return Ok(None);
        }
        let Some(known) = self.known(name.hash, audience).await? else { return Ok(None) };
        // Another hash is another content, which is not here.
        if name.nar_hash.is_some() && name.nar_hash != known.nar.nar_hash {
            return Ok(None);
        }
        let length = known.path.info.nar_size;
        if is_zstd {
            return self.zstd(&known, request).await;
        }
        let ranged = Ranged { etag: &known.etag, media: media::NAR, keep: keep::FOREVER, length };
        let (response, part) = match ranged.begin(&request.headers, request.head) {
            reply::Send::Head(response) => return Ok(Some(response)),
            reply::Send::Bytes(response, part) => (response, part),
        };
        let given = match known.nar.nar_hash {
            Some(nar) if length >= SPREAD_MIN && self.rules.now().policy.may_pass_on(&known.path.info) => {
                // Parts, and so the last piece, are of those who take others elsewhere.
                let is_to_end = part.end == length && part.end - part.start > PIECE;
                let most = if is_to_end { given_at_once(length) } else { CHILDREN_MAX };
                match spreads.map(|node| self.upload.given.begin(node, nar, most)) {
                    Some(None) => return Ok(Some(reply::busy())),
                    given => given.flatten(),
                }
            }
            _ => None,
        };
        let mut slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        slot.counts(given);
        let layout = self.store.layout(&known.path).await?;
        let size = part.end - part.start;
        let stream = self.store.nar(&layout, part).await?;
        let wished = wished(&request.headers).filter(|_| self.compression.peers && request.caller.node.is_some());
        let compressor = wished.filter(|_| size >= SMALL).and_then(|rate| self.upload.compressors.try_take(size, rate));
        if let Some(compressor) = compressor {
            let body = self.upload.compressed_body(stream, compressor, slot, request).await?;
            let mut response = response.map(|_| body);
            response.headers_mut().insert(COMPRESSED_HEADER, HeaderValue::from_static(ZSTD));
            return Ok(Some(response));
        }
        let body = self.upload.body(stream, slot, request).await?;
        Ok(Some(response.map(|_| body)))
    }

    /// The whole of it for an ordinary Nix, compressed.
    async fn zstd(&self, known: &KnownPath, request: &Request) -> Answer {
        // Without a length, a cache on the way may take a part for the whole: it keeps none.
        let head = reply::ok(media::NAR, keep::NEVER, Body::empty());
        if request.head {
            return Ok(Some(head));
        }
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let length = known.path.info.nar_size;
        let layout = self.store.layout(&known.path).await?;
        let stream = self.store.nar(&layout, 0..length).await?;
        let compressor = self.upload.compressors.take(length);
        let body = self.upload.compressed_body(stream, compressor, slot, request).await?;
        Ok(Some(head.map(|_| body)))
    }
}

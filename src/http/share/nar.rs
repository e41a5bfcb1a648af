//! `/nar/…`: the content of a path.

use super::core::{Answer, Share};
use crate::http::protocol::reply::{self, Ranged, keep, media};
use crate::http::protocol::routes::NarName;
use crate::http::server::listener::Request;
use crate::nix::Compression;
use crate::peers::NodeId;
use crate::store::Audience;
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
        if name.compression != Compression::None {
            return Ok(None);
        }
        let Some(known) = self.known(name.hash, audience).await? else { return Ok(None) };
        // Another hash is another content, which is not here.
        if name.nar_hash.is_some() && name.nar_hash != known.nar.nar_hash {
            return Ok(None);
        }
        let length = known.path.info.nar_size;
        let ranged = Ranged { etag: &known.etag, media: media::NAR, keep: keep::FOREVER, length };
        let (response, part) = match ranged.begin(&request.headers, request.head) {
            reply::Send::Head(response) => return Ok(Some(response)),
            reply::Send::Bytes(response, part) => (response, part),
        };
        let given = match known.nar.nar_hash {
            Some(nar) if length >= SPREAD_MIN && self.rules.now().policy.may_pass_on(&known.path.info) => {
                match spreads.map(|node| self.upload.given.begin(node, nar)) {
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
        let stream = self.store.nar(&layout, part).await?;
        let body = self.upload.body(stream, slot, request).await?;
        Ok(Some(response.map(|_| body)))
    }
}

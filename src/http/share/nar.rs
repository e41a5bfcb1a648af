//! `/nar/…`: the content of a path.

use super::core::{Answer, Share};
use crate::http::protocol::reply::{self, Ranged, keep, media};
use crate::http::protocol::routes::NarName;
use crate::http::server::listener::Request;
use crate::nix::Compression;
use crate::store::Audience;
use std::sync::Arc;

impl Share {
    /// `/nar/HASH-NARHASH.nar` in all its forms.
    pub(super) async fn nar(self: &Arc<Self>, name: &NarName, audience: Audience, request: &Request) -> Answer {
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
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let layout = self.store.layout(&known.path).await?;
        let stream = self.store.nar(&layout, part).await?;
        let body = self.upload.body(stream, slot, request).await?;
        Ok(Some(response.map(|_| body)))
    }
}

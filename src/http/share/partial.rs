//! `/peernix/v1/claim` and `/peernix/v1/partial/…`: who downloads what, and what is on its way here.

use super::core::{Answer, Share};
use crate::fetch::Spools;
use crate::fetch::claims::handle::Claims;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, Ranged, keep, media};
use crate::http::server::listener::Request;
use crate::nix::NarHash;
use crate::peers::NodeId;
use hyper::Response;

/// The answer to what the peer `node` claims or renews.
pub(super) fn claim(claims: &Claims, node: NodeId, request: &Request) -> Response<Body> {
    match claims.answer(node, request.body.clone()) {
        Ok(answer) => reply::ok(media::BYTES, keep::NEVER, answer),
        Err(_) => reply::bad_request(),
    }
}

impl Share {
    /// A NAR that is on its way here, as far as it has come and as it comes. Nothing is fetched for it.
    pub(super) async fn partial(&self, spools: &Spools, nar: NarHash, request: &Request) -> Answer {
        let Some(info) = spools.info(nar) else { return Ok(None) };
        // As the policy is now, and not as it was when it began.
        if !self.rules.now().policy.may_pass_on(&info) {
            return Ok(None);
        }
        let etag = format!("\"{}\"", nar.to_nix32());
        let ranged = Ranged { etag: &etag, media: media::NAR, keep: keep::NEVER, length: info.nar_size };
        let (response, part) = match ranged.begin(&request.headers, request.head) {
            reply::Send::Head(response) => return Ok(Some(response)),
            reply::Send::Bytes(response, part) => (response, part),
        };
        // To its end, and nothing else: that is what is waited for.
        if part.end != info.nar_size {
            return Ok(Some(reply::bad_request()));
        }
        if spools.are_busy() {
            return Ok(Some(reply::busy()));
        }
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let Some(stream) = spools.read(nar, part.start) else { return Ok(None) };
        Ok(Some(response.map(|_| self.upload.waiting_body(Some(part.end - part.start), stream, slot, request))))
    }
}

//! What the store knows beside the content of paths: listings, build logs, realisations, debug information.
//!
//! Each of these leads to a store path, and is shared if that path is; the store room judges.

use super::core::{Answer, Share};
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::{BuildId, NarName};
use crate::http::server::listener::Request;
use crate::nix::realisation::{BuildTraceKey, DrvOutput};
use crate::nix::{Compression, StoreHash, StorePath};
use crate::store::{Audience, Realisation};
use hyper::Response;

impl Share {
    /// `/HASH.ls`: the listing, with the place of each file in the NAR.
    pub(super) async fn listing(&self, hash: StoreHash, audience: Audience, request: &Request) -> Answer {
        let Some(known) = self.known(hash, audience).await? else { return Ok(None) };
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let layout = self.store.layout(&known.path).await?;
        let stream = self.store.listing(&layout).await?;
        let body = self.upload.body(stream, slot, request).await?;
        Ok(Some(reply::ok(media::JSON, keep::SHORT, body)))
    }

    /// `/log/DRV`.
    pub(super) async fn log(&self, derivation: &StorePath, audience: Audience, request: &Request) -> Answer {
        let Some(stream) = self.store.build_log(derivation, &self.rules.now().policy, audience).await? else {
            return Ok(None);
        };
        let slot = match self.upload.slot(request).await {
            Ok(slot) => slot,
            Err(busy) => return Ok(Some(busy)),
        };
        let body = self.upload.body(stream, slot, request).await?;
        Ok(Some(reply::ok(media::TEXT, keep::SHORT, body)))
    }

    /// `/realisations/ID.doi`.
    pub(super) async fn realisation(&self, id: &DrvOutput, audience: Audience) -> Answer {
        Ok(self.store.realisation(&id.to_string(), &self.rules.now().policy, audience).await?.map(realised))
    }

    /// `/build-trace-v2/DRV/OUTPUT.doi`.
    pub(super) async fn build_trace(&self, key: &BuildTraceKey, audience: Audience) -> Answer {
        Ok(self
            .store
            .build_trace(key.drv_path(), key.output(), &self.rules.now().policy, audience)
            .await?
            .map(realised))
    }

    /// `/debuginfo/BUILDID`: which member of which NAR to look into, relative to this URL.
    pub(super) async fn debuginfo(&self, id: &BuildId, audience: Audience) -> Answer {
        let Some(found) = self.store.debuginfo(id.as_str(), &self.rules.now().policy, audience).await? else {
            return Ok(None);
        };
        let info = &found.path.info;
        let nar = NarName { hash: info.path.hash(), nar_hash: Some(info.nar_hash), compression: Compression::None };
        Ok(Some(reply::json(&serde_json::json!({ "archive": format!("../{nar}"), "member": found.member }))))
    }
}

fn realised(realisation: Realisation) -> Response<Body> {
    reply::ok(media::JSON, keep::SHORT, realisation.json)
}

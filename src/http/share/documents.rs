//! What the store knows beside the content of paths: listings, build logs, realisations, debug information.
//!
//! Each of these leads to a store path, and is shared if that path is; the store room judges.

use super::core::{Answer, Share};
use super::narinfo::{signed_by_whom, signers};
use super::rules::Rules;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::{BuildId, NarName};
use crate::http::server::listener::Request;
use crate::nix::realisation::{BuildTraceKey, DrvOutput};
use crate::nix::{Compression, StoreHash, StorePath};
use crate::peers::trusted_keys::{Verdict, judge};
use crate::store::{Audience, Realisation};
use hyper::{HeaderMap, Response};
use std::sync::Arc;

impl Share {
    /// `/HASH.ls`: the listing, with the place of each file in the NAR.
    pub(super) async fn listing(self: &Arc<Self>, hash: StoreHash, audience: Audience, request: &Request) -> Answer {
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
    pub(super) async fn realisation(&self, id: &DrvOutput, audience: Audience, headers: &HeaderMap) -> Answer {
        let rules = self.rules.now();
        let found = self.store.realisation(&id.to_string(), &rules.policy, audience).await?;
        Ok(told(found, rules, headers).await)
    }

    /// `/build-trace-v2/DRV/OUTPUT.doi`.
    pub(super) async fn build_trace(&self, key: &BuildTraceKey, audience: Audience, headers: &HeaderMap) -> Answer {
        let rules = self.rules.now();
        let found = self.store.build_trace(key.drv_path(), key.output(), &rules.policy, audience).await?;
        Ok(told(found, rules, headers).await)
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

/// A realisation for one who accepts signatures as these `headers` say, as with narinfos.
async fn told(found: Option<Realisation>, rules: Arc<Rules>, headers: &HeaderMap) -> Option<Response<Body>> {
    let found = found?;
    let signers = move || {
        let verified = rules.policy.signers_of(&found.signatures, &found.fingerprint);
        let signers = signers(&verified, &found.signatures);
        (found.json, signers)
    };
    // It fails only when the program is being stopped.
    let (json, signers) = tokio::task::spawn_blocking(signers).await.ok()?;
    let signed_by = match judge(headers, &signers) {
        Verdict::Nothing => return None,
        // Nobody asked for these before fingerprints.
        Verdict::InOldWords => None,
        Verdict::All(signed_by) => signed_by,
    };
    Some(signed_by_whom(reply::ok(media::JSON, keep::SHORT, json), signed_by))
}

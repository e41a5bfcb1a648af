//! What peers are asked about paths: for their narinfos, and relays for who has them.

use super::batches::Exchange;
use super::verify;
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::peer::PeerSource;
use crate::fetch::source::upstream::collect;
use crate::nix::StoreHash;
use crate::peers::holders::{self, Holder};
use crate::peers::narinfo_batch::{self, Signed};
use crate::peers::trusted_keys::SignedBy;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long a peer may take to the head of an answer.
const HEAD: Duration = Duration::from_secs(1);

/// Narinfos.
pub(crate) struct NarInfos;

#[async_trait]
impl Exchange for NarInfos {
    /// The text of a narinfo with what is said of its signatures; `None`: the peer does not have the path.
    type Said = Option<(Bytes, SignedBy)>;

    fn takes_many(peer: &PeerSource) -> bool {
        peer.0.takes_batches()
    }

    async fn about_one(peer: &PeerSource, hash: StoreHash) -> Result<Self::Said, SourceError> {
        let response = in_time(peer.get(&format!("/{hash}.narinfo"), None)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = ok(response)?;
        let signed_by = SignedBy::of(response.headers());
        Ok(Some((collect(response.into_body(), verify::LIMIT).await?, signed_by)))
    }

    async fn about_many(
        peer: &PeerSource,
        hashes: &[StoreHash],
    ) -> Result<HashMap<StoreHash, Self::Said>, SourceError> {
        let body = post(peer, narinfo_batch::TARGET, hashes, narinfo_batch::ANSWER_MAX).await?;
        let records = narinfo_batch::parse_answer(body, hashes).map_err(Violation::Batch)?;
        let said = |narinfo: Signed| (narinfo.text, SignedBy::of_value(narinfo.signed_by));
        Ok(records.into_iter().map(|record| (record.hash, record.narinfo.map(said))).collect())
    }
}

/// Who has paths, of a relay.
pub(crate) struct Holders;

#[async_trait]
impl Exchange for Holders {
    type Said = Vec<Holder>;

    fn takes_many(_: &PeerSource) -> bool {
        true
    }

    async fn about_one(peer: &PeerSource, hash: StoreHash) -> Result<Self::Said, SourceError> {
        Ok(Self::about_many(peer, &[hash]).await?.remove(&hash).unwrap_or_default())
    }

    async fn about_many(
        peer: &PeerSource,
        hashes: &[StoreHash],
    ) -> Result<HashMap<StoreHash, Self::Said>, SourceError> {
        let body = post(peer, holders::TARGET, hashes, holders::ANSWER_MAX).await?;
        let holders = holders::parse_answer(body, hashes.len()).map_err(Violation::Batch)?;
        Ok(hashes.iter().copied().zip(holders).collect())
    }
}

/// What comes of asking about several paths.
async fn post(peer: &PeerSource, target: &str, hashes: &[StoreHash], most: usize) -> Result<Bytes, SourceError> {
    let response = in_time(peer.post(target, narinfo_batch::request(hashes.iter().copied()))).await?;
    collect(ok(response)?.into_body(), most).await
}

fn ok(response: Response<Incoming>) -> Result<Response<Incoming>, SourceError> {
    match response.status() {
        StatusCode::OK => Ok(response),
        other => Err(SourceError::Status(other.as_u16())),
    }
}

async fn in_time(
    answer: impl Future<Output = Result<Response<Incoming>, SourceError>>,
) -> Result<Response<Incoming>, SourceError> {
    timeout(HEAD, answer).await.unwrap_or(Err(SourceError::Stalled(HEAD)))
}

//! The machines with a predecessor on the link, asked for a path all at once.

use super::resolution::Holder;
use super::responder::Responder;
use super::verify::{self, Asked, Trust, believe};
use crate::fetch::error::SourceError;
use crate::fetch::source::http_client::HttpClient;
use crate::fetch::source::predecessor::{PredecessorNar, PredecessorNode};
use crate::fetch::source::unblamed::Unblamed;
use crate::fetch::source::{Remote, SourceId};
use crate::nix::{Compression, StoreHash};
use crate::peers::Predecessor;
use crate::peers::trusted_keys::SignedBy;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::Uri;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the narinfo of one that says that it has the path may take.
const NARINFO: Duration = Duration::from_millis(500);
/// They are asked with the upstreams that say nothing of their tier.
const TIER: u8 = 1;

/// All of one kind.
pub(crate) struct PredecessorLink {
    predecessor: Predecessor,
    client: Arc<HttpClient>,
    remote: Unblamed,
}

impl PredecessorLink {
    pub(crate) fn new(predecessor: Predecessor, client: HttpClient) -> Self {
        let nobody = match predecessor {
            Predecessor::Peerix(_) => Uri::from_static("http://peerix/"),
            Predecessor::Go(_) => Uri::from_static("http://go-peernix/"),
        };
        Self { predecessor, client: Arc::new(client), remote: Unblamed(SourceId::Upstream(nobody)) }
    }
}

#[async_trait]
impl Responder for PredecessorLink {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn tier(&self) -> u8 {
        TIER
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        if trust.keys.is_empty() {
            return Ok(None);
        }
        let Some(address) = self.predecessor.ask(hash).await else { return Ok(None) };
        let node = Arc::new(PredecessorNode::new(address, Arc::clone(&self.client)));
        let document = timeout(NARINFO, node.document(&self.predecessor.narinfo(hash), verify::LIMIT)).await;
        // Whoever said that it has the path and does not give it is no reason to think that nobody has it.
        let Some(text) = document.map_err(|_| SourceError::Stalled(NARINFO))?? else { return Ok(None) };
        let believed = believe(trust, text, hash, Asked::Peer(SignedBy::default())).await?;
        let Ok(believed) = believed else {
            log::debug!(address:% = address, path:% = hash; "what a machine with a predecessor says does not count: no key that is trusted signed it");
            return Ok(None);
        };
        let url = self.predecessor.nar(&believed.url).filter(|_| believed.compression == Compression::None);
        let Some(url) = url else { return Ok(None) };
        let source = Arc::new(PredecessorNar { node, url });
        Ok(Some(Holder { info: believed.info, source, compression: Compression::None, file_size: None }))
    }

    async fn document(&self, _: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }
}

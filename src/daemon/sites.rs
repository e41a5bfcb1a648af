//! Other sites: what this machine joins them with, and what it answers them for its own.

use crate::config::Config;
use crate::fetch::Fetcher;
use crate::http::share::Share;
use crate::index::Index;
use crate::nix::StoreHash;
use crate::peers::holders::HOLDERS_MAX;
use crate::peers::narinfo_batch::Signed;
use crate::peers::{NodeId, NodeKey, Peers};
use crate::sites::{Answered, Credential, Desk, Part, SitesOptions};
use crate::store::Audience;
use crate::system::credentials;
use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What joins this machine with other sites; `None`: nothing does.
pub(super) fn options(
    config: &Config,
    share_port: Option<u16>,
    name: String,
    key: &Arc<NodeKey>,
) -> anyhow::Result<Option<SitesOptions>> {
    let nats = &config.nats;
    let Some(site) = nats.site.clone().filter(|_| !nats.servers.is_empty()) else { return Ok(None) };
    let credential = nats.credential.as_deref().map(|name| {
        let secret = credentials::require(name)?;
        Credential::new(&secret).with_context(|| format!("the credential '{name}'"))
    });
    Ok(Some(SitesOptions {
        servers: nats.servers.iter().map(|server| server.as_str().to_owned()).collect(),
        site,
        credential: credential.transpose()?,
        addresses: nats.addresses.0.clone(),
        share_port,
        relay: nats.relay,
        name,
        key: Arc::clone(key),
    }))
}

/// What the machines of this site have, as others are told.
pub(super) struct SiteDesk {
    pub(super) share: Arc<Share>,
    /// As whom other sites are served.
    pub(super) audience: Audience,
    pub(super) fetcher: Fetcher,
    pub(super) index: Index,
    pub(super) peers: Peers,
}

#[async_trait]
impl Desk for SiteDesk {
    async fn about(&self, hashes: Vec<StoreHash>) -> Vec<Answered> {
        let us = self.peers.us();
        let mut answered = Vec::new();
        // What is asked of whom, and who has it besides.
        let mut of_peers: HashMap<NodeId, Vec<StoreHash>> = HashMap::new();
        let mut holders: HashMap<StoreHash, Vec<NodeId>> = HashMap::new();
        for hash in hashes {
            let known = self.index.known_holders(hash, HOLDERS_MAX);
            let Some(first) = known.first().copied() else { continue };
            if first != us {
                of_peers.entry(first).or_default().push(hash);
                holders.insert(hash, known);
            } else if let Some(text) = self.share.narinfo_text(hash, self.audience).await {
                answered.push(Answered { hash, narinfo: Signed { signed_by: None, text }, holders: known });
            }
        }
        for (id, hashes) in of_peers {
            let Some(peer) = self.peers.get(id) else { continue };
            for (hash, text) in self.fetcher.narinfos_of(peer, &hashes).await {
                let holders = holders.remove(&hash).unwrap_or_default();
                answered.push(Answered { hash, narinfo: Signed { signed_by: None, text }, holders });
            }
        }
        answered
    }

    async fn part(&self, part: &Part) -> Option<Bytes> {
        let us = self.peers.us();
        for id in self.index.known_holders(part.hash, HOLDERS_MAX) {
            let bytes = match self.peers.get(id) {
                _ if id == us => self.share.nar_part(part.hash, part.nar_hash, part.bytes.clone(), self.audience).await,
                Some(peer) => self.fetcher.part_of(peer, part).await,
                None => None,
            };
            if let Some(bytes) = bytes {
                return self.share.paced(bytes).await;
            }
        }
        None
    }

    fn addresses(&self, id: NodeId) -> Vec<SocketAddr> {
        self.peers.get(id).map(|peer| peer.addresses()).unwrap_or_default()
    }
}

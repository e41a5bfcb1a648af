//! Another site that is asked for a path: it says who there has it and with what narinfo, and the NAR comes from that machine.
//!
//! A path is promised to Nix only when a machine that has it was reached: some can be asked over NATS and not be dialled. Then the NAR may come
//! over NATS, where both sides allow that and it is small enough.

use super::batches::Batches;
use super::exchanges::NarInfos;
use super::peer_responder::PeerResponder;
use super::resolution::Holder;
use super::responder::Responder;
use super::verify::{Asked, Trust, believe};
use crate::fetch::error::SourceError;
use crate::fetch::source::peer::{PeerSource, nar_url};
use crate::fetch::source::relayed::Relayed;
use crate::fetch::source::unblamed::Unblamed;
use crate::fetch::source::{NarId, Remote, Source, SourceId};
use crate::nix::{Compression, StoreHash};
use crate::peers::trusted_keys::SignedBy;
use crate::peers::{NodeId, Peers, holders};
use crate::sites::{Found, SiteError, SiteName, Sites};
use async_trait::async_trait;
use bytes::Bytes;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a machine counts as one that can be reached after it was.
const REACHED: Duration = Duration::from_secs(60);
/// How long it is tried to reach a machine of a site that may relay.
const DIRECT: Duration = Duration::from_secs(1);
/// How many of those are remembered.
const REACHED_MAX: u64 = 1024;
/// Sites are asked with the upstreams that say nothing of their tier.
const TIER: u8 = 1;

/// The machines of other sites that were reached of late, and the sites that relay and of which none was.
#[derive(Clone)]
pub(crate) struct Reached {
    machines: Cache<NodeId, ()>,
    closed: Cache<SiteName, ()>,
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            machines: Cache::builder().max_capacity(REACHED_MAX).time_to_live(REACHED).build(),
            closed: Cache::builder().max_capacity(REACHED_MAX).time_to_live(REACHED).build(),
        }
    }
}

/// A site, and how to reach those whom it names.
pub(crate) struct SiteResponder {
    site: SiteName,
    sites: Sites,
    peers: Peers,
    narinfos: Arc<Batches<NarInfos>>,
    reached: Reached,
    remote: Unblamed,
}

impl SiteResponder {
    pub(crate) fn new(
        site: SiteName,
        (sites, peers): (Sites, Peers),
        narinfos: Arc<Batches<NarInfos>>,
        reached: Reached,
    ) -> Self {
        let remote = Unblamed(SourceId::Site(site.clone()));
        Self { site, sites, peers, narinfos, reached, remote }
    }

    /// The machine that sends the NAR, once it is known that it can be reached.
    async fn source(
        &self,
        hash: StoreHash,
        holders: &[holders::Holder],
        trust: &Arc<Trust>,
    ) -> Option<Arc<PeerSource>> {
        for holder in holders {
            let Some(peer) = self.peers.named_by_site(holder.id, &holder.addresses) else { continue };
            let source = Arc::new(PeerSource(peer));
            if source.must_not_be_barred(hash).is_err() || !source.may_be_asked() {
                continue;
            }
            if self.reached.machines.contains_key(&holder.id) {
                return Some(source);
            }
            // Meanwhile it is greeted: only then it is known what it can do beside sending NARs.
            source.0.look_at();
            let asked = PeerResponder { source: Arc::clone(&source), batches: Arc::clone(&self.narinfos) };
            match asked.narinfo(hash, trust).await {
                Ok(Some(_)) => {
                    self.reached.machines.insert(holder.id, ());
                    return Some(source);
                }
                Ok(None) => {}
                Err(error) => {
                    log::debug!(peer:% = holder.id, site:% = self.site, reason:% = error; "a machine of another site is not reached: {error}");
                }
            }
        }
        None
    }

    /// The site itself, if it sends the NAR over NATS.
    async fn relayed(&self, nar: &NarId) -> Option<Arc<Relayed>> {
        let relayed = Relayed::new(self.sites.clone(), self.site.clone());
        match relayed.sends(nar).await {
            Ok(()) => Some(Arc::new(relayed)),
            Err(error) => {
                log::debug!(site:% = self.site, reason:% = error; "a site does not relay a NAR: {error}");
                None
            }
        }
    }

    /// Who sends the NAR: a machine of the site, or the site over NATS.
    async fn sender(&self, nar: &NarId, holders: &[holders::Holder], trust: &Arc<Trust>) -> Option<Arc<dyn Source>> {
        if nar.size > self.sites.relay_max() {
            return self.source(nar.hash, holders, trust).await.map(|source| source as _);
        }
        let is_closed = self.reached.closed.contains_key(&self.site);
        if !is_closed && let Ok(Some(source)) = timeout(DIRECT, self.source(nar.hash, holders, trust)).await {
            return Some(source);
        }
        let Some(relayed) = self.relayed(nar).await else {
            // Nor that way: then the direct one may take its time.
            self.reached.closed.invalidate(&self.site);
            return self.source(nar.hash, holders, trust).await.map(|source| source as _);
        };
        // Not each time anew: the direct way is tried again after a while.
        if !is_closed {
            self.reached.closed.insert(self.site.clone(), ());
        }
        Some(relayed)
    }
}

#[async_trait]
impl Responder for SiteResponder {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn tier(&self) -> u8 {
        TIER
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        if trust.keys.is_empty() || !self.sites.has(&self.site, hash) {
            return Ok(None);
        }
        let found = self.sites.ask(&self.site, hash).await.map_err(|error| match error {
            SiteError::Silent => SourceError::Stalled(Duration::from_secs(2)),
            error => SourceError::Unavailable(error.to_string()),
        })?;
        let Some(Found { narinfo, holders }) = found else {
            self.sites.tried(&self.site, false);
            return Ok(None);
        };
        // What it does not verify itself it hands on: whoever lies there is not found out here.
        let believed = match believe(trust, narinfo.text, hash, Asked::Peer(SignedBy::default())).await? {
            Ok(believed) => believed,
            Err(reason) => {
                self.sites.tried(&self.site, false);
                log::debug!(site:% = self.site, path:% = hash; "not for us: {reason}");
                return Ok(None);
            }
        };
        if believed.url != nar_url(hash, &believed.info.nar_hash) || believed.compression != Compression::None {
            self.sites.tried(&self.site, false);
            return Ok(None);
        }
        self.sites.tried(&self.site, true);
        let info = believed.info;
        match self.sender(&NarId::from(&info), &holders, trust).await {
            Some(source) => {
                let file_size = Some(info.nar_size);
                Ok(Some(Holder { info, source, compression: Compression::None, file_size }))
            }
            None => Err(SourceError::Unavailable(format!(
                "no machine of the site {} that has it can be reached",
                self.site
            ))),
        }
    }

    async fn document(&self, _: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }
}

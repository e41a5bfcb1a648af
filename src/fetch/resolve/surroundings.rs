//! The peers of this machine and its upstreams, as those who can be asked.

use super::batches::Batches;
use super::exchanges::{Holders, NarInfos};
use super::peer_responder::PeerResponder;
use super::predecessor_responder::PredecessorLink;
use super::relay_responder::RelayResponder;
use super::responder::{Network, Responder, Responders};
use super::site_responder::{Reached, SiteResponder};
use super::upstream_narinfos::UpstreamNarinfos;
use super::upstream_responder::cache;
use crate::fetch::blame::Blame;
use crate::fetch::source::http_client::ClientFactory;
use crate::fetch::source::peer::PeerSource;
use crate::fetch::source::upstream::Upstream;
use crate::fetch::source::upstreams::Upstreams;
use crate::index::Index;
use crate::nix::StoreHash;
use crate::peers::{Layout, NodeId, Peer, PeerEvent, Peers, Predecessor, State};
use crate::sites::Sites;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// How many holders are asked at most, where this machine relays: it knows of all.
const HOLDERS: usize = 16;

/// The peers of this machine and its upstreams.
pub(crate) struct Surroundings {
    peers: Peers,
    /// Who of them has what.
    index: Index,
    /// Who knows whom.
    layout: watch::Receiver<Arc<Layout>>,
    /// What is asked of them at the moment, and of relays.
    narinfos: Arc<Batches<NarInfos>>,
    holders: Arc<Batches<Holders>>,
    upstreams: Arc<Upstreams>,
    /// What is asked of those.
    upstream_narinfos: UpstreamNarinfos,
    blame: Arc<Blame>,
    /// Other sites, if this machine is of one, and which machines there were reached.
    sites: Option<Sites>,
    reached: Reached,
    /// Machines with a predecessor, if they are asked.
    predecessors: Vec<Arc<PredecessorLink>>,
}

impl Surroundings {
    pub(crate) fn new(
        (peers, index, sites): (Peers, Index, Option<Sites>),
        predecessors: Vec<Predecessor>,
        (upstreams, upstream_narinfos): (Arc<Upstreams>, UpstreamNarinfos),
        blame: Arc<Blame>,
    ) -> Self {
        // Its neighbours are asked straight, whatever the proxies are.
        let link = |predecessor| Arc::new(PredecessorLink::new(predecessor, ClientFactory::new().client()));
        let predecessors = predecessors.into_iter().map(link).collect();
        let (layout, narinfos, holders) = (peers.layout(), Arc::default(), Arc::default());
        Self {
            peers,
            index,
            layout,
            narinfos,
            holders,
            upstreams,
            upstream_narinfos,
            blame,
            sites,
            reached: Reached::default(),
            predecessors,
        }
    }

    /// The sites that may have what is looked for: for one path those that are said to have it, if no peer is; or all.
    fn sites(&self, hash: Option<StoreHash>) -> impl Iterator<Item = Arc<dyn Responder>> + '_ {
        self.sites.iter().flat_map(move |sites| {
            let names = hash.map_or_else(|| sites.names(), |hash| sites.having(hash));
            names.into_iter().map(|site| {
                let (rooms, narinfos) = ((sites.clone(), self.peers.clone()), Arc::clone(&self.narinfos));
                Arc::new(SiteResponder::new(site, rooms, narinfos, self.reached.clone())) as Arc<dyn Responder>
            })
        })
    }

    /// For one path: where no peer is said to have it, the sites that are. They are as far away as upstreams, and waited for like those.
    fn for_path(
        &self,
        hash: StoreHash,
        peers: Vec<Arc<dyn Responder>>,
        holders: usize,
        is_partial: bool,
    ) -> Responders {
        let mut all = self.with(peers, holders, is_partial);
        if holders == 0 {
            all.upstreams.splice(0..0, self.sites(Some(hash)).chain(self.predecessors()));
        }
        all
    }

    fn predecessors(&self) -> impl Iterator<Item = Arc<dyn Responder>> + '_ {
        self.predecessors.iter().map(|link| Arc::clone(link) as Arc<dyn Responder>)
    }

    fn cache(&self, upstream: &Arc<Upstream>) -> Arc<dyn Responder> {
        cache(upstream, &self.upstream_narinfos)
    }

    fn with(&self, peers: Vec<Arc<dyn Responder>>, holders: usize, is_partial: bool) -> Responders {
        let all = self.upstreams.now();
        let available = all.iter().filter(|upstream| upstream.is_available());
        let upstreams: Vec<_> = available.map(|upstream| self.cache(upstream)).collect();
        let is_partial = is_partial || upstreams.len() < all.len();
        Responders { peers, holders, upstreams, is_partial }
    }

    /// As those who are asked for what they have themselves.
    fn themselves(&self, peers: Vec<Arc<Peer>>) -> Vec<Arc<dyn Responder>> {
        let peers = peers.into_iter().map(|peer| {
            let (source, batches) = (Arc::new(PeerSource(peer)), Arc::clone(&self.narinfos));
            Arc::new(PeerResponder { source, batches }) as Arc<dyn Responder>
        });
        peers.collect()
    }

    /// As those who say who has what.
    fn as_relays(&self, relays: impl Iterator<Item = Arc<Peer>>) -> Vec<Arc<dyn Responder>> {
        let relays = relays.map(|relay| {
            Arc::new(RelayResponder {
                relay: Arc::new(PeerSource(relay)),
                peers: self.peers.clone(),
                holders: Arc::clone(&self.holders),
                narinfos: Arc::clone(&self.narinfos),
                blame: Arc::clone(&self.blame),
            }) as Arc<dyn Responder>
        });
        relays.collect()
    }

    /// The relays that are there, the one first that this machine turns to; `None` where there are none, as everybody knows everybody.
    fn relays(&self) -> Option<Vec<Arc<Peer>>> {
        let layout = self.layout.borrow().clone();
        let is_there = |peer: &Arc<Peer>| peer.state() == State::Online && peer.union().is_some();
        let relays = layout.preferred(self.peers.us()).into_iter().filter_map(|id| self.peers.get(id)).filter(is_there);
        layout.is_leaf().then(|| relays.collect())
    }

    /// Those who have a path, where this machine relays and so knows of all; `None` where it does not.
    fn known_holders(&self, hash: StoreHash) -> Option<Vec<Arc<Peer>>> {
        let holders = self.index.holders(hash, HOLDERS)?;
        Some(holders.into_iter().filter_map(|id| self.peers.get(id)).collect())
    }
}

impl Network for Surroundings {
    fn responders(&self) -> Responders {
        match self.relays() {
            Some(relays) => {
                let is_partial = relays.is_empty();
                self.with(self.as_relays(relays.into_iter()), 0, is_partial)
            }
            None => self.with(self.themselves(self.peers.candidates()), 0, self.peers.has_others()),
        }
    }

    fn responders_for(&self, hash: StoreHash) -> Responders {
        if let Some(relays) = self.relays() {
            // What the first of them says holds for all; one that is not believed says nothing.
            let is_believed = |relay: &Arc<Peer>| self.index.status_of(relay.id()).is_none_or(|status| !status.ignored);
            let first: Vec<Arc<Peer>> = relays.into_iter().find(is_believed).into_iter().collect();
            let is_partial = first.is_empty();
            let (picked, holders) = self.index.pick(hash, first);
            return self.for_path(hash, self.as_relays(picked.into_iter()), holders, is_partial);
        }
        if let Some(holders) = self.known_holders(hash) {
            let count = holders.len();
            return self.for_path(hash, self.themselves(holders), count, false);
        }
        let (peers, holders) = self.index.pick(hash, self.peers.candidates());
        self.for_path(hash, self.themselves(peers), holders, self.peers.has_others())
    }

    fn tried(&self, id: NodeId, hash: StoreHash, had_it: bool) {
        self.index.tried(id, hash, had_it);
    }

    fn trust_changed(&self) {
        self.index.forgive();
    }

    fn more(&self) -> Option<watch::Receiver<u64>> {
        Some(self.index.more())
    }

    fn upstreams(&self) -> Vec<Arc<dyn Responder>> {
        let upstreams = self.upstreams.now();
        let caches = upstreams.iter().map(|upstream| self.cache(upstream));
        self.sites(None).chain(self.predecessors()).chain(caches).collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.peers.subscribe()
    }
}

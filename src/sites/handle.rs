//! The room's handle: what the rooms above ask of it.

use super::board::Outcome;
use super::error::SiteError;
use super::message::{Found, Part};
use super::name::SiteName;
use super::options::{Desk, SitesOptions};
use super::session;
use super::shared::Shared;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::nix::StoreHash;
use crate::peers::fleet::Fleet;
use crate::peers::{Admission, NodeId, Peers};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How it is with another site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteStatus {
    /// What it is called.
    pub site: SiteName,
    /// The machine that speaks for it.
    pub gateway: NodeId,
    /// What that machine calls itself.
    pub name: String,
    /// How many machines it has, as it says.
    pub machines: u64,
    /// How many paths it is said to have.
    pub entries: u64,
    /// How long ago it was last heard of.
    pub age: Duration,
    /// Whether it is asked.
    pub is_there: bool,
    /// Whether it is not believed for a while, as it did not have what it said.
    pub is_ignored: bool,
    /// How often it did not have what it said.
    pub wrong_claims: u64,
    /// How long it takes to answer, if that is known.
    pub latency: Option<Duration>,
}

/// The sites of one administrator, as this machine sees them. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Sites(Arc<Shared>);

impl Sites {
    /// Joins the sites, in the background and until `stop`. Nothing is answered for others before [`Self::open`].
    #[must_use]
    pub fn start(
        options: SitesOptions,
        rooms: (Peers, Index),
        who: (Admission, Option<Fleet>),
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let inner = Shared::new(options, rooms, who, metrics);
        let running = Arc::clone(&inner);
        tokio::spawn(async move { stop.run_until_cancelled(Box::pin(session::run(running))).await });
        Self(inner)
    }

    /// Others are answered from this desk from now on.
    pub fn open(&self, desk: Arc<dyn Desk>) {
        self.0.open_desk(desk);
    }

    /// The site of this machine.
    #[must_use]
    pub fn ours(&self) -> &SiteName {
        &self.0.options.site
    }

    /// Whether this machine speaks for its site.
    #[must_use]
    pub fn speaks(&self) -> bool {
        self.0.is_gateway()
    }

    /// What is wrong with the connection; `None`: nothing.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.what_is_wrong()
    }

    /// The sites that are said to have a path and can be asked, the nearest first.
    #[must_use]
    pub fn having(&self, hash: StoreHash) -> Vec<SiteName> {
        if !self.0.asker.is_connected() {
            return Vec::new();
        }
        self.0.board.read().having(hash, Instant::now())
    }

    /// All sites that are known.
    #[must_use]
    pub fn names(&self) -> Vec<SiteName> {
        self.0.board.read().status(Instant::now()).into_iter().map(|status| status.site).collect()
    }

    /// Whether a site is said to have a path, and can be asked.
    #[must_use]
    pub fn has(&self, site: &SiteName, hash: StoreHash) -> bool {
        self.0.asker.is_connected() && self.0.board.read().has(site, hash, Instant::now())
    }

    /// Asks a site for a path that it is said to have; `None`: it does not have it after all.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn ask(&self, site: &SiteName, hash: StoreHash) -> Result<Option<Found>, SiteError> {
        self.0.asker.ask(site, hash).await
    }

    /// The largest NAR that goes over NATS where a site cannot be reached directly, in bytes; 0: none does.
    #[must_use]
    pub fn relay_max(&self) -> u64 {
        self.0.options.relay
    }

    /// A part of a NAR that another site has, over NATS. Nothing of it is proved.
    ///
    /// # Errors
    /// It could not be asked, or does not send it.
    pub async fn part(&self, site: &SiteName, part: &Part) -> Result<Bytes, SiteError> {
        self.0.asker.part(site, part).await
    }

    /// What a site said of a path turned out to be so, or not.
    pub fn tried(&self, site: &SiteName, had_it: bool) {
        if self.0.board.write().tried(site, Outcome::Answered { had_it }, Instant::now()) {
            log::warn!(site:% = site; "the site {site} does not have what it says: its index is ignored for ten minutes");
        }
    }

    /// How long a site usually takes to answer, if that is known.
    #[must_use]
    pub fn latency(&self, site: &SiteName) -> Option<Duration> {
        self.0.board.read().latency(site)
    }

    /// How it is with all sites that are known, by name.
    #[must_use]
    pub fn status(&self) -> Vec<SiteStatus> {
        let (now, is_connected) = (Instant::now(), self.0.asker.is_connected());
        let status = |status: super::board::Status| SiteStatus {
            site: status.site,
            gateway: status.gateway,
            name: status.name,
            machines: status.machines,
            entries: status.entries,
            age: now.saturating_duration_since(status.seen),
            is_there: status.is_there && is_connected,
            is_ignored: status.is_ignored,
            wrong_claims: status.wrong_claims,
            latency: status.latency,
        };
        self.0.board.read().status(now).into_iter().map(status).collect()
    }
}

//! What the tasks of this room share.

use super::asker::{Asker, Credentials};
use super::board::Board;
use super::envelope::{self, Envelope};
use super::error::SiteError;
use super::message::ADDRESSES_MAX;
use super::name::SiteName;
use super::options::{Desk, SitesOptions};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::peers::fleet::{Fleet, Role};
use crate::peers::hello::MEMBERSHIP_MAX;
use crate::peers::{Admission, NodeKey, Peers, State};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the tasks of this room share.
pub(super) struct Shared {
    pub(super) options: SitesOptions,
    pub(super) peers: Peers,
    pub(super) index: Index,
    pub(super) board: Arc<RwLock<Board>>,
    pub(super) asker: Arc<Asker>,
    pub(super) metrics: Arc<Metrics>,
    seal: Arc<Seal>,
    desk: OnceLock<Arc<dyn Desk>>,
    speaks: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// What the server refused last.
    refused: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(
        options: SitesOptions,
        (peers, index): (Peers, Index),
        (admission, fleet): (Admission, Option<Fleet>),
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let board = Arc::<RwLock<Board>>::default();
        let seal = Arc::new(Seal { key: Arc::clone(&options.key), admission, fleet, serial: AtomicU64::new(0) });
        let asker =
            Arc::new(Asker::new(Arc::clone(&board), Arc::clone(&seal) as Arc<dyn Credentials>, Arc::clone(&metrics)));
        Arc::new(Self {
            options,
            peers,
            index,
            board,
            asker,
            metrics,
            seal,
            desk: OnceLock::new(),
            speaks: AtomicBool::new(false),
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            refused: Mutex::default(),
        })
    }

    /// Others are answered from this desk from now on.
    pub(super) fn open_desk(&self, desk: Arc<dyn Desk>) {
        // A second one is none of ours.
        let _ = self.desk.set(desk);
    }

    /// Whether this machine speaks for its site.
    pub(super) fn is_gateway(&self) -> bool {
        self.speaks.load(Relaxed)
    }

    /// What is wrong; `None`: nothing.
    pub(super) fn what_is_wrong(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// The desk, once it is open.
    pub(super) fn desk(&self) -> Option<Arc<dyn Desk>> {
        self.desk.get().cloned()
    }

    /// Whether this machine may speak for its site: its membership allows that, it can answer, others can reach it, and it knows itself what the
    /// others have.
    pub(super) fn may_speak(&self) -> bool {
        let is_able = self.desk.get().is_some() && self.options.share_port.is_some();
        is_able && self.seal.may_speak() && !self.peers.layout().borrow().is_leaf()
    }

    /// It does from now on, or no longer.
    pub(super) fn speaks(&self, speaks: bool) {
        self.speaks.store(speaks, Relaxed);
    }

    /// What is wrong from now on.
    pub(super) fn trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// The server refuses something: what fails next fails for that.
    pub(super) fn refused(&self, what: String) {
        *self.refused.lock() = Some(what);
    }

    /// Something failed, for what the server refused or for what it says itself.
    pub(super) fn failed(&self, error: &SiteError) -> String {
        let reason = self.refused.lock().take().unwrap_or_else(|| error.to_string());
        self.trouble(Some(reason.clone()));
        reason
    }

    /// How many machines this site has, as far as this one knows.
    pub(super) fn machines(&self) -> usize {
        1 + self.peers.snapshot().iter().filter(|peer| peer.state == State::Online).count()
    }

    /// Where this machine can be reached: what the administrator wrote, or the addresses that it has.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let Some(port) = self.options.share_port else { return Vec::new() };
        if !self.options.addresses.is_empty() {
            return self.options.addresses.iter().copied().take(ADDRESSES_MAX).collect();
        }
        own_addresses().into_iter().map(|ip| SocketAddr::new(ip, port)).take(ADDRESSES_MAX).collect()
    }

    /// The longest answer that the server takes with all that belongs to it.
    pub(super) fn answer_max(&self) -> usize {
        self.asker.payload_max().saturating_sub(envelope::OVERHEAD + MEMBERSHIP_MAX)
    }

    /// A message to `place`.
    pub(super) fn seal(&self, place: &str, payload: &[u8]) -> Bytes {
        self.seal.seal(place, payload)
    }

    /// What somebody says for `site`.
    ///
    /// # Errors
    /// As [`Credentials::open_spoken`].
    pub(super) fn open_spoken(&self, site: &SiteName, place: &str, message: &Bytes) -> Result<Envelope, SiteError> {
        self.seal.open_spoken(site, place, message)
    }

    /// What a machine of `site` says for itself.
    ///
    /// # Errors
    /// It is of none of its machines, or no message.
    pub(super) fn open(&self, site: &SiteName, place: &str, message: &Bytes) -> Result<Envelope, SiteError> {
        self.seal.open(site, place, message)
    }

    /// What somebody says who may take part, of whatever site.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(super) fn open_from_anyone(&self, place: &str, message: &Bytes) -> Result<Envelope, SiteError> {
        self.seal.admitted(envelope::open(message, place)?)
    }
}

/// Signs what this machine says, and judges what others do.
struct Seal {
    key: Arc<NodeKey>,
    admission: Admission,
    /// The fleet of this machine, whose membership it shows.
    fleet: Option<Fleet>,
    /// Of the last message: the clock may go back.
    serial: AtomicU64,
}

impl Seal {
    /// Whether others listen to what this machine says for its site.
    fn may_speak(&self) -> bool {
        self.admission.allows(self.key.id(), Role::Gateway)
    }

    fn admitted(&self, envelope: Envelope) -> Result<Envelope, SiteError> {
        if envelope.from != self.key.id() && !self.admission.admits(envelope.from) {
            return Err(SiteError::NotAdmitted);
        }
        if let Some(fleet) = self.admission.fleet() {
            fleet.present(envelope.from, envelope.membership.as_deref()).map_err(SiteError::NoMember)?;
        }
        Ok(envelope)
    }

    /// What a machine of `site` says for itself.
    fn open(&self, site: &SiteName, place: &str, message: &Bytes) -> Result<Envelope, SiteError> {
        let envelope = self.admitted(envelope::open(message, place)?)?;
        // A membership that names a site is good for that one alone.
        let is_of_it = self.admission.fleet().is_none_or(|fleet| fleet.is_of_site(envelope.from, site.as_str()));
        if is_of_it { Ok(envelope) } else { Err(SiteError::NotAdmitted) }
    }
}

impl Credentials for Seal {
    fn seal(&self, place: &str, payload: &[u8]) -> Bytes {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let before = self.serial.fetch_max(now, Relaxed);
        let serial = if before < now { now } else { self.serial.fetch_add(1, Relaxed) + 1 };
        let membership = self.fleet.as_ref().and_then(|fleet| fleet.told().0);
        envelope::seal(&self.key, membership.as_deref(), place, serial, payload)
    }

    fn open_spoken(&self, site: &SiteName, place: &str, message: &Bytes) -> Result<Envelope, SiteError> {
        let envelope = self.open(site, place, message)?;
        if self.admission.allows(envelope.from, Role::Gateway) { Ok(envelope) } else { Err(SiteError::NotAdmitted) }
    }
}

/// The addresses of this machine that others may reach, those of the wider network first.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.dedup();
    addresses
}

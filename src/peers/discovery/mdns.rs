//! Announcing this machine on the links it is on, and hearing of others:
//! [mDNS](https://www.rfc-editor.org/rfc/rfc6762) and [DNS-SD](https://www.rfc-editor.org/rfc/rfc6763), service
//! `_peernix._tcp`, the node id as the instance's name.
//!
//! Everything heard is a claim. It may bring us to dial a neighbour, who then has to prove the identity; it never takes
//! a peer away, it only makes us look.

use super::on_link::Links;
use super::sighting::{Sighting, Surroundings, changed};
use crate::peers::identity::NodeId;
use crate::peers::link::{ADDRESSES_MAX, RETRY_PAUSES};
use crate::peers::state::Provenance;
use crate::resilience::{Backoff, TokenBucket};
use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// The type of the service.
const SERVICE: &str = "_peernix._tcp.local.";
/// The version of the announcement, in its `v`.
const VERSION: &str = "1";
/// How often the daemon looks for new addresses, in seconds. Where netlink works it is told sooner.
const ADDRESS_CHECK_SECONDS: u32 = 1;
/// How many announcements are looked at in a second; the others are dropped.
const EVENTS_PER_SECOND: u32 = 200;
/// How often in a second the administrator can have us ask who is there; each time is a packet to everybody.
const REFRESHES_PER_SECOND: u32 = 1;
/// How many records the daemon may remember of what it heard, of each type; it sets no limit of its own.
const RECORDS_MAX: i64 = 8 * 1024;
/// How often that is checked.
const RECORDS_CHECK: Duration = Duration::from_secs(5);
/// A session that lasted this long began well.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long the daemon may take to answer us, and to say goodbye.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// How mDNS is used.
#[derive(Debug, Clone, Default)]
pub struct Mdns {
    /// The names of the interfaces; empty means all but loopback, which has to be named.
    pub interfaces: Vec<String>,
}

/// Announces and listens until everything stops, then says goodbye.
pub(crate) async fn run(surroundings: Surroundings, options: Mdns) {
    let mut backoff = Backoff::new(RETRY_PAUSES);
    while !surroundings.stop.is_cancelled() {
        let begun = Instant::now();
        let error = match Session::start(&surroundings, &options) {
            Ok(mut session) => match session.listen(&surroundings, &options).await {
                Ok(End::Stop) => return session.leave().await,
                Ok(End::Flooded) => {
                    log::warn!("more than {RECORDS_MAX} mDNS records: someone floods the network; they are forgotten");
                    session.abandon();
                    continue;
                }
                Err(error) => {
                    session.abandon();
                    error
                }
            },
            Err(error) => error,
        };
        if begun.elapsed() > HEALTHY {
            backoff.reset();
        }
        let pause = backoff.next_pause();
        log::warn!(reason:% = error; "mDNS stopped; it is started again in {pause:.1?}");
        surroundings.stop.run_until_cancelled(sleep(pause)).await;
    }
}

/// Why a session ends that did not fail.
enum End {
    Stop,
    Flooded,
}

/// The mDNS daemon (a thread of its own) with our announcement and our question.
struct Session {
    daemon: ServiceDaemon,
    announcement: Option<ServiceInfo>,
    events: Receiver<ServiceEvent>,
    links: Links,
    rate: TokenBucket,
    /// Turned at each change of the network; see [`Session::look_again`].
    toggle: bool,
}

impl Session {
    fn start(surroundings: &Surroundings, options: &Mdns) -> mdns_sd::Result<Self> {
        let daemon = ServiceDaemon::new()?;
        daemon.set_ip_check_interval(ADDRESS_CHECK_SECONDS)?;
        if options.interfaces.is_empty() {
            daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        } else {
            daemon.disable_interface(IfKind::All)?;
            let names = options.interfaces.iter().cloned().map(IfKind::Name);
            daemon.enable_interface(names.collect::<Vec<_>>())?;
        }
        let announcement = announcement(surroundings)?;
        if let Some(announcement) = &announcement {
            daemon.register(announcement.clone())?;
        }
        let events = daemon.browse(SERVICE)?;
        let rate = TokenBucket::new(EVENTS_PER_SECOND);
        Ok(Self { daemon, announcement, events, links: Links::default(), rate, toggle: false })
    }

    /// Listens until everything stops, or too much was heard.
    async fn listen(&mut self, surroundings: &Surroundings, options: &Mdns) -> mdns_sd::Result<End> {
        let mut network = surroundings.network.clone();
        let mut refresh = surroundings.refresh.clone();
        // What was asked for before this session, it begins with.
        refresh.mark_unchanged();
        let mut refreshes = TokenBucket::new(REFRESHES_PER_SECOND);
        let mut check = interval(RECORDS_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dropped: u64 = 0;
        loop {
            tokio::select! {
                () = surroundings.stop.cancelled() => return Ok(End::Stop),
                event = self.events.recv_async() => {
                    let event = event.map_err(|_| mdns_sd::Error::Msg("its thread ended".to_owned()))?;
                    if !self.rate.permits() || !self.hear(surroundings, options, event) {
                        dropped += 1;
                    }
                }
                () = changed(&mut network) => self.look_again(options)?,
                () = changed(&mut refresh) => {
                    if refreshes.permits() {
                        self.look_again(options)?;
                    }
                }
                _ = check.tick() => {
                    self.refresh_links(options);
                    if dropped > 0 {
                        log::warn!(count = dropped; "too many mDNS announcements: the rest was dropped");
                        dropped = 0;
                    }
                    if self.is_flooded().await? {
                        return Ok(End::Flooded);
                    }
                }
            }
        }
    }

    /// Passes on what an event says of peers. False if it had to be dropped, because earlier ones were not taken in yet.
    fn hear(&mut self, surroundings: &Surroundings, options: &Mdns, event: ServiceEvent) -> bool {
        let sighting = match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some(id) = identity(&service) else {
                    log::debug!("an mDNS announcement that is not of our version, or malformed");
                    return true;
                };
                if id == surroundings.id {
                    return true;
                }
                let mut addresses = self.neighbours(&service);
                if addresses.is_empty() {
                    // It may be on a link that came up since we looked.
                    self.refresh_links(options);
                    addresses = self.neighbours(&service);
                }
                log::debug!(peer:% = id, addresses:? = addresses; "mDNS announcement");
                if addresses.is_empty() {
                    return true;
                }
                let (provenance, sender) = (Provenance::Mdns, surroundings.stop.clone());
                Sighting::Here { id, addresses, provenance, added: false, sender }
            }
            ServiceEvent::ServiceRemoved(_, name) => match instance(&name) {
                Some(id) => Sighting::Goodbye(id),
                None => return true,
            },
            _ => return true,
        };
        surroundings.sightings.try_send(sighting).is_ok()
    }

    /// The announced addresses that we may dial.
    fn neighbours(&self, service: &ResolvedService) -> Vec<SocketAddr> {
        let addresses = service.addresses.iter().filter_map(|address| match address {
            ScopedIp::V4(v4) => Some(SocketAddr::new((*v4.addr()).into(), service.port)),
            ScopedIp::V6(v6) => {
                let scope = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
                Some(SocketAddrV6::new(*v6.addr(), service.port, 0, scope).into())
            }
            _ => None,
        });
        let mut addresses: Vec<SocketAddr> = addresses.filter(|address| self.links.have(*address)).collect();
        addresses.sort();
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    fn refresh_links(&mut self, options: &Mdns) {
        match Links::look(&options.interfaces) {
            Ok(links) => self.links = links,
            Err(error) => log::warn!(reason:% = error; "cannot list the network's interfaces"),
        }
    }

    /// Announces and asks again, on the links that are there now.
    fn look_again(&mut self, options: &Mdns) -> mdns_sd::Result<()> {
        self.refresh_links(options);
        // Of all the settings this is the one that makes the daemon look at the interfaces at once and keeps no record
        // of having been called. What it says concerns interfaces that Linux does not have.
        self.toggle = !self.toggle;
        self.daemon.include_apple_p2p(self.toggle)?;
        if let Some(announcement) = &self.announcement {
            self.daemon.register(announcement.clone())?;
        }
        self.events = self.daemon.browse(SERVICE)?;
        Ok(())
    }

    /// Whether announcements have filled the daemon's memory; a new daemon begins with none.
    async fn is_flooded(&self) -> mdns_sd::Result<bool> {
        let metrics = self.daemon.get_metrics()?;
        let Ok(Ok(metrics)) = timeout(ANSWER_LIMIT, metrics.recv_async()).await else { return Ok(false) };
        let cached = |name: &str| name.starts_with("cached-");
        Ok(metrics.iter().any(|(name, count)| cached(name) && *count > RECORDS_MAX))
    }

    /// Says goodbye, and ends the daemon.
    async fn leave(self) {
        let begun = Instant::now();
        let goodbye = async {
            if let Some(announcement) = &self.announcement {
                let receipt = self.daemon.unregister(announcement.get_fullname())?;
                let _ = receipt.recv_async().await;
            }
            let receipt = self.daemon.shutdown()?;
            let _ = receipt.recv_async().await;
            mdns_sd::Result::Ok(())
        };
        match timeout(ANSWER_LIMIT, goodbye).await {
            Ok(Ok(())) => log::debug!("said goodbye over mDNS in {:.1?}", begun.elapsed()),
            Ok(Err(error)) => log::debug!(reason:% = error; "no goodbye over mDNS"),
            Err(_) => log::debug!("the goodbye over mDNS took too long"),
        }
    }

    /// Ends the daemon, whatever state it is in.
    fn abandon(self) {
        // It may have ended by itself, which is why.
        let _ = self.daemon.shutdown();
    }
}

/// What we announce; nothing when there is no share to come to.
fn announcement(surroundings: &Surroundings) -> mdns_sd::Result<Option<ServiceInfo>> {
    if surroundings.share_port == 0 {
        return Ok(None);
    }
    let id = surroundings.id.to_string();
    let properties = [("id", id.as_str()), ("v", VERSION)];
    // The id is the host's name too: unlike the real one, no other mDNS responder on this machine claims it.
    let host = format!("{id}.local.");
    let mut service =
        ServiceInfo::new(SERVICE, &id, &host, (), surroundings.share_port, &properties[..])?.enable_addr_auto();
    // A name made of a public key is nobody else's, so the 750 ms of asking for it first are saved.
    service.set_requires_probe(false);
    Ok(Some(service))
}

/// Whose announcement it is, if it is one of this version and consistent.
fn identity(service: &ResolvedService) -> Option<NodeId> {
    let property = |name| service.txt_properties.get_property_val_str(name);
    let id = instance(&service.fullname)?;
    (property("v") == Some(VERSION) && property("id")?.parse() == Ok(id)).then_some(id)
}

/// The node id in the name of a service instance.
fn instance(fullname: &str) -> Option<NodeId> {
    let (instance, rest) = fullname.split_at_checked(NodeId::TEXT_LEN)?;
    let ours = rest.strip_prefix('.').is_some_and(|service| service.eq_ignore_ascii_case(SERVICE));
    // DNS compares names without regard to case, so caches may have changed it.
    ours.then(|| instance.to_ascii_lowercase().parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    #[test]
    fn names_of_instances() {
        let id = NodeKey::from_seed([1; 32]).id();
        assert_eq!(instance(&format!("{id}.{SERVICE}")), Some(id));
        assert_eq!(instance(&format!("{id}.{SERVICE}").to_uppercase()), Some(id));
        for other in [format!("{id}"), format!("{id}._http._tcp.local."), format!("x{id}.{SERVICE}"), "é".repeat(60)] {
            assert_eq!(instance(&other), None, "{other}");
        }
    }
}

//! Announcing this machine on the links it is on, and hearing of others:
//! [mDNS](https://www.rfc-editor.org/rfc/rfc6762) and [DNS-SD](https://www.rfc-editor.org/rfc/rfc6763), service
//! `_peernix._tcp`, the node id as the instance's name.
//!
//! Everything heard is a claim. It may bring us to dial a neighbour, who then has to prove the identity; it never takes
//! a peer away, it only makes us look.
//!
//! One task does the input and output. What is worth reading is decided in `gate`, when to speak in `responder`, when to ask and
//! what to believe in `browser`; `message` is the language.

mod browser;
mod gate;
mod message;
mod responder;
mod sockets;

use super::interfaces::{Interface, Interfaces};
use super::sighting::{Sighting, Surroundings, changed};
use crate::peers::state::Provenance;
use crate::resilience::backoff::Schedule;
use crate::resilience::{Backoff, TokenBucket};
use browser::{Belief, Browser};
use gate::{Gate, PACKET_MAX};
use message::{Claim, Me, Message, To};
use responder::{PORT, Responder, Single};
use sockets::{Family, Packet, Sockets};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often in a second the administrator can have us ask who is there; each time is a packet to everybody.
const REFRESHES_PER_SECOND: u32 = 1;
/// How often in a second we ask about machines of which too little was heard, all of them together.
const ASK_ABOUT_PER_SECOND: u32 = 5;
/// How often we look at the interfaces though nobody says that they changed: the kernel may not be allowed to tell us.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// How many packets are taken in one go; then others have their turn.
const IN_ONE_GO: usize = 128;
/// How long we let packets wait in the kernel after some were dropped: under a flood each would else wake us by itself.
const REST: Duration = Duration::from_millis(10);
/// How long we wait before we try again for a port that another program has.
const BLOCKED_PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(5), spread: false };

/// How mDNS is used.
#[derive(Debug, Clone, Default)]
pub struct Mdns {
    /// The names of the interfaces; empty means all but loopback, which has to be named.
    pub interfaces: Vec<String>,
}

/// Announces and listens until everything stops, then says goodbye.
pub(crate) async fn run(surroundings: Surroundings, options: Mdns) {
    let mut session = Session {
        me: Me::new(surroundings.id, surroundings.share_port),
        surroundings,
        options,
        interfaces: Interfaces::default(),
        sockets: Sockets::default(),
        missing: Family::BOTH.to_vec(),
        retry: Some(Instant::now()),
        pauses: Backoff::new(BLOCKED_PAUSES),
        gate: Gate::new(),
        responder: Responder::new(),
        browser: Browser::new(),
        questions: TokenBucket::new(ASK_ABOUT_PER_SECOND),
    };
    session.talk().await;
    session.leave();
}

struct Session {
    surroundings: Surroundings,
    options: Mdns,
    me: Me,
    interfaces: Interfaces,
    sockets: Sockets,
    /// The families whose port could not be had yet.
    missing: Vec<Family>,
    /// When they are tried next.
    retry: Option<Instant>,
    pauses: Backoff,
    gate: Gate,
    responder: Responder,
    browser: Browser,
    questions: TokenBucket,
}

impl Session {
    async fn talk(&mut self) {
        let mut network = self.surroundings.network.clone();
        let mut refresh = self.surroundings.refresh.clone();
        let stop = self.surroundings.stop.clone();
        let mut refreshes = TokenBucket::new(REFRESHES_PER_SECOND);
        let mut look = interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = [0; PACKET_MAX + 1];
        let mut rest = None;
        loop {
            let retry = self.retry;
            let next = self.next();
            tokio::select! {
                () = stop.cancelled() => return,
                () = at(rest), if rest.is_some() => {
                    rest = None;
                    if let Err(error) = self.sockets.wake() {
                        self.begin_anew(&error);
                    }
                }
                packet = self.sockets.receive(&mut buffer), if rest.is_none() => match packet {
                    Ok(packet) => {
                        let before = self.gate.dropped();
                        self.take_in(packet, &mut buffer);
                        if self.gate.dropped() > before {
                            self.sockets.rest();
                            rest = Some(Instant::now() + REST);
                        }
                    }
                    Err(error) => self.begin_anew(&error),
                },
                () = at(next) => self.speak(),
                () = at(retry) => self.open(),
                () = changed(&mut network) => {
                    // What could not be said before may be possible now.
                    let silent = self.sockets.take_silent();
                    self.look(&silent).await;
                }
                () = changed(&mut refresh) => if refreshes.permits() {
                    self.look(&HashSet::new()).await;
                    self.browser.begin_again(Instant::now());
                },
                _ = look.tick() => {
                    self.look(&HashSet::new()).await;
                    let dropped = self.gate.take_dropped();
                    if dropped > 0 {
                        log::warn!(count = dropped; "too many mDNS messages: the rest was dropped");
                    }
                }
            }
        }
    }

    /// When there is something to say.
    fn next(&self) -> Option<Instant> {
        [self.browser.next(), self.announces().then(|| self.responder.next()).flatten()].into_iter().flatten().min()
    }

    /// Whether there is a share to come to.
    fn announces(&self) -> bool {
        self.surroundings.share_port != 0
    }

    /// Tries to have the port, and tells everybody how that went.
    fn open(&mut self) {
        let mut blocked = Vec::new();
        for family in std::mem::take(&mut self.missing) {
            match self.sockets.open(family) {
                Ok(true) => self.begin(family),
                Ok(false) => {}
                Err(error) => {
                    self.missing.push(family);
                    blocked.push((family, error));
                }
            }
        }
        self.retry = (!blocked.is_empty()).then(|| Instant::now() + self.pauses.next_pause());
        let reason = reason(&blocked);
        if reason.is_none() {
            self.pauses.reset();
        }
        self.surroundings.troubles.send_if_modified(|troubles| {
            let news = troubles.discovery != reason;
            troubles.discovery = reason;
            news
        });
    }

    /// Takes up a family on all interfaces.
    fn begin(&mut self, family: Family) {
        let now = Instant::now();
        for (link, interface) in self.interfaces.iter() {
            if interface.speaks(family.is_v4()) {
                self.sockets.join(link, family);
                self.responder.link_up(link, now);
                self.browser.link_up(link, now);
            }
        }
    }

    /// Opens everything again: a socket failed, which never happens while the network only changes.
    fn begin_anew(&mut self, error: &io::Error) {
        log::warn!(reason:% = error; "mDNS stopped; it is started again");
        self.sockets = Sockets::default();
        self.missing = Family::BOTH.to_vec();
        self.retry = Some(Instant::now() + self.pauses.next_pause());
    }

    /// Looks at the interfaces, and takes up or leaves what has changed, and takes up `also` anew.
    async fn look(&mut self, also: &HashSet<u32>) {
        let names = self.options.interfaces.clone();
        let looked = tokio::task::spawn_blocking(move || Interfaces::look(&names)).await;
        let found = match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(found) => found,
            Err(error) => {
                log::warn!(reason:% = error; "cannot list the network's interfaces");
                return;
            }
        };
        let now = Instant::now();
        let before = std::mem::replace(&mut self.interfaces, found);
        for (link, _) in before.iter().filter(|(link, _)| self.interfaces.get(*link).is_none()) {
            self.sockets.leave(link);
            self.responder.link_down(link);
            self.browser.link_down(link);
        }
        let news = |(link, interface): &(u32, &Interface)| before.get(*link) != Some(*interface) || also.contains(link);
        for (link, interface) in self.interfaces.iter().filter(news) {
            // Its number may be another interface's by now, which the groups of the last one would be in the way of.
            self.sockets.leave(link);
            for family in Family::BOTH.into_iter().filter(|family| interface.speaks(family.is_v4())) {
                self.sockets.join(link, family);
            }
            self.responder.link_up(link, now);
            self.browser.link_up(link, now);
        }
    }

    /// Says and asks what is due.
    fn speak(&mut self) {
        let now = Instant::now();
        for (link, known) in self.browser.take_due(now) {
            self.sockets.tell(link, &self.me.question(&known));
        }
        for (link, types) in self.responder.take_due(now) {
            if let Some(interface) = self.interfaces.get(link).filter(|_| self.announces()) {
                self.sockets.tell(link, &self.me.answer(interface, types, To::Everybody));
            }
        }
    }

    /// Says goodbye on all links.
    fn leave(&mut self) {
        if !self.announces() {
            return;
        }
        for (link, interface) in self.interfaces.iter() {
            self.sockets.tell(link, &self.me.goodbye(interface));
        }
    }

    /// Takes in a packet, and those behind it.
    fn take_in(&mut self, first: Packet, buffer: &mut [u8]) {
        let mut next = Some(first);
        for _ in 0..IN_ONE_GO {
            let Some(packet) = next else { return };
            if let Some(heard) = buffer.get(..packet.length) {
                self.hear(packet, heard);
            }
            next = self.sockets.try_receive(buffer);
        }
        if let Some((packet, heard)) = next.and_then(|packet| Some((packet, buffer.get(..packet.length)?))) {
            self.hear(packet, heard);
        }
    }

    fn hear(&mut self, packet: Packet, heard: &[u8]) {
        let sender = packet.from.ip();
        let on_link = self.interfaces.get(packet.link).is_some_and(|interface| interface.has(sender));
        if !on_link || !self.gate.admits(sender, heard) {
            return;
        }
        match self.me.read(heard) {
            Some(Message::Question(asked)) if self.announces() => {
                let single = self.responder.asked(packet.link, &asked, packet.from.port(), Instant::now());
                let (Some(single), Some(interface)) = (single, self.interfaces.get(packet.link)) else { return };
                let to = match single {
                    Single::Asker => To::Asker,
                    Single::Stranger => To::Stranger(&asked),
                };
                self.sockets.answer(packet.link, packet.from, &self.me.answer(interface, asked.types, to));
            }
            Some(Message::Answer(claims)) if packet.from.port() == PORT => {
                for claim in claims {
                    self.weigh(&claim, packet.link, sender);
                }
            }
            _ => {}
        }
    }

    /// Passes on what is believed of a claim.
    fn weigh(&mut self, claim: &Claim, link: u32, sender: IpAddr) {
        let id = claim.id;
        let sighting = if id == self.surroundings.id {
            // What we say comes back to us, from our own addresses.
            let Some(port) = claim.port.filter(|_| !self.interfaces.is_own(sender)) else { return };
            Sighting::Ourselves(placed(sender, port, link))
        } else {
            match self.browser.heard(claim, link, sender, Instant::now()) {
                Belief::Here { port, addresses } => {
                    let addresses = addresses.into_iter().map(|address| placed(address, port, link));
                    let addresses: Vec<SocketAddr> =
                        addresses.filter(|address| self.interfaces.have(*address)).collect();
                    log::debug!(peer:% = id, addresses:? = addresses; "mDNS announcement");
                    if addresses.is_empty() {
                        return;
                    }
                    let said_by = self.surroundings.stop.clone();
                    Sighting::Here { id, addresses, provenance: Provenance::Mdns, added: false, sender: said_by }
                }
                Belief::Goodbye => Sighting::Goodbye(id),
                Belief::Ask => {
                    if self.questions.permits() {
                        self.sockets.tell(link, &Me::question_about(id));
                    }
                    return;
                }
                Belief::Nothing => return,
            }
        };
        // Full only while a flood is taken in; whoever is there says so again.
        let _ = self.surroundings.sightings.try_send(sighting);
    }
}

/// An address on a link.
fn placed(address: IpAddr, port: u16, link: u32) -> SocketAddr {
    match address {
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, if v6.is_unicast_link_local() { link } else { 0 }).into(),
        IpAddr::V4(_) => SocketAddr::new(address, port),
    }
}

/// Why machines cannot be found by themselves, for people; `None` when they can.
fn reason(blocked: &[(Family, io::Error)]) -> Option<String> {
    let (_, error) = blocked.first()?;
    let families = blocked.iter().map(|(family, _)| family.name()).collect::<Vec<_>>().join(" and ");
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has UDP port {PORT} for itself ({families}; `ss -lunp 'sport = :{PORT}'` shows which)"
        ),
        _ => format!("UDP port {PORT} cannot be used over {families}: {error}"),
    })
}

/// Waits until then, for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

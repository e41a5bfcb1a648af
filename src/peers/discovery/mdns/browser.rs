//! When to ask who is there, and what of what is heard is believed. Decides only; `mod.rs` sends.
//!
//! Nothing heard is proved. A machine speaks for itself: what it announces has to include the address it speaks from. So one
//! machine on the link can claim to be many, but not that others are, and how many one can be is bounded.

use super::message::{Claim, KNOWN_MAX};
use super::responder::random;
use crate::peers::identity::NodeId;
use crate::peers::link::ADDRESSES_MAX;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// The first question on an interface comes this long after it came up at the latest, so that not all ask at the same moment.
const FIRST_SPREAD: Duration = Duration::from_millis(20);
/// The pause after the first question; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause: machines that come announce themselves.
const PAUSE_MOST: Duration = Duration::from_secs(5 * 60);
/// How many machines are remembered.
const KNOWN: usize = 512;
/// How many different machines one address may claim to be, among those that are remembered.
const PER_SENDER: usize = 8;
/// How long a machine is remembered, and named as known, after it was last heard: half of what its announcement is good for.
const REMEMBERED: Duration = Duration::from_secs(2250);
/// How often we ask about one machine of which too little was heard.
const ASK_ABOUT_AGAIN: Duration = Duration::from_secs(5);

/// What is asked, and who was heard.
pub(super) struct Browser {
    links: HashMap<u32, Asking>,
    heard: HashMap<NodeId, Heard>,
}

#[derive(Debug)]
struct Asking {
    next: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Heard {
    link: u32,
    /// Who said so.
    sender: IpAddr,
    port: Option<u16>,
    described: bool,
    addresses: Vec<IpAddr>,
    at: Instant,
    /// When we last asked about it.
    asked: Option<Instant>,
}

/// What to make of a claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// There is a machine, at these addresses.
    Here { port: u16, addresses: Vec<IpAddr> },
    /// A machine says that it goes.
    Goodbye,
    /// There may be one, of which too little is known: ask.
    Ask,
    /// Nothing.
    Nothing,
}

impl Browser {
    pub(super) fn new() -> Self {
        Self { links: HashMap::new(), heard: HashMap::new() }
    }

    /// An interface is new, or has other addresses: ask there.
    pub(super) fn link_up(&mut self, link: u32, now: Instant) {
        self.links.insert(link, Asking { next: now + random(FIRST_SPREAD), pause: PAUSE_FIRST });
    }

    pub(super) fn link_down(&mut self, link: u32) {
        self.links.remove(&link);
        self.heard.retain(|_, heard| heard.link != link);
    }

    /// Asks again on every interface, from the beginning, and knows nobody: everybody is to answer.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.heard.clear();
        for asking in self.links.values_mut() {
            *asking = Asking { next: now, pause: PAUSE_FIRST };
        }
    }

    /// Where to ask now, and who need not answer.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(u32, Vec<NodeId>)> {
        let mut due = Vec::new();
        for (link, asking) in &mut self.links {
            if asking.next > now {
                continue;
            }
            asking.next = now + asking.pause;
            asking.pause = (asking.pause * 2).min(PAUSE_MOST);
            let known =
                self.heard.iter().filter(|(_, heard)| heard.link == *link && heard.is_whole() && heard.is_fresh(now));
            due.push((*link, known.map(|(id, _)| *id).take(KNOWN_MAX).collect()));
        }
        due
    }

    /// When to ask next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.links.values().map(|asking| asking.next).min()
    }

    /// Takes in what `sender` claims on an interface.
    pub(super) fn heard(&mut self, claim: &Claim, link: u32, sender: IpAddr, now: Instant) -> Belief {
        if claim.goodbye {
            // Only who was heard to be there can go; anybody may say it, and all that comes of it is a look.
            return if self.heard.remove(&claim.id).is_some() { Belief::Goodbye } else { Belief::Nothing };
        }
        if self.heard.get(&claim.id).is_none_or(|heard| heard.sender != sender)
            && !self.make_room(claim.id, sender, now)
        {
            return Belief::Nothing;
        }
        let new = || Heard { link, sender, port: None, described: false, addresses: Vec::new(), at: now, asked: None };
        let heard = self.heard.entry(claim.id).or_insert_with(new);
        (heard.link, heard.sender, heard.at) = (link, sender, now);
        heard.port = claim.port.or(heard.port);
        heard.described |= claim.described;
        if !claim.addresses.is_empty() {
            heard.addresses.clone_from(&claim.addresses);
        }
        match heard.port {
            Some(port) if heard.is_whole() && heard.addresses.contains(&sender) => {
                // Where it speaks from is where it can be reached, if anywhere.
                let others = heard.addresses.iter().copied().filter(|address| *address != sender);
                let addresses = std::iter::once(sender).chain(others).take(ADDRESSES_MAX).collect();
                Belief::Here { port, addresses }
            }
            _ if heard.is_whole() || heard.asked.is_some_and(|asked| now < asked + ASK_ABOUT_AGAIN) => Belief::Nothing,
            _ => {
                heard.asked = Some(now);
                Belief::Ask
            }
        }
    }

    /// Whether one more machine may be remembered from `sender`; the one heard longest ago goes for it.
    fn make_room(&mut self, id: NodeId, sender: IpAddr, now: Instant) -> bool {
        let of_sender =
            self.heard.iter().filter(|(other, heard)| **other != id && heard.sender == sender && heard.is_fresh(now));
        if of_sender.count() >= PER_SENDER {
            return false;
        }
        if self.heard.len() >= KNOWN && !self.heard.contains_key(&id) {
            let oldest = self.heard.iter().min_by_key(|(_, heard)| heard.at).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.heard.remove(&oldest));
        }
        true
    }
}

impl Heard {
    fn is_whole(&self) -> bool {
        self.port.is_some() && self.described && !self.addresses.is_empty()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.at) < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    const LINK: u32 = 2;

    fn id(number: u64) -> NodeId {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        NodeKey::from_seed(seed).id()
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a4d_0000 + number).into())
    }

    fn whole(number: u64, addresses: &[IpAddr]) -> Claim {
        Claim { id: id(number), goodbye: false, port: Some(7650), described: true, addresses: addresses.to_vec() }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_begin_again() {
        let (mut browser, start) = (Browser::new(), Instant::now());
        browser.link_up(LINK, start);
        let mut times = Vec::new();
        while let Some(next) = browser.next().filter(|next| *next < start + Duration::from_secs(1500)) {
            assert_eq!(browser.take_due(next), [(LINK, vec![])]);
            times.push((next - start).as_secs());
        }
        assert_eq!(times, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111, 1411]);
        let later = start + Duration::from_secs(1500);
        browser.begin_again(later);
        assert_eq!(browser.next(), Some(later));
        browser.link_down(LINK);
        assert_eq!(browser.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_speaks_for_itself() {
        let (mut browser, now) = (Browser::new(), Instant::now());
        browser.link_up(LINK, now);
        let (here, there) = (address(1), address(2));
        assert_eq!(browser.heard(&whole(1, &[there]), LINK, here, now), Belief::Nothing);
        let belief = browser.heard(&whole(1, &[there, here]), LINK, here, now);
        assert_eq!(belief, Belief::Here { port: 7650, addresses: vec![here, there] });
        // Who is known need not answer.
        let due = browser.take_due(now + Duration::from_secs(1));
        assert_eq!(due, [(LINK, vec![id(1)])]);
        let goodbye = Claim { goodbye: true, ..whole(1, &[]) };
        assert_eq!(browser.heard(&goodbye, LINK, here, now), Belief::Goodbye);
        assert_eq!(browser.heard(&goodbye, LINK, here, now), Belief::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_are_put_together_and_asked_for() {
        let (mut browser, now) = (Browser::new(), Instant::now());
        let pointer = Claim { port: None, described: false, ..whole(1, &[]) };
        assert_eq!(browser.heard(&pointer, LINK, address(1), now), Belief::Ask);
        assert_eq!(browser.heard(&pointer, LINK, address(1), now), Belief::Nothing, "it was asked for");
        assert_eq!(browser.heard(&pointer, LINK, address(1), now + ASK_ABOUT_AGAIN), Belief::Ask);
        let place = Claim { described: false, ..whole(1, &[]) };
        browser.heard(&place, LINK, address(1), now);
        let rest = Claim { port: None, ..whole(1, &[address(1)]) };
        assert!(matches!(browser.heard(&rest, LINK, address(1), now), Belief::Here { port: 7650, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_for_each_and_for_all() {
        let (mut browser, now) = (Browser::new(), Instant::now());
        let believed = |browser: &mut Browser, number: u64, from: IpAddr| {
            matches!(browser.heard(&whole(number, &[from]), LINK, from, now), Belief::Here { .. })
        };
        let one = (0..200).filter(|number| believed(&mut browser, *number, address(1))).count();
        assert_eq!(one, PER_SENDER);
        for number in 0..1000_u32 {
            assert!(believed(&mut browser, 1000 + u64::from(number), address(2 + number)));
        }
        assert_eq!(browser.heard.len(), KNOWN);
        assert!(believed(&mut browser, 9999, address(9999)), "a newcomer after all that");
    }
}

//! When to say who we are: on which interface, how soon, and how often. Decides only; `mod.rs` sends.
//!
//! An announcement, an answer to everybody and the answer to a particular question are the same message, so what is asked many
//! times is answered once.

use super::message::Asked;
use crate::resilience::TokenBucket;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// The port of mDNS programs; who asks from another one is none.
pub(super) const PORT: u16 = 5353;
/// The pauses between the first announcements on an interface; the first comes at once (RFC 6762 section 8.3).
const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// How long an answer waits at least, for others' questions and so that not all machines answer at the same moment.
const ANSWER_DELAY: Duration = Duration::from_millis(20);
/// By how much more it may wait, at random.
const ANSWER_SPREAD: Duration = Duration::from_millis(100);
/// How much longer it waits when the asker has more to say about what it knows.
const MORE_TO_COME: Duration = Duration::from_millis(400);
/// The least time between two messages to everybody on one interface.
const REPEAT_MIN: Duration = Duration::from_secs(1);
/// How many answers go to single askers in a second, on all interfaces: each may be sent to where nobody asked.
const SINGLE_PER_SECOND: u32 = 50;
/// After this long without a message to everybody, one who asks for an answer alone is answered before everybody.
const FRESH: Duration = Duration::from_secs(TTL_QUARTER);
/// A quarter of the shortest lifetime that we announce, in seconds (RFC 6762 section 5.4).
const TTL_QUARTER: u64 = 30;

/// What is due on each interface.
pub(super) struct Responder {
    links: HashMap<u32, Speech>,
    single: TokenBucket,
}

#[derive(Debug)]
struct Speech {
    due: Option<Instant>,
    /// When it was last said to everybody.
    said: Option<Instant>,
    /// How many of the first announcements were made.
    announced: usize,
    /// Whether someone asked which types there are.
    types: bool,
}

/// To one asker, now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Single {
    /// It is an mDNS program.
    Asker,
    /// It is none.
    Stranger,
}

impl Responder {
    pub(super) fn new() -> Self {
        Self { links: HashMap::new(), single: TokenBucket::new(SINGLE_PER_SECOND) }
    }

    /// An interface is new, or has other addresses: announce there.
    pub(super) fn link_up(&mut self, link: u32, now: Instant) {
        self.links.insert(link, Speech { due: Some(now), said: None, announced: 0, types: false });
    }

    pub(super) fn link_down(&mut self, link: u32) {
        self.links.remove(&link);
    }

    /// Somebody asks; gives whether to answer at once, and to nobody else.
    pub(super) fn asked(&mut self, link: u32, asked: &Asked, from: u16, now: Instant) -> Option<Single> {
        let speech = self.links.get_mut(&link)?;
        if from != PORT {
            return self.single.permits().then_some(Single::Stranger);
        }
        if asked.known && !asked.types {
            return None;
        }
        let fresh = speech.said.is_some_and(|said| now < said + FRESH);
        if asked.unicast && fresh {
            return self.single.permits().then_some(Single::Asker);
        }
        let wait = ANSWER_DELAY + random(ANSWER_SPREAD) + if asked.truncated { MORE_TO_COME } else { Duration::ZERO };
        let earliest = speech.said.map_or(now, |said| said + REPEAT_MIN);
        let due = (now + wait).max(earliest);
        speech.due = Some(speech.due.map_or(due, |other| other.min(due)));
        speech.types |= asked.types;
        None
    }

    /// Where to say it now, to everybody, and whether with the types of services.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(u32, bool)> {
        let mut due = Vec::new();
        for (link, speech) in &mut self.links {
            if speech.due.is_none_or(|at| at > now) {
                continue;
            }
            due.push((*link, std::mem::take(&mut speech.types)));
            speech.said = Some(now);
            speech.due = ANNOUNCE_AGAIN.get(speech.announced).map(|pause| now + *pause);
            speech.announced += 1;
        }
        due
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.links.values().filter_map(|speech| speech.due).min()
    }
}

/// Something between nothing and `most`.
pub(super) fn random(most: Duration) -> Duration {
    // Without randomness machines may keep step, which is no harm worth an error.
    most.mul_f64(getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u32 = 2;

    fn question() -> Asked {
        Asked { us: true, ..Asked::default() }
    }

    /// When everything that is due was said, in milliseconds after `start`, until nothing is left or `until`.
    fn said(responder: &mut Responder, start: Instant, until: Duration) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(next) = responder.next().filter(|next| *next <= start + until) {
            assert_eq!(responder.take_due(next).len(), 1);
            times.push((next - start).as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_interface_hears_of_us_three_times() {
        let (mut responder, start) = (Responder::new(), Instant::now());
        responder.link_up(LINK, start);
        assert_eq!(said(&mut responder, start, Duration::from_secs(3600)), [0, 1000, 3000]);
        responder.link_down(LINK);
        assert!(responder.asked(LINK, &question(), PORT, start).is_none() && responder.next().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn many_questions_are_one_answer_within_120_ms() {
        let (mut responder, start) = (Responder::new(), Instant::now());
        responder.link_up(LINK, start);
        said(&mut responder, start, Duration::from_secs(10));
        let later = start + Duration::from_secs(60);
        for n in 0..1000 {
            assert_eq!(responder.asked(LINK, &question(), PORT, later + Duration::from_micros(n)), None);
        }
        let [at] = said(&mut responder, later, Duration::from_secs(60))[..] else { panic!("once") };
        assert!((20..=120).contains(&at), "{at}");
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_is_asked_we_speak_once_a_second() {
        let (mut responder, start) = (Responder::new(), Instant::now());
        responder.link_up(LINK, start);
        let mut times = Vec::new();
        for n in 0..10_000_u64 {
            let now = start + Duration::from_millis(n);
            times.extend(responder.take_due(now).iter().map(|_| n));
            responder.asked(LINK, &question(), PORT, now);
        }
        assert!((9..=12).contains(&times.len()), "{times:?}");
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_knows_us_gets_no_answer_and_who_wants_it_alone_gets_it_alone() {
        let (mut responder, start) = (Responder::new(), Instant::now());
        responder.link_up(LINK, start);
        said(&mut responder, start, Duration::from_secs(10));
        let knows = Asked { known: true, ..question() };
        assert_eq!(responder.asked(LINK, &knows, PORT, start), None);
        assert_eq!(responder.next(), None);
        let alone = Asked { unicast: true, ..question() };
        assert_eq!(responder.asked(LINK, &alone, PORT, start + Duration::from_secs(5)), Some(Single::Asker));
        assert_eq!(responder.next(), None);
        // Others may have forgotten us by now.
        assert_eq!(responder.asked(LINK, &alone, PORT, start + Duration::from_secs(60)), None);
        assert!(responder.next().is_some());
        assert_eq!(responder.asked(LINK, &question(), 40_000, start), Some(Single::Stranger));
    }

    #[tokio::test(start_paused = true)]
    async fn single_answers_are_rationed() {
        let (mut responder, start) = (Responder::new(), Instant::now());
        responder.link_up(LINK, start);
        let answers = (0..1000).filter(|_| responder.asked(LINK, &question(), 40_000, start).is_some()).count();
        assert_eq!(answers, SINGLE_PER_SECOND as usize);
    }
}

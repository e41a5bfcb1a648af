//! Who speaks for a site: a lease that NATS keeps, as seen by one machine that would take it. A decision without any input or output.
//!
//! The lease is a key of a bucket in which nothing gets older than [`LIFE`]. Whoever creates the key has it, and puts it anew every
//! [`RENEWAL`]. How long it is held is reckoned from the moment at which the request was *sent* that was granted, so that no machine takes
//! itself for the gateway any longer than the server does.

use std::time::Duration;
use tokio::time::Instant;

/// How old the key of a lease gets.
pub(super) const LIFE: Duration = Duration::from_secs(3);
/// How often it is put anew.
const RENEWAL: Duration = Duration::from_millis(800);
/// So much earlier than the server a machine gives its lease up: clocks run differently.
const MARGIN: Duration = Duration::from_millis(300);
/// How often a machine tries to take it that is among the first who would; together with [`LIFE`] it bounds how long a site is silent.
const TRY: Duration = Duration::from_millis(1500);
/// So many are among the first. The others try the less often the further behind they are.
const FIRST: usize = 4;
/// But so often at least.
const TRY_MOST: Duration = Duration::from_secs(15);

/// What to do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Create the key.
    Take,
    /// Put it anew, if this is still its revision.
    Renew(u64),
}

/// The lease of a site, as one machine sees it.
#[derive(Debug)]
pub(super) struct Lease {
    held: Option<Held>,
    /// When to do something about it.
    next: Instant,
    /// How many others come first.
    place: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    revision: u64,
    since: Instant,
}

impl Lease {
    pub(super) const fn new(now: Instant) -> Self {
        Self { held: None, next: now, place: 0 }
    }

    /// So many others come first as long as they are there.
    pub(super) const fn place(&mut self, place: usize) {
        self.place = place;
    }

    /// When to do something about it.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// What is to be done, once its time has come.
    pub(super) fn step(&self, now: Instant) -> Step {
        match self.held {
            Some(held) if self.holds(now) => Step::Renew(held.revision),
            _ => Step::Take,
        }
    }

    /// Whether this machine speaks for its site.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.ends().is_some_and(|end| now < end)
    }

    /// Until when it does, unless the lease is put anew.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.held.map(|held| held.since + LIFE.saturating_sub(MARGIN))
    }

    /// What was asked for at `sent` was granted.
    pub(super) fn granted(&mut self, revision: u64, sent: Instant) {
        self.held = Some(Held { revision, since: sent });
        self.next = sent + RENEWAL;
    }

    /// Somebody else has it.
    pub(super) fn refused(&mut self, now: Instant) {
        self.held = None;
        let behind = u32::try_from(self.place / FIRST).unwrap_or(u32::MAX);
        self.next = now + TRY.saturating_mul(behind.saturating_add(1)).min(TRY_MOST);
    }

    /// There was no answer: what is held is held until its time is over.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.next = now + RENEWAL / 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whoever_is_there_takes_over_within_five_seconds() {
        let now = Instant::now();
        let mut lease = Lease::new(now);
        lease.refused(now);
        assert!(LIFE + (lease.next() - now) < Duration::from_secs(5));
        lease.place(1000);
        lease.refused(now);
        assert_eq!(lease.next(), now + TRY_MOST, "one that is far behind leaves the server alone");
    }

    /// What becomes of a request to the server, in milliseconds: how long it takes there, and the answer back.
    #[derive(Debug, Clone, Copy)]
    struct Way {
        there: u64,
        back: u64,
        lost: bool,
    }

    fn way() -> impl Strategy<Value = Way> {
        (0..900u64, 0..900u64, prop::bool::weighted(0.2)).prop_map(|(there, back, lost)| Way { there, back, lost })
    }

    /// A server that keeps one key for [`LIFE`].
    #[derive(Default)]
    struct Server {
        key: Option<(u64, Instant)>,
        revision: u64,
    }

    impl Server {
        fn asked(&mut self, step: Step, now: Instant) -> Option<u64> {
            self.key = self.key.filter(|(_, put)| now < *put + LIFE);
            let grants = match (step, self.key) {
                (Step::Take, key) => key.is_none(),
                (Step::Renew(known), key) => key.is_some_and(|(revision, _)| revision == known),
            };
            grants.then(|| {
                self.revision += 1;
                self.key = Some((self.revision, now));
                self.revision
            })
        }
    }

    proptest! {
        /// Whatever is lost or late: never do two machines speak for one site.
        #[test]
        fn there_are_never_two(ways in proptest::collection::vec((0..3usize, way()), 1..80)) {
            let begin = Instant::now();
            let ms = Duration::from_millis;
            let mut server = Server::default();
            let mut leases = [0; 3].map(|_| Lease::new(begin));
            let mut now = begin;
            for (who, way) in ways {
                now = now.max(leases[who].next());
                let (step, sent) = (leases[who].step(now), now);
                let granted = server.asked(step, sent + ms(way.there));
                now = sent + ms(way.there + way.back);
                match granted {
                    _ if way.lost => leases[who].unanswered(now),
                    Some(revision) => leases[who].granted(revision, sent),
                    None => leases[who].refused(now),
                }
                for later in 0..40 {
                    let then = now + ms(100 * later);
                    prop_assert!(leases.iter().filter(|lease| lease.holds(then)).count() <= 1);
                }
            }
        }
    }
}

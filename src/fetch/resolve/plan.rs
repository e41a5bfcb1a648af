//! Whom to ask for a path, and when: a decision without any input or output.
//!
//! All upstreams are asked at once, the peers in waves, the best first. A wave begins when the one before has had its moment,
//! or has said no to the last peer. A peer's "yes" ends the lookup, which is why it is not known here; an upstream's waits a
//! moment for a peer's, because a peer is nearer.

use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// How many peers are asked at once; the rest follow in waves if nobody has answered.
const WAVE: usize = 16;
/// How many peers are asked for one path at most: a network of thousands must not make each miss thousands of questions.
pub(crate) const PEERS_MAX: usize = 4 * WAVE;
/// How long a wave has before the next one starts beside it.
const HEDGE: Duration = Duration::from_millis(25);
/// How long an upstream's answer waits for a peer's: a LAN round trip with some slack.
const GRACE: Duration = Duration::from_millis(30);

/// How the peers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In waves: one who has it is enough.
    Waves,
    /// At once: everybody who has it is wanted.
    AtOnce,
}

/// The plan of one lookup. Peers are named by their rank.
#[derive(Debug)]
pub(crate) struct Plan {
    mode: Mode,
    peers: usize,
    asked: usize,
    /// Peers that were asked and have not answered.
    open: usize,
    next_wave: Instant,
    deadline: Instant,
    /// An upstream has it.
    has_upstream: bool,
}

impl Plan {
    /// A plan for so many peers, which takes `budget` at most.
    pub(crate) fn new(mode: Mode, peers: usize, budget: Duration, now: Instant) -> Self {
        let peers = peers.min(PEERS_MAX);
        Self { mode, peers, asked: 0, open: 0, next_wave: now, deadline: now + budget, has_upstream: false }
    }

    /// The peers to ask now.
    pub(crate) fn due(&mut self, now: Instant) -> Range<usize> {
        let is_due = now >= self.next_wave || self.open == 0;
        let wave = match self.mode {
            Mode::AtOnce => self.peers,
            Mode::Waves if is_due => WAVE,
            Mode::Waves => 0,
        };
        let first = self.asked;
        self.asked = (first + wave).min(self.peers);
        self.open += self.asked - first;
        if self.asked > first {
            self.next_wave = now + HEDGE;
        }
        first..self.asked
    }

    /// A peer has answered, whatever it said.
    pub(crate) fn peer_answered(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// An upstream has it: peers get a moment yet.
    pub(crate) fn upstream_has_it(&mut self, now: Instant) {
        self.deadline = self.deadline.min(now + GRACE);
        self.has_upstream = true;
    }

    /// When to look again, should nobody answer before; everything is over then, or somebody is to be asked.
    pub(crate) fn wake(&self) -> Instant {
        if self.asked < self.peers { self.deadline.min(self.next_wave) } else { self.deadline }
    }

    /// Whether there is nothing left to wait for, although somebody has not answered.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || (self.has_upstream && self.open == 0 && self.asked == self.peers)
    }

    /// Whether all peers were asked that the plan is for.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.asked == self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(300);

    fn plan(mode: Mode, peers: usize) -> (Plan, Instant) {
        let now = Instant::now();
        (Plan::new(mode, peers, BUDGET, now), now)
    }

    #[test]
    fn a_wave_gives_the_one_before_its_moment() {
        let (mut plan, now) = plan(Mode::Waves, 40);
        assert_eq!(plan.due(now), 0..16);
        assert_eq!(plan.due(now), 16..16);
        assert_eq!(plan.wake(), now + HEDGE);
        assert_eq!(plan.due(now + HEDGE), 16..32);
        assert_eq!(plan.due(now + 2 * HEDGE), 32..40);
        assert_eq!((plan.wake(), plan.is_exhausted()), (now + BUDGET, true));
    }

    #[test]
    fn a_wave_that_said_no_is_followed_at_once() {
        let (mut plan, now) = plan(Mode::Waves, 40);
        plan.due(now);
        (0..15).for_each(|_| plan.peer_answered());
        assert!(plan.due(now).is_empty(), "one has not answered");
        plan.peer_answered();
        assert_eq!(plan.due(now), 16..32);
    }

    #[test]
    fn nobody_asks_thousands() {
        let (mut plan, now) = plan(Mode::AtOnce, 10_000);
        assert_eq!(plan.due(now), 0..PEERS_MAX);
        assert!(plan.is_exhausted() && plan.due(now + BUDGET).is_empty());
    }

    #[test]
    fn an_upstreams_answer_waits_a_moment_for_a_peers() {
        let (mut alone, now) = plan(Mode::Waves, 0);
        alone.upstream_has_it(now);
        assert!(alone.is_over(now), "there is no peer");
        let (mut plan, now) = plan(Mode::Waves, 1);
        plan.due(now);
        plan.upstream_has_it(now);
        assert!(!plan.is_over(now) && plan.is_over(now + GRACE));
        plan.peer_answered();
        assert!(plan.is_over(now), "no peer is left");
        plan.upstream_has_it(now + BUDGET);
        assert_eq!(plan.wake(), now + GRACE, "a second one makes it no longer");
    }

    #[test]
    fn the_budget_is_the_end() {
        let (mut plan, now) = plan(Mode::Waves, 100);
        plan.due(now);
        assert!(!plan.is_over(now + BUDGET - Duration::from_millis(1)) && plan.is_over(now + BUDGET));
    }
}

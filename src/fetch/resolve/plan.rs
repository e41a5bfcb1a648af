//! Whom to ask for a path, and how long to wait for whom: a decision without any input or output.
//!
//! All upstreams of a tier are asked at once, those of the next one when all of them said no, or one is silent for longer than a moment:
//! what is not asked makes no lookup shorter, and nobody is absent before the last tier is heard. The peers are asked in waves, the best first. A wave begins when the one before has had its moment,
//! or has said no to the last peer. Each wave is larger than the one before, so that hundreds are asked within the budget; how many
//! peers there are is no reason to say that nobody has a path.
//!
//! Three times bound the wait. Peers are near, and one that does not answer within the budget is not worth it, unless it is said to have the
//! path: then a packet that was lost on a full line is no reason to say that nobody has it. An upstream is far away
//! and need not be in trouble when it takes longer; but "not here" is kept by Nix for an hour. So as long as nobody has said yes, an
//! upstream that works is waited for, up to [`UPSTREAM_LIMIT`]. One in doubt has the time that peers have.
//!
//! A peer's "yes" ends the lookup, which is why it is not known here; an upstream's waits a moment for a peer's, because a peer is
//! nearer.

use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// How many peers are asked at once, in the first wave; each next one has twice as many.
const WAVE: usize = 16;
/// How many a wave has at most: what a lookup may have open grows with time and not with the network.
const WAVE_MAX: usize = 128;
/// How much longer than usual, in tenths, an answer takes one time in ten, where that is by chance (the 90th percentile of an exponential
/// distribution).
const TENTH: u32 = 23;
/// The least that a peer is waited for which is said to have it.
const HEDGE_MIN: Duration = Duration::from_millis(2);
/// How long a wave has before the next one starts beside it.
const HEDGE: Duration = Duration::from_millis(25);
/// How long an upstream's answer waits for a peer's: a LAN round trip with some slack.
const GRACE: Duration = Duration::from_millis(30);
/// How long a peer is waited for that is said to have it, while nobody says yes: a lost packet is sent again after 200 ms, and after 400 more.
const HOLDER_LIMIT: Duration = Duration::from_millis(700);
/// How long a tier of upstreams has before the next one is asked beside it: longer than an upstream usually takes, so that the order is
/// kept; so short that one which is gone does not cost much.
const TIER_PATIENCE: Duration = Duration::from_secs(1);
/// How long an upstream that works is waited for: long enough for a connection that has to be made anew after a packet was lost, or for
/// three more attempts; far below the patience of Nix, which waits 300 s. One that never answers costs that once.
pub(crate) const UPSTREAM_LIMIT: Duration = Duration::from_secs(8);

/// Whose answer is waited for, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    /// A peer: within the budget.
    Peer,
    /// A peer that is said to have it: up to [`HOLDER_LIMIT`].
    Holder,
    /// An upstream that works, or whose answer was promised: up to [`UPSTREAM_LIMIT`].
    Upstream,
    /// An upstream that did not answer of late: within the budget of peers.
    Doubtful,
}

/// The plan of one lookup. Peers are named by their place, the best first.
#[derive(Debug)]
pub(crate) struct Plan {
    peers: usize,
    /// So many of the first are said to have it.
    holders: usize,
    asked: usize,
    /// How many peers the next wave has.
    wave: usize,
    /// How long each wave has before the next one begins.
    hedge: Duration,
    next_wave: Instant,
    /// Who was asked and has not answered: peers, those of them that are said to have it, upstreams, upstreams in doubt.
    open: [usize; 4],
    /// How many tiers of upstreams were not asked yet.
    tiers: usize,
    next_tier: Instant,
    /// Until when upstreams in doubt are waited for: as long as peers, since the last tier was asked.
    doubt: Instant,
    /// Until when peers are waited for.
    budget: Instant,
    /// Until when those are that are said to have it.
    holders_limit: Instant,
    /// Until when upstreams are.
    limit: Instant,
    /// An upstream has it.
    has_upstream: bool,
}

impl Plan {
    /// A plan for so many peers, which are waited for as long as `budget`.
    pub(crate) fn new(peers: usize, budget: Duration, now: Instant) -> Self {
        let limit = now + budget.max(UPSTREAM_LIMIT);
        Self {
            peers,
            holders: 0,
            asked: 0,
            wave: WAVE,
            hedge: HEDGE,
            next_wave: now,
            open: [0; 4],
            tiers: 0,
            next_tier: now + TIER_PATIENCE,
            doubt: now + budget,
            budget: now + budget,
            holders_limit: now + budget.max(HOLDER_LIMIT),
            limit,
            has_upstream: false,
        }
    }

    /// An upstream of the tier that was due is asked.
    pub(crate) const fn asks(&mut self, upstream: Rank) {
        self.open[upstream as usize] += 1;
    }

    /// The same where so many of the first peers are said to have it, and worth waiting for.
    pub(crate) const fn and_holders(mut self, holders: usize) -> Self {
        self.holders = holders;
        self
    }

    /// The same where all are said to have it, of whom the very first usually answers within `latency`: one is asked, and the next ones when
    /// it takes longer than nine times in ten.
    pub(crate) fn and_no_others(mut self, latency: Option<Duration>) -> Self {
        self.wave = 1;
        self.hedge = latency.map_or(HEDGE, |latency| (latency * TENTH / 10).clamp(HEDGE_MIN, HEDGE));
        self
    }

    /// So many tiers of upstreams are there to ask.
    pub(crate) const fn and_tiers(mut self, tiers: usize) -> Self {
        self.tiers = tiers;
        self
    }

    /// All tiers are asked now.
    pub(crate) const fn ask_all_tiers(&mut self) {
        self.tiers = 0;
    }

    /// Whether the next tier of upstreams is to be asked now; `budget` is the time that those of them have which are in doubt.
    pub(crate) fn tier_is_due(&mut self, budget: Duration, now: Instant) -> bool {
        let [_, _, upstreams, doubtful] = self.open;
        let said_no = upstreams == 0 && (doubtful == 0 || now >= self.doubt);
        let is_due = self.tiers > 0 && !self.has_upstream && (said_no || now >= self.next_tier);
        if is_due {
            self.tiers -= 1;
            (self.next_tier, self.doubt) = (now + TIER_PATIENCE, now + budget);
        }
        is_due
    }

    /// The peers to ask now.
    pub(crate) fn due(&mut self, now: Instant) -> Range<usize> {
        let first = self.asked;
        if now >= self.next_wave || self.open[Rank::Peer as usize] + self.open[Rank::Holder as usize] == 0 {
            self.asked = (first + self.wave).min(self.peers);
        }
        if self.asked > first {
            let holders = self.asked.min(self.holders) - first.min(self.holders);
            self.open[Rank::Holder as usize] += holders;
            self.open[Rank::Peer as usize] += self.asked - first - holders;
            self.wave = (2 * self.wave).min(WAVE_MAX);
            self.next_wave = now + self.hedge;
        }
        first..self.asked
    }

    /// As what the peer at this place is waited for.
    pub(crate) const fn rank_of(&self, place: usize) -> Rank {
        if place < self.holders { Rank::Holder } else { Rank::Peer }
    }

    /// One of these has answered, whatever it said.
    pub(crate) const fn answered(&mut self, rank: Rank) {
        let open = &mut self.open[rank as usize];
        *open = open.saturating_sub(1);
    }

    /// An upstream has it: peers get a moment yet, and nobody else is waited for.
    pub(crate) fn upstream_has_it(&mut self, now: Instant) {
        self.budget = self.budget.min(now + GRACE);
        self.holders_limit = self.budget;
        self.has_upstream = true;
    }

    /// Somebody has it, and whoever else does is wanted as well: but nobody is waited for longer than for peers.
    pub(crate) fn somebody_has_it(&mut self) {
        self.limit = self.budget;
        self.holders_limit = self.budget;
    }

    /// When to look again, should nobody answer before; everything is over then, or somebody is to be asked.
    pub(crate) fn wake(&self, now: Instant) -> Instant {
        let doubt = if self.open[Rank::Doubtful as usize] == 0 { self.budget } else { self.doubt };
        let holders = if self.open[Rank::Holder as usize] == 0 { self.budget } else { self.holders_limit };
        let tier = if self.tiers == 0 { self.limit } else { self.next_tier };
        let ends = if self.has_upstream { [self.budget; 5] } else { [self.budget, holders, doubt, tier, self.limit] };
        let end = ends.into_iter().filter(|end| *end > now).min().unwrap_or(self.limit);
        if self.is_exhausted() { end } else { end.min(self.next_wave) }
    }

    /// Whether there is nothing left to wait for, although somebody may not have answered.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let [peers, holders, upstreams, doubtful] = self.open;
        let no_more_holders = holders == 0 || now >= self.holders_limit;
        let no_more_peers = no_more_holders && (now >= self.budget || (self.is_exhausted() && peers == 0));
        if self.has_upstream {
            return no_more_peers;
        }
        let no_more_doubt = doubtful == 0 || now >= self.doubt;
        no_more_peers && no_more_doubt && ((upstreams == 0 && self.tiers == 0) || now >= self.limit)
    }

    /// Whether all peers were asked.
    const fn is_exhausted(&self) -> bool {
        self.asked == self.peers
    }

    /// Whether everybody was asked.
    pub(crate) const fn asked_everybody(&self) -> bool {
        self.is_exhausted() && self.tiers == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BUDGET: Duration = Duration::from_millis(300);
    const MS: Duration = Duration::from_millis(1);

    fn plan(peers: usize, upstreams: &[Rank]) -> (Plan, Instant) {
        let now = Instant::now();
        let mut plan = Plan::new(peers, BUDGET, now);
        upstreams.iter().for_each(|upstream| plan.asks(*upstream));
        (plan, now)
    }

    #[test]
    fn a_wave_gives_the_one_before_its_moment_and_is_larger() {
        let (mut plan, now) = plan(60, &[]);
        assert_eq!(plan.due(now), 0..16);
        assert_eq!(plan.due(now), 16..16);
        assert_eq!(plan.wake(now), now + HEDGE);
        assert_eq!(plan.due(now + HEDGE), 16..48);
        assert_eq!(plan.due(now + 2 * HEDGE), 48..60);
        assert_eq!((plan.wake(now), plan.is_exhausted()), (now + BUDGET, true));
    }

    #[test]
    fn of_those_who_are_said_to_have_it_one_is_asked() {
        let now = Instant::now();
        let mut plan = Plan::new(20, BUDGET, now).and_holders(20).and_no_others(Some(MS * 4));
        assert_eq!(plan.due(now), 0..1);
        assert_eq!(plan.wake(now), now + MS * 92 / 10);
        plan.answered(Rank::Holder);
        assert_eq!(plan.due(now), 1..3, "it did not have it after all");
        assert_eq!((plan.due(now + MS), plan.due(now + HEDGE)), (3..3, 3..7));
        let waits = |latency| Plan::new(2, BUDGET, now).and_no_others(latency).hedge;
        assert_eq!([None, Some(MS / 10), Some(HEDGE)].map(waits), [HEDGE, HEDGE_MIN, HEDGE]);
    }

    #[test]
    fn whoever_is_said_to_have_it_may_lose_a_packet() {
        let now = Instant::now();
        let start = || {
            let mut plan = Plan::new(3, BUDGET, now).and_holders(1);
            plan.due(now);
            plan
        };
        assert_eq!([0, 1, 2].map(|place| start().rank_of(place)), [Rank::Holder, Rank::Peer, Rank::Peer]);
        let mut plan = start();
        assert!(!plan.is_over(now + BUDGET), "it may have it yet");
        assert_eq!(plan.wake(now + BUDGET), now + HOLDER_LIMIT);
        assert!(plan.is_over(now + HOLDER_LIMIT));
        plan.answered(Rank::Holder);
        assert!(!plan.is_over(now) && plan.is_over(now + BUDGET), "the others have their time");
        let mut plan = start();
        plan.somebody_has_it();
        assert!(plan.is_over(now + BUDGET));
        let mut plan = start();
        plan.upstream_has_it(now);
        assert!(plan.is_over(now + GRACE));
    }

    #[test]
    fn a_wave_that_said_no_is_followed_at_once() {
        let (mut plan, now) = plan(40, &[]);
        plan.due(now);
        (0..15).for_each(|_| plan.answered(Rank::Peer));
        assert!(plan.due(now).is_empty(), "one has not answered");
        plan.answered(Rank::Peer);
        assert_eq!(plan.due(now), 16..40);
    }

    #[test]
    fn a_thousand_who_are_silent_are_all_asked_within_the_budget() {
        let (mut plan, now) = plan(1000, &[]);
        let asked = (0..12).map(|wave| plan.due(now + wave * HEDGE).len()).collect::<Vec<_>>();
        assert_eq!(asked[..5], [16, 32, 64, 128, 128], "a wave has a bound");
        assert!(plan.asked_everybody() && 11 * HEDGE < BUDGET);
    }

    #[test]
    fn an_upstreams_answer_waits_a_moment_for_a_peers() {
        let (mut alone, now) = plan(0, &[Rank::Upstream; 2]);
        alone.upstream_has_it(now);
        assert!(alone.is_over(now), "there is no peer, and another upstream is not waited for");
        let (mut plan, now) = plan(1, &[Rank::Upstream; 2]);
        plan.due(now);
        plan.upstream_has_it(now);
        assert!(!plan.is_over(now) && plan.is_over(now + GRACE));
        plan.answered(Rank::Peer);
        assert!(plan.is_over(now), "no peer is left");
        plan.upstream_has_it(now + BUDGET);
        assert_eq!(plan.wake(now), now + GRACE, "a second one makes it no longer");
    }

    #[test]
    fn an_upstream_that_works_is_waited_for_and_one_in_doubt_is_not() {
        let (mut both, now) = plan(1, &[Rank::Upstream, Rank::Doubtful]);
        both.due(now);
        assert!(!both.is_over(now + BUDGET) && !both.is_over(now + UPSTREAM_LIMIT - MS));
        assert_eq!((both.wake(now), both.wake(now + BUDGET)), (now + BUDGET, now + UPSTREAM_LIMIT));
        assert!(both.is_over(now + UPSTREAM_LIMIT));
        both.answered(Rank::Upstream);
        assert!(!both.is_over(now + BUDGET - MS) && both.is_over(now + BUDGET));
    }

    #[test]
    fn a_tier_follows_when_the_one_before_said_no_or_had_its_moment() {
        let tiers = |first: &[Rank]| {
            let (plan, now) = plan(0, first);
            (plan.and_tiers(1), now)
        };
        let (mut plan, now) = tiers(&[Rank::Upstream; 2]);
        plan.answered(Rank::Upstream);
        assert!(!plan.tier_is_due(BUDGET, now + BUDGET), "one has not answered");
        assert_eq!(plan.wake(now + BUDGET), now + TIER_PATIENCE);
        assert!(plan.tier_is_due(BUDGET, now + TIER_PATIENCE) && plan.asked_everybody());
        assert!(!plan.tier_is_due(BUDGET, now + TIER_PATIENCE), "there is no other");
        let (mut plan, now) = tiers(&[Rank::Upstream]);
        plan.answered(Rank::Upstream);
        assert!(!plan.is_over(now + BUDGET) && !plan.asked_everybody(), "the next tier may have it");
        assert!(plan.tier_is_due(BUDGET, now));
        let (mut plan, now) = tiers(&[]);
        assert!(plan.tier_is_due(BUDGET, now), "all of the first are left alone");
        let (mut plan, now) = tiers(&[Rank::Upstream; 2]);
        plan.upstream_has_it(now);
        assert!(!plan.tier_is_due(BUDGET, now + TIER_PATIENCE) && plan.is_over(now + GRACE));
    }

    #[test]
    fn one_in_doubt_has_its_time_in_a_later_tier_as_well() {
        let (plan, now) = plan(0, &[Rank::Doubtful]);
        let mut plan = plan.and_tiers(1);
        assert!(!plan.tier_is_due(BUDGET, now + BUDGET - MS) && plan.wake(now) == now + BUDGET);
        assert!(plan.tier_is_due(BUDGET, now + BUDGET));
        plan.asks(Rank::Doubtful);
        assert!(!plan.is_over(now + 2 * BUDGET - MS) && plan.is_over(now + 2 * BUDGET));
        assert_eq!(plan.wake(now + BUDGET), now + 2 * BUDGET);
    }

    #[test]
    fn who_has_it_besides_is_not_worth_waiting_for_an_upstream() {
        let (mut plan, now) = plan(0, &[Rank::Upstream]);
        plan.somebody_has_it();
        assert!(!plan.is_over(now + BUDGET - MS) && plan.is_over(now + BUDGET));
    }

    /// Somebody who is asked: an upstream, or a peer by its place; when the answer comes, in milliseconds, if ever.
    #[derive(Debug, Clone, Copy)]
    struct Somebody {
        rank: Rank,
        answers: Option<u64>,
    }

    fn somebody(ranks: &'static [Rank]) -> impl Strategy<Value = Somebody> {
        let answers = prop_oneof![Just(None), (0..40u64).prop_map(Some), (0..12_000u64).prop_map(Some)];
        (proptest::sample::select(ranks), answers).prop_map(|(rank, answers)| Somebody { rank, answers })
    }

    proptest! {
        #[test]
        fn nobody_is_absent_while_somebody_who_works_has_not_answered(
            peers in proptest::collection::vec(somebody(&[Rank::Peer]), 0..200),
            upstreams in proptest::collection::vec(somebody(&[Rank::Upstream, Rank::Doubtful]), 0..4),
        ) {
            let start = Instant::now();
            let mut plan = Plan::new(peers.len(), BUDGET, start);
            let mut now = start;
            // Who was asked and has not answered, with the time at which the answer comes: all of them are a no.
            let mut open: Vec<(Rank, Option<Instant>)> = Vec::new();
            let at = |somebody: &Somebody| (somebody.rank, somebody.answers.map(|ms| start + MS * u32::try_from(ms).unwrap()));
            for upstream in &upstreams {
                plan.asks(upstream.rank);
                open.push(at(upstream));
            }
            loop {
                for place in plan.due(now) {
                    let (rank, answer) = at(&peers[place]);
                    open.push((rank, answer.map(|answer| answer.max(now))));
                }
                if plan.is_over(now) {
                    break;
                }
                let wake = plan.wake(now);
                prop_assert!(wake > now, "it would spin");
                let next = open.iter().filter_map(|(_, answer)| *answer).min();
                now = next.map_or(wake, |next| next.min(wake)).max(now);
                if let Some(place) = open.iter().position(|(_, answer)| answer.is_some_and(|answer| answer <= now)) {
                    plan.answered(open.swap_remove(place).0);
                }
            }
            let works = open.iter().filter(|(rank, _)| *rank == Rank::Upstream).count();
            prop_assert!(works == 0 || now >= start + UPSTREAM_LIMIT, "an upstream that works was not waited for");
            let near = open.len() - works;
            prop_assert!(near == 0 || now >= start + BUDGET, "the budget was not used");
            prop_assert!(plan.is_exhausted() || now >= start + BUDGET, "somebody was not asked");
            prop_assert!(now <= start + UPSTREAM_LIMIT, "it took {:?}", now - start);
            prop_assert!(now <= start + BUDGET || upstreams.iter().any(|upstream| upstream.rank == Rank::Upstream));
        }
    }
}

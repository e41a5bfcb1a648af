//! Whose turn it is on a line that carries so many bytes a second: each flow gets as much as any other, however many streams it has.
//!
//! Pure: it is told what time it is. A stream that has a piece to send takes a ticket and sends when [`FairQueue::next`] names it. Flows take
//! turns, and within a flow its streams do. A flow may have a limit of its own; while it has to wait for that, the others go on.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// How much of the line may be used at once after a pause, as time at the limit.
const BURST: Duration = Duration::from_millis(100);
/// From so many flows on it is looked for those that are over.
const FLOWS_KEPT: usize = 256;

/// How many bytes a second; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of all flows together.
    pub all: u64,
    /// Of each.
    pub each: u64,
}

/// The line, and who waits for it.
#[derive(Debug)]
pub struct FairQueue<K> {
    rates: Rates,
    /// Up to when the line is taken.
    free: Instant,
    /// Those that have somebody waiting, whose turn it is next first.
    order: VecDeque<K>,
    flows: HashMap<K, Flow>,
    last: u64,
}

#[derive(Debug)]
struct Flow {
    /// Up to when its own share of the line is taken.
    free: Instant,
    waiting: VecDeque<u64>,
    /// How many bytes it has sent in this turn, which others do not have to wait for as long as it is less than a turn is worth.
    sent: usize,
}

/// Until when a line is taken that is free at `free`, for `bytes` more from `now` on, at `rate` bytes a second (0: it is never taken).
#[must_use]
pub fn occupied(free: Instant, bytes: u64, rate: u64, now: Instant) -> Instant {
    if rate == 0 {
        return now;
    }
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
    let begin = free.max(now.checked_sub(BURST).unwrap_or(now));
    begin + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl<K: Eq + Hash + Copy> FairQueue<K> {
    /// A line that nobody uses yet.
    #[must_use]
    pub fn new(rates: Rates, now: Instant) -> Self {
        Self { rates, free: now, order: VecDeque::new(), flows: HashMap::new(), last: 0 }
    }

    /// How much it carries.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        self.rates
    }

    /// It carries this from now on; what was reserved is free again.
    pub fn set(&mut self, rates: Rates, now: Instant) {
        self.rates = rates;
        self.free = self.free.min(now);
        self.flows.values_mut().for_each(|flow| flow.free = flow.free.min(now));
    }

    /// A stream of `flow` waits for its turn, by the ticket that this gives.
    pub fn enter(&mut self, flow: K, now: Instant) -> u64 {
        if self.flows.len() >= FLOWS_KEPT {
            self.flows.retain(|_, flow| !flow.waiting.is_empty() || flow.free > now);
        }
        self.last += 1;
        let entry = self.flows.entry(flow).or_insert_with(|| Flow { free: now, waiting: VecDeque::new(), sent: 0 });
        if entry.waiting.is_empty() {
            // Whose turn is not over goes on with it: else one that sends little at a time would get little.
            match entry.sent {
                0 => self.order.push_back(flow),
                _ => self.order.push_front(flow),
            }
        }
        entry.waiting.push_back(self.last);
        self.last
    }

    /// It waits no more.
    pub fn leave(&mut self, flow: K, ticket: u64) {
        let Some(entry) = self.flows.get_mut(&flow) else { return };
        entry.waiting.retain(|waiting| *waiting != ticket);
        if entry.waiting.is_empty() {
            self.order.retain(|other| *other != flow);
        }
    }

    /// Whose turn is next, by its ticket, and from when on; `None` if nobody waits.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<(K, u64, Instant)> {
        let line = self.free.max(now);
        let flows = self.order.iter().filter_map(|key| Some((*key, self.flows.get(key)?)));
        // The first that need not wait for its own limit; where all have to, the one that has to for the shortest.
        let mut soonest: Option<(K, &Flow)> = None;
        for (key, flow) in flows {
            if flow.free <= line {
                soonest = Some((key, flow));
                break;
            }
            if soonest.is_none_or(|(_, other)| flow.free < other.free) {
                soonest = Some((key, flow));
            }
        }
        let (key, flow) = soonest?;
        Some((key, *flow.waiting.front()?, self.free.max(flow.free)))
    }

    /// How many flows have somebody waiting.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.order.len()
    }

    /// How many streams of a flow wait.
    #[must_use]
    pub fn streams(&self, flow: K) -> usize {
        self.flows.get(&flow).map_or(0, |flow| flow.waiting.len())
    }

    /// The stream whose turn it is sends so many bytes now; its flow is the last in line then, if that is all that a turn is worth, which are
    /// `turn` bytes.
    pub fn take(&mut self, flow: K, bytes: usize, turn: usize, now: Instant) {
        let Some(entry) = self.flows.get_mut(&flow) else { return };
        entry.waiting.pop_front();
        entry.free = occupied(entry.free, bytes as u64, self.rates.each, now);
        let (goes_on, sent) = (!entry.waiting.is_empty(), entry.sent.saturating_add(bytes));
        let is_over = sent >= turn;
        entry.sent = if is_over { 0 } else { sent };
        self.free = occupied(self.free, bytes as u64, self.rates.all, now);
        self.order.retain(|other| *other != flow);
        match (goes_on, is_over) {
            (true, true) => self.order.push_back(flow),
            (true, false) => self.order.push_front(flow),
            (false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What each flow has sent after so long, where each has so many streams that always have more to send.
    fn sent(rates: Rates, streams: &[usize], time: Duration, piece: usize) -> Vec<u64> {
        let start = Instant::now();
        let mut queue = FairQueue::new(rates, start);
        for (flow, count) in streams.iter().enumerate() {
            for _ in 0..*count {
                queue.enter(flow, start);
            }
        }
        let mut sent = vec![0; streams.len()];
        let mut now = start;
        while let Some((flow, _, at)) = queue.next(now) {
            now = now.max(at);
            if now > start + time {
                break;
            }
            queue.take(flow, piece, piece, now);
            sent[flow] += piece as u64;
            queue.enter(flow, now);
        }
        sent
    }

    #[test]
    fn a_flow_with_many_streams_gets_no_more_than_one_with_one() {
        let sent = sent(Rates { all: 1_000_000, each: 0 }, &[32, 1, 4], Duration::from_secs(30), 16 << 10);
        let all: u64 = sent.iter().sum();
        assert!((30_000_000..31_000_000).contains(&all), "{all}");
        assert!(sent.iter().max().unwrap() - sent.iter().min().unwrap() <= 16 << 10, "{sent:?}");
    }

    #[test]
    fn who_sends_little_at_a_time_gets_as_much() {
        let (start, turn) = (Instant::now(), 64 << 10);
        let mut queue = FairQueue::new(Rates { all: 1_000_000, each: 0 }, start);
        let pieces = [2 << 10, turn];
        (0..2).for_each(|flow| _ = queue.enter(flow, start));
        let (mut sent, mut now) = ([0; 2], start);
        while let Some((flow, _, at)) = queue.next(now) {
            now = now.max(at);
            if now > start + Duration::from_secs(30) {
                break;
            }
            queue.take(flow, pieces[flow], turn, now);
            sent[flow] += pieces[flow];
            queue.enter(flow, now);
        }
        assert!(sent[0].abs_diff(sent[1]) <= 2 * turn, "{sent:?}");
    }

    #[test]
    fn who_has_a_limit_of_its_own_keeps_nobody_waiting() {
        let both = sent(Rates { all: 1_000_000, each: 100_000 }, &[8, 1], Duration::from_secs(10), 4 << 10);
        assert!(both.iter().all(|sent| (1_000_000..1_050_000).contains(sent)), "{both:?}");
        let one = sent(Rates { all: 0, each: 100_000 }, &[3], Duration::from_secs(10), 4 << 10);
        assert!((1_000_000..1_050_000).contains(&one[0]), "{one:?}");
    }

    #[test]
    fn who_leaves_is_passed_over() {
        let now = Instant::now();
        let mut queue = FairQueue::new(Rates { all: 1000, each: 0 }, now);
        let (first, second) = (queue.enter("a", now), queue.enter("b", now));
        queue.leave("a", first);
        queue.leave("a", first);
        assert_eq!(queue.next(now).map(|(flow, ticket, _)| (flow, ticket)), Some(("b", second)));
        queue.leave("b", second);
        assert_eq!(queue.next(now), None);
        queue.take("nobody", 1, 1, now);
        // Another limit takes effect at once.
        queue.enter("a", now);
        queue.take("a", 10_000, 1, now);
        queue.enter("a", now);
        assert!(queue.next(now).unwrap().2 > now + Duration::from_secs(9));
        queue.set(Rates { all: 1_000_000, each: 0 }, now);
        assert!(queue.next(now).unwrap().2 <= now);
    }

    #[test]
    fn flows_that_are_over_are_forgotten() {
        let mut now = Instant::now();
        let mut queue = FairQueue::new(Rates { all: 0, each: 1_000_000 }, now);
        for flow in 0..10_000 {
            now += Duration::from_millis(10);
            queue.enter(flow, now);
            queue.take(flow, 1000, 1, now);
        }
        assert!(queue.flows.len() <= FLOWS_KEPT, "{}", queue.flows.len());
    }

    proptest! {
        /// However many streams flows have, and whatever their limits: none gets more than another that always waits, and no limit is
        /// exceeded by more than a burst and a piece.
        #[test]
        fn turns_are_fair(streams in proptest::collection::vec(1..20_usize, 1..6), all in 50_000..2_000_000_u64, each in 0..500_000_u64) {
            let each = if each < 50_000 { 0 } else { each };
            let (time, piece) = (Duration::from_secs(5), 4 << 10);
            let sent = sent(Rates { all, each }, &streams, time, piece);
            let (most, least) = (*sent.iter().max().unwrap(), *sent.iter().min().unwrap());
            prop_assert!(most - least <= 2 * piece as u64, "{:?}", sent);
            let slack = |rate: u64| rate * 51 / 10 + 2 * piece as u64;
            prop_assert!(sent.iter().sum::<u64>() <= slack(all));
            prop_assert!(each == 0 || most <= slack(each));
        }
    }
}

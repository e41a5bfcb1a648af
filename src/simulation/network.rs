//! Time that passes by events, chance that is the same each time, and what messages cost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// What will happen, in the order of time.
pub(super) struct Queue<E> {
    now: Duration,
    next: u64,
    heap: BinaryHeap<Reverse<(Duration, u64)>>,
    events: HashMap<u64, E>,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { now: Duration::ZERO, next: 0, heap: BinaryHeap::new(), events: HashMap::new() }
    }

    /// The time since the beginning.
    pub(super) const fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn after(&mut self, delay: Duration, event: E) {
        self.next += 1;
        self.heap.push(Reverse((self.now + delay, self.next)));
        self.events.insert(self.next, event);
    }

    /// Goes on to what happens next, if that is before `end`.
    pub(super) fn next(&mut self, end: Duration) -> Option<E> {
        let Reverse((time, _)) = self.heap.peek()?;
        if *time >= end {
            self.now = end;
            return None;
        }
        let Reverse((time, number)) = self.heap.pop()?;
        self.now = time;
        self.events.remove(&number)
    }
}

/// Numbers at random (SplitMix64), the same ones for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// A time up to `most`.
    pub(super) fn time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap();
        Duration::from_micros(self.next() % micros.max(1))
    }

    /// Whether something happens that happens so many times in a hundred.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How many packets of a hundred are lost; each comes again after [`AGAIN`].
const LOST: usize = 1;
const AGAIN: Duration = Duration::from_millis(200);

/// The time that a message takes from one machine to another: a LAN, with its moments.
pub(super) fn latency(random: &mut Random) -> Duration {
    let mut time = Duration::from_micros(200) + random.time(Duration::from_millis(2));
    while random.percent(LOST) {
        time += AGAIN;
    }
    time
}

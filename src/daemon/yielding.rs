//! When what leaves this machine is in the way of what it fetches itself: decisions alone, once a second.
//!
//! It cannot be seen what a line carries; but it can be tried. While NARs come and others are sent at the same time, what is sent is halved for a
//! moment. If more comes then, it was in the way: it stays so, and is halved again. If not, everything is as before, and it is not tried again for a
//! while. Once nothing comes any more, there is no limit; nor is there one while others are sent what comes as it comes: they wait for what this
//! machine downloads for all of them.

/// Below this nothing is in anybody's way, in bytes a second: others take a source that sends less for a slow one.
const LEAST: u64 = 256 * 1024;
/// How long one try takes, in seconds: queues on the way have to empty.
const TRY: u32 = 2;
/// How much more has to come, in percent, for a try to have been worth it.
const WORTH_IT: u64 = 15;
/// How long it is not tried again where it was not worth it, and how long a limit holds that was, in seconds.
const REST: u32 = 30;

/// What is known of the last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Second {
    /// NARs are on their way here.
    pub(super) fetches: bool,
    /// Others are sent what is on its way here.
    pub(super) passes_on: bool,
    /// Bytes that came.
    pub(super) came: u64,
    /// Bytes that were sent.
    pub(super) sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is limited, for so many seconds for certain.
    Free { rests: u32 },
    /// Less is sent since so many seconds; before that, so much came a second under this limit (0: none).
    Trying { seconds: u32, before: u64, came: u64, limit_before: u64, limit: u64 },
    /// Less is sent, for so many seconds more.
    Yields { rests: u32, limit: u64 },
}

/// What is sent, as it stands to what comes.
#[derive(Debug)]
pub(super) struct Yielding(State);

impl Yielding {
    pub(super) const fn new() -> Self {
        Self(State::Free { rests: 0 })
    }

    /// How many bytes a second may be sent, after a second like this; 0 is no limit of this kind.
    pub(super) fn next(&mut self, second: Second) -> u64 {
        self.0 = if second.fetches && !second.passes_on { self.after(second) } else { State::Free { rests: 0 } };
        self.limit()
    }

    /// Whether there is anything to decide as long as nothing comes.
    pub(super) const fn is_free(&self) -> bool {
        matches!(self.0, State::Free { .. })
    }

    const fn limit(&self) -> u64 {
        match self.0 {
            State::Free { .. } => 0,
            State::Trying { limit, .. } | State::Yields { limit, .. } => limit,
        }
    }

    fn after(&self, Second { came, sent, .. }: Second) -> State {
        match self.0 {
            State::Free { rests: rests @ 1.. } => State::Free { rests: rests - 1 },
            State::Free { rests: 0 } if sent >= 2 * LEAST => trial(came, 0, sent / 2),
            State::Free { rests: 0 } => State::Free { rests: 0 },
            State::Trying { seconds, before, came: so_far, limit_before, limit } if seconds + 1 < TRY => {
                State::Trying { seconds: seconds + 1, before, came: so_far.max(came), limit_before, limit }
            }
            State::Trying { before, came: so_far, limit_before, limit, .. } => {
                let came = so_far.max(came);
                let is_worth_it = came > before.saturating_add(before / 100 * WORTH_IT);
                match (is_worth_it, limit / 2 >= LEAST) {
                    (true, true) => trial(came, limit, limit / 2),
                    (true, false) => State::Yields { rests: REST, limit },
                    (false, _) if limit_before == 0 => State::Free { rests: REST },
                    (false, _) => State::Yields { rests: REST, limit: limit_before },
                }
            }
            // The line may carry more by now.
            State::Yields { rests: 0, .. } => State::Free { rests: TRY },
            State::Yields { rests, limit } => State::Yields { rests: rests - 1, limit },
        }
    }
}

/// Begins to send less.
fn trial(before: u64, limit_before: u64, limit: u64) -> State {
    State::Trying { seconds: 0, before, came: 0, limit_before, limit: limit.max(LEAST) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MB: u64 = 1_000_000;

    /// A machine that could send 2 MB a second for as long as it lives, by what comes where so much is sent.
    fn run(seconds: usize, comes: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut yielding = Yielding::new();
        let mut limits = Vec::new();
        let mut sent = 2 * MB;
        for _ in 0..seconds {
            let limit = yielding.next(Second { fetches: true, passes_on: false, came: comes(sent), sent });
            sent = if limit == 0 { 2 * MB } else { limit.min(2 * MB) };
            limits.push(limit);
        }
        limits
    }

    #[test]
    fn what_is_in_the_way_is_held_back_as_long_as_it_helps() {
        // What is sent takes from what comes.
        let limits = run(20, |sent| 10 * MB - 4 * sent.min(2 * MB));
        assert!(limits.last().is_some_and(|limit| (LEAST..=MB).contains(limit)), "{limits:?}");
        let later = run(100, |sent| 10 * MB - 4 * sent.min(2 * MB));
        let held_back = later.iter().filter(|limit| **limit != 0).count();
        assert!(held_back > 80, "most of the time: {later:?}");
    }

    #[test]
    fn what_is_not_in_the_way_is_left_alone() {
        let limits = run(100, |_| 10 * MB);
        assert!(limits.iter().filter(|limit| **limit != 0).count() <= 10, "{limits:?}");
    }

    #[test]
    fn nothing_is_held_back_where_nothing_comes_or_little_is_sent() {
        let mut yielding = Yielding::new();
        let second = |fetches, sent| Second { fetches, passes_on: false, came: 0, sent };
        assert_eq!(yielding.next(second(true, LEAST)), 0);
        assert_ne!(yielding.next(second(true, 4 * LEAST)), 0);
        assert!(!yielding.is_free());
        assert_eq!(yielding.next(second(false, 4 * LEAST)), 0);
        assert!(yielding.is_free());
        assert_eq!(
            yielding.next(Second { passes_on: true, ..second(true, 4 * LEAST) }),
            0,
            "others wait for what comes"
        );
    }

    proptest! {
        /// Whatever the line does, nobody is starved, and the end of what comes ends it.
        #[test]
        fn nobody_is_starved(seconds in proptest::collection::vec((any::<bool>(), any::<bool>(), 0..100 * MB, 0..100 * MB), 0..200)) {
            let mut yielding = Yielding::new();
            for (fetches, passes_on, came, sent) in seconds {
                let limit = yielding.next(Second { fetches, passes_on, came, sent });
                prop_assert!(limit == 0 || limit >= LEAST);
                prop_assert!((fetches && !passes_on) || limit == 0);
            }
        }
    }
}

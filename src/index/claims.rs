//! How often a peer has what it claims to have, and what follows if it does not: pure counting.

/// So many are too few to judge by.
const ENOUGH: u32 = 10;
/// One in so many may be wrong: 20 %. A path may be collected at any moment.
const WRONG_PART: u32 = 5;
/// What was longer ago counts half: whenever so many were tried.
const WINDOW: u32 = 100;

/// What to do about a peer's set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is to be told anew, all of it: something may have gone wrong.
    PullAgain,
    /// That did not help: it is ignored.
    Ignore,
}

/// The claims of one peer that were tried.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Claims {
    tried: u32,
    wrong: u32,
    wrong_ever: u64,
    /// The set has been told anew because of this.
    again: bool,
}

impl Claims {
    /// How many wrong claims of one set are remembered by name.
    pub(crate) const WRONG_MAX: usize = 256;

    /// One was tried.
    pub(crate) fn tried(&mut self, had_it: bool) -> Verdict {
        if self.tried >= WINDOW {
            (self.tried, self.wrong) = (self.tried / 2, self.wrong / 2);
        }
        self.tried += 1;
        if had_it {
            return Verdict::Fine;
        }
        self.wrong += 1;
        self.wrong_ever += 1;
        // With the one that is being counted: who is right four times in five may begin with a wrong one.
        if self.tried < ENOUGH || self.wrong * WRONG_PART <= self.tried + WRONG_PART {
            return Verdict::Fine;
        }
        (self.tried, self.wrong) = (0, 0);
        if std::mem::replace(&mut self.again, true) { Verdict::Ignore } else { Verdict::PullAgain }
    }

    /// The peer told its set, or what changed in it. A new beginning is only that which was asked for because of wrong claims.
    #[must_use]
    pub(crate) const fn told(self, all: bool) -> Self {
        if all { Self { tried: 0, wrong: 0, ..self } } else { self }
    }

    /// How many were wrong, since the peer is known.
    #[must_use]
    pub(crate) const fn wrong_ever(&self) -> u64 {
        self.wrong_ever
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_that_lies_is_told_anew_once_and_then_ignored() {
        let mut claims = Claims::default();
        let mut verdicts = Vec::new();
        for number in 0..40 {
            verdicts.push(claims.tried(number % 4 != 0));
        }
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::PullAgain).count(), 1);
        assert_eq!(verdicts.iter().position(|verdict| *verdict == Verdict::PullAgain), Some(12));
        assert_eq!(verdicts.iter().position(|verdict| *verdict == Verdict::Ignore), Some(36));
        assert_eq!(claims.wrong_ever(), 10);
    }

    proptest! {
        #[test]
        fn who_is_right_four_times_in_five_is_believed(start in 0..5usize, count in 0..1000usize) {
            let mut claims = Claims::default();
            for number in start..start + count {
                prop_assert_eq!(claims.tried(number % 5 != 4), Verdict::Fine);
            }
        }
    }
}

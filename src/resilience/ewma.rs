//! Averages in which what is newer weighs more.

use serde::{Deserialize, Serialize};

/// The weight of the newest measure.
const NEWEST: f64 = 0.2;

/// An exponentially weighted moving average; empty before the first measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ewma(Option<f64>);

impl Ewma {
    /// An average that stands at `value`.
    #[must_use]
    pub const fn at(value: f64) -> Self {
        Self(Some(value))
    }

    /// Takes in a measure.
    pub fn add(&mut self, newest: f64) {
        self.0 = Some(self.0.map_or(newest, |old| old + NEWEST * (newest - old)));
    }

    /// Where it stands.
    #[must_use]
    pub const fn get(&self) -> Option<f64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts_whole_and_the_newest_wins() {
        let mut average = Ewma::default();
        assert_eq!(average.get(), None);
        average.add(10.0);
        assert_eq!(average.get(), Some(10.0));
        (0..60).for_each(|_| average.add(2.0));
        assert!((average.get().unwrap() - 2.0).abs() < 1e-4);
    }
}

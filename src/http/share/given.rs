//! How many are given one NAR at the moment, of those who can stream it from each other.

use crate::fetch::claims::CHILDREN_MAX;
use crate::nix::NarHash;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What is given to how many. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenNow(Arc<Mutex<HashMap<NarHash, usize>>>);

/// One who is given a NAR, until this is dropped.
#[derive(Debug)]
pub(super) struct Given {
    now: GivenNow,
    nar: NarHash,
}

impl GivenNow {
    /// One more is given `nar`; `None`: as many are as should be.
    pub(super) fn begin(&self, nar: NarHash) -> Option<Given> {
        let mut all = self.0.lock();
        let count = all.entry(nar).or_default();
        if *count >= CHILDREN_MAX {
            return None;
        }
        *count += 1;
        Some(Given { now: self.clone(), nar })
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut all = self.now.0.lock();
        if let Some(count) = all.get_mut(&self.nar) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.nar);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_are_given_one_nar_and_others_another() {
        let now = GivenNow::default();
        let [one, other] = [1, 2].map(|number| NarHash::new([number; 32]));
        let mut given: Vec<Given> = (0..CHILDREN_MAX).filter_map(|_| now.begin(one)).collect();
        assert_eq!((given.len(), now.begin(one).is_some(), now.begin(other).is_some()), (CHILDREN_MAX, false, true));
        given.pop();
        assert!(now.begin(one).is_some());
        drop(given);
        assert!(now.0.lock().is_empty(), "nothing is left of it");
    }
}

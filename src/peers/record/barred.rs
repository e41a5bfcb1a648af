//! The paths of which a peer sent damaged content. They are not asked of it any more, and it is told.

use crate::nix::StoreHash;
use std::time::Duration;
use tokio::time::Instant;

/// How long a path is not asked of a peer whose copy of it is damaged.
const BARRED_FOR: Duration = Duration::from_secs(24 * 3600);
/// How many paths of one peer are remembered. Whoever counts them bans a peer long before.
const BARRED_MAX: usize = 16;

/// The paths of one peer.
#[derive(Debug, Default)]
pub(crate) struct Barred(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    hash: StoreHash,
    until: Instant,
    /// The peer knows.
    is_told: bool,
}

impl Barred {
    /// Bars a path, and tells how many are barred now; `None` if it was barred already.
    pub(crate) fn bar(&mut self, hash: StoreHash, now: Instant) -> Option<usize> {
        self.0.retain(|entry| entry.until > now);
        if self.contains(hash, now) {
            return None;
        }
        if self.0.len() == BARRED_MAX {
            self.0.remove(0);
        }
        self.0.push(Entry { hash, until: now + BARRED_FOR, is_told: false });
        Some(self.0.len())
    }

    /// Whether a path is barred.
    pub(crate) fn contains(&self, hash: StoreHash, now: Instant) -> bool {
        self.0.iter().any(|entry| entry.hash == hash && entry.until > now)
    }

    /// The paths that the peer was not told of yet.
    pub(crate) fn untold(&self) -> Vec<StoreHash> {
        self.0.iter().filter(|entry| !entry.is_told).map(|entry| entry.hash).collect()
    }

    /// The peer was told of these.
    pub(crate) fn told(&mut self, hashes: &[StoreHash]) {
        self.0.iter_mut().filter(|entry| hashes.contains(&entry.hash)).for_each(|entry| entry.is_told = true);
    }

    /// The administrator wants to try again.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    #[test]
    fn each_path_counts_once_until_its_time_is_over() {
        let (mut barred, now) = (Barred::default(), Instant::now());
        assert_eq!(
            (barred.bar(hash(1), now), barred.bar(hash(1), now), barred.bar(hash(2), now)),
            (Some(1), None, Some(2))
        );
        assert!(barred.contains(hash(1), now) && !barred.contains(hash(3), now));
        let later = now + BARRED_FOR;
        assert!(!barred.contains(hash(1), later));
        assert_eq!(barred.bar(hash(1), later), Some(1), "those before are forgotten");
        barred.clear();
        assert!(!barred.contains(hash(1), later));
    }

    #[test]
    fn the_peer_is_told_of_each_once() {
        let (mut barred, now) = (Barred::default(), Instant::now());
        barred.bar(hash(1), now);
        let untold = barred.untold();
        barred.bar(hash(2), now);
        barred.told(&untold);
        assert_eq!((untold, barred.untold()), (vec![hash(1)], vec![hash(2)]));
    }

    #[test]
    fn there_are_never_many() {
        let (mut barred, now) = (Barred::default(), Instant::now());
        for number in 0..100 {
            barred.bar(hash(number), now);
        }
        assert_eq!(barred.untold().len(), BARRED_MAX);
        assert!(barred.contains(hash(99), now));
    }
}

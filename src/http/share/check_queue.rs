//! Which of our own paths are to be read again because somebody says that they are damaged, and which were found so.

use crate::nix::{StoreHash, StorePath};
use crate::store::Audience;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long a path is not checked again, whoever asks for it.
const CHECKED_FOR: Duration = Duration::from_secs(3600);
/// For how many paths it is remembered that they were checked, or found damaged.
const REMEMBERED_MAX: u64 = 4096;
/// How many paths wait to be checked; what comes when there are as many is passed over.
const WAITING_MAX: usize = 16;
/// How many events a slow listener may fall behind.
const EVENTS_MAX: usize = 64;

/// Something that happened in the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareEvent {
    /// The content of a path of our own store is not what its database says. It is not shared any more.
    Damaged(StorePath),
}

/// What was checked, and what waits for it.
pub(super) struct CheckQueue {
    checked: Cache<StoreHash, ()>,
    damaged: Cache<StoreHash, ()>,
    queue: Mutex<Queue>,
    pub(super) events: broadcast::Sender<ShareEvent>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(StoreHash, Audience)>,
    /// Somebody is at it.
    is_running: bool,
}

impl CheckQueue {
    pub(super) fn new() -> Self {
        Self {
            checked: Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(CHECKED_FOR).build(),
            damaged: Cache::new(REMEMBERED_MAX),
            queue: Mutex::default(),
            events: broadcast::channel(EVENTS_MAX).0,
        }
    }

    /// Whether the path was found damaged.
    pub(super) fn is_damaged(&self, hash: StoreHash) -> bool {
        self.damaged.contains_key(&hash)
    }

    /// The path was found damaged. True if that is news.
    pub(super) fn found_damaged(&self, hash: StoreHash) -> bool {
        let is_new = !self.is_damaged(hash);
        self.damaged.insert(hash, ());
        is_new
    }

    /// The path is as it should be, or gone. True if it was damaged before.
    pub(super) fn found_whole(&self, hash: StoreHash) -> bool {
        self.damaged.remove(&hash).is_some()
    }

    /// The path was not read after all, so that another may have that done.
    pub(super) fn not_checked(&self, hash: StoreHash) {
        self.checked.invalidate(&hash);
    }

    /// Takes a path into the queue. True if somebody has to begin with it.
    pub(super) fn enqueue(&self, hash: StoreHash, audience: Audience) -> bool {
        let mut queue = self.queue.lock();
        if queue.waiting.len() == WAITING_MAX || self.checked.contains_key(&hash) {
            return false;
        }
        self.checked.insert(hash, ());
        queue.waiting.push_back((hash, audience));
        !std::mem::replace(&mut queue.is_running, true)
    }

    /// The next one; `None` when the work is done.
    pub(super) fn next(&self) -> Option<(StoreHash, Audience)> {
        let mut queue = self.queue.lock();
        let next = queue.waiting.pop_front();
        queue.is_running = next.is_some();
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    #[test]
    fn one_at_a_time_and_each_once() {
        let checks = CheckQueue::new();
        assert!(checks.enqueue(hash(1), Audience::Anyone), "somebody has to begin");
        assert!(!checks.enqueue(hash(2), Audience::Enrolled), "somebody is at it");
        assert!(!checks.enqueue(hash(1), Audience::Anyone), "it waits already");
        assert_eq!(checks.next(), Some((hash(1), Audience::Anyone)));
        assert!(!checks.enqueue(hash(1), Audience::Anyone), "it was checked within the hour");
        assert_eq!((checks.next(), checks.next()), (Some((hash(2), Audience::Enrolled)), None));
        assert!(checks.enqueue(hash(3), Audience::Anyone), "the work begins anew");
        checks.not_checked(hash(1));
        assert!(!checks.enqueue(hash(1), Audience::Enrolled));
        assert_eq!(checks.next(), Some((hash(3), Audience::Anyone)));
        assert_eq!(checks.next(), Some((hash(1), Audience::Enrolled)), "nothing was read for who asked before");
    }

    #[test]
    fn damage_is_news_once_until_it_is_mended() {
        let checks = CheckQueue::new();
        assert!(!checks.is_damaged(hash(1)) && !checks.found_whole(hash(1)));
        assert!(checks.found_damaged(hash(1)) && !checks.found_damaged(hash(1)) && checks.is_damaged(hash(1)));
        assert!(checks.found_whole(hash(1)) && !checks.is_damaged(hash(1)) && checks.found_damaged(hash(1)));
    }

    #[test]
    fn a_flood_of_reports_is_passed_over() {
        let checks = CheckQueue::new();
        for number in 0..100 {
            checks.enqueue(hash(number), Audience::Anyone);
        }
        assert_eq!(std::iter::from_fn(|| checks.next()).count(), WAITING_MAX);
        assert!(checks.enqueue(hash(99), Audience::Anyone), "one that was passed over was not checked");
    }
}

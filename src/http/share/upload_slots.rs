//! How much is sent at once: so many transfers in all, and so many of them to one address.
//!
//! A transfer holds file descriptors, buffers and a root against garbage collection for as long as its reader likes;
//! connections alone are cheap. So slots are short when they are, and who has few of them comes first: the last ones are kept
//! for those who have next to none, and each that is given back goes to whoever has the fewest.

use super::given::Given;
use crate::http::server::limits::Limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a peer waits for a slot before it is told that we are busy: it gives up the wait itself after five seconds, and has
/// other sources.
pub(super) const PEER_WAIT: Duration = Duration::from_secs(1);

/// How long a Nix that asks us directly waits for one. It has no better source, or it would have asked there first, and gives
/// up itself after 300 s without a byte (`stalled-download-timeout`).
pub(super) const NIX_WAIT: Duration = Duration::from_secs(240);

/// Of so many slots one is kept for addresses that have fewer than [`FEW`].
const KEPT: usize = 8;

/// How many slots an address may have to count as one that has next to none.
const FEW: usize = 4;

/// The slots there are. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct UploadSlots(Arc<Mutex<Table>>);

/// One of the slots; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: UploadSlots,
    address: IpAddr,
    /// What it is used for, where that is counted.
    given: Option<Given>,
}

impl Slot {
    /// It is used for this.
    pub(super) fn counts(&mut self, given: Option<Given>) {
        self.given = given;
    }
}

/// Who has slots, and who waits for one.
#[derive(Debug)]
struct Table {
    all: usize,
    each: usize,
    taken: usize,
    held: HashMap<IpAddr, usize>,
    /// The first comes first. A place whose other end is gone is passed over.
    queue: Vec<(IpAddr, oneshot::Sender<Slot>)>,
}

impl UploadSlots {
    /// As many as `limits` say.
    pub(super) fn new(limits: &Limits) -> Self {
        let (all, each) = (limits.transfers.max(1), limits.transfers_per_address.max(1));
        let (taken, held, queue) = Default::default();
        Self(Arc::new(Mutex::new(Table { all, each, taken, held, queue })))
    }

    /// A slot, if there is one now.
    pub(super) fn try_take(&self, address: IpAddr) -> Option<Slot> {
        let mut table = self.0.lock();
        if !table.may_take(address) {
            return None;
        }
        table.give(address);
        drop(table);
        Some(Slot { slots: self.clone(), address, given: None })
    }

    /// A slot, for which it waits no longer than `wait`.
    pub(super) async fn take(&self, address: IpAddr, wait: Duration) -> Option<Slot> {
        let slot = {
            let mut table = self.0.lock();
            let (send, slot) = oneshot::channel();
            table.queue.retain(|(_, send)| !send.is_closed());
            table.queue.push((address, send));
            slot
        };
        self.serve();
        timeout(wait, slot).await.ok()?.ok()
    }

    /// How many are taken, and how many wait for one.
    pub(super) fn load(&self) -> (usize, usize) {
        let table = self.0.lock();
        (table.taken, table.queue.iter().filter(|(_, send)| !send.is_closed()).count())
    }

    /// Gives the slots that are free to those who wait for them.
    fn serve(&self) {
        loop {
            // The table must be free when the slot of one who is gone comes back.
            let Some((address, send)) = self.0.lock().next() else { return };
            let _ = send.send(Slot { slots: self.clone(), address, given: None });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.lock().take_back(self.address);
        self.slots.serve();
    }
}

impl Table {
    fn held(&self, address: IpAddr) -> usize {
        self.held.get(&address).copied().unwrap_or_default()
    }

    /// Whether there is a slot for this address now.
    fn may_take(&self, address: IpAddr) -> bool {
        let held = self.held(address);
        let kept = if held < FEW { 0 } else { self.all / KEPT };
        held < self.each && self.all - self.taken > kept
    }

    fn give(&mut self, address: IpAddr) {
        self.taken += 1;
        *self.held.entry(address).or_default() += 1;
    }

    fn take_back(&mut self, address: IpAddr) {
        self.taken -= 1;
        if let Some(held) = self.held.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&address);
            }
        }
    }

    /// Who of those who wait is the next to have a slot, and has it now.
    fn next(&mut self) -> Option<(IpAddr, oneshot::Sender<Slot>)> {
        let all = self.queue.iter().enumerate();
        let able = all.filter(|(_, (address, send))| !send.is_closed() && self.may_take(*address));
        let (at, _) = able.min_by_key(|(at, (address, _))| (self.held(*address), *at))?;
        let next = self.queue.remove(at);
        self.give(next.0);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::pin::Pin;
    use std::task::Poll;
    use tokio::time::Instant;

    fn slots(transfers: usize, transfers_per_address: usize) -> UploadSlots {
        UploadSlots::new(&Limits { transfers, transfers_per_address, ..Limits::share() })
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// As many slots of these as are there at once.
    fn at_once(slots: &UploadSlots, last: u8, count: usize) -> Vec<Slot> {
        (0..count).filter_map(|_| slots.try_take(ip(last))).collect()
    }

    /// One who waits for a slot.
    struct Waiter(Pin<Box<dyn Future<Output = Option<Slot>>>>);

    impl Waiter {
        /// In line already.
        async fn new(slots: &UploadSlots, last: u8) -> Self {
            let slots = slots.clone();
            let mut waiter = Self(Box::pin(async move { slots.take(ip(last), NIX_WAIT).await }));
            assert!(waiter.waits().await);
            waiter
        }

        /// Whether it still does.
        async fn waits(&mut self) -> bool {
            poll_fn(|cx| Poll::Ready(self.0.as_mut().poll(cx).is_pending())).await
        }
    }

    #[tokio::test]
    async fn who_has_many_waits_for_its_own() {
        let slots = slots(2, 1);
        let first = at_once(&slots, 1, 1);
        let mut second = Waiter::new(&slots, 1).await;
        let other = at_once(&slots, 2, 1);
        assert_eq!(slots.load(), (2, 1));
        assert_eq!(other.len(), 1, "there is one left of all, but not for the first");
        drop(other);
        assert!(second.waits().await);
        drop(first);
        drop(second.0.await.unwrap());
        let table = slots.0.lock();
        assert_eq!((table.taken, table.held.len(), table.queue.len()), (0, 0, 0), "addresses are forgotten");
    }

    #[tokio::test]
    async fn four_machines_that_take_all_they_can_leave_some_to_the_fifth() {
        let slots = UploadSlots::new(&Limits::share());
        let mut greedy = Vec::new();
        for machine in 1..=4 {
            greedy.push(at_once(&slots, machine, 32));
        }
        assert_eq!(greedy.iter().map(Vec::len).collect::<Vec<_>>(), [32, 32, 32, 16]);
        let fifth = at_once(&slots, 5, 32);
        assert_eq!(fifth.len(), FEW, "at once");
        drop(fifth);
        // All others have theirs as well.
        for machine in 6..=9 {
            assert_eq!(at_once(&slots, machine, 1).len(), 1);
        }
    }

    #[tokio::test]
    async fn the_next_one_is_for_who_has_the_fewest() {
        let slots = slots(3, 3);
        let mut many = at_once(&slots, 1, 2);
        let few = at_once(&slots, 2, 1);
        let mut more_of_many = Waiter::new(&slots, 1).await;
        let mut more_of_few = Waiter::new(&slots, 2).await;
        let none = Waiter::new(&slots, 3).await;
        many.pop();
        assert!(more_of_many.waits().await && more_of_few.waits().await);
        let got = none.0.await.unwrap();
        drop(got);
        // One each; the first in line comes first.
        assert!(more_of_few.waits().await);
        let _more = more_of_many.0.await.unwrap();
        drop(few);
        assert!(more_of_few.0.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_and_who_gives_up_leaves_nothing() {
        let slots = slots(1, 2);
        let first = at_once(&slots, 1, 1);
        let begun = Instant::now();
        assert!(slots.take(ip(2), PEER_WAIT).await.is_none());
        assert_eq!(begun.elapsed(), PEER_WAIT);
        let next = Waiter::new(&slots, 3).await;
        drop(first);
        drop(next.0.await.unwrap());
        let table = slots.0.lock();
        assert_eq!((table.taken, table.held.len(), table.queue.len()), (0, 0, 0));
    }

    proptest! {
        /// Whatever is taken, given back and given up in whatever order: no limit is exceeded, and nobody waits for a slot that
        /// it could have.
        #[test]
        fn limits_hold_and_no_slot_is_forgotten(steps in proptest::collection::vec((0_u8..4, 1_u8..6), 1..200)) {
            let slots = slots(16, 6);
            let (mut taken, mut pending) = (Vec::<Slot>::new(), Vec::new());
            for (step, last) in steps {
                let mut table = slots.0.lock();
                match step {
                    0 | 1 => {
                        if table.may_take(ip(last)) {
                            table.give(ip(last));
                            taken.push(Slot { slots: slots.clone(), address: ip(last), given: None });
                        } else {
                            let (send, receive) = oneshot::channel();
                            table.queue.push((ip(last), send));
                            pending.push(receive);
                        }
                        drop(table);
                    }
                    2 if !taken.is_empty() => {
                        drop(table);
                        drop(taken.remove(usize::from(last) % taken.len()));
                    }
                    3 if !pending.is_empty() => {
                        drop(table);
                        drop(pending.remove(usize::from(last) % pending.len()));
                    }
                    _ => drop(table),
                }
                pending.retain_mut(|receive| receive.try_recv().map(|slot| taken.push(slot)).is_err());
                let table = slots.0.lock();
                prop_assert_eq!(table.taken, taken.len());
                prop_assert!(table.taken <= 16 && table.held.values().all(|held| *held <= 6));
                let missed = table.queue.iter().any(|(address, send)| !send.is_closed() && table.may_take(*address));
                prop_assert!(!missed);
            }
        }
    }
}

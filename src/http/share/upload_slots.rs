//! How much is sent at once: so many transfers in all, and so many of them to one address.
//!
//! A transfer holds file descriptors, buffers and a root against garbage collection for as long as its reader likes;
//! connections alone are cheap.

use crate::http::server::limits::Limits;
use crate::resilience::{KeyedLimit, Permit};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request waits for a slot. Peers ask somebody else long before, and Nix asks its next cache then.
const WAIT: Duration = Duration::from_secs(20);

/// The slots there are.
#[derive(Debug)]
pub(super) struct UploadSlots {
    all: Arc<Semaphore>,
    each: KeyedLimit<IpAddr>,
}

/// One of the slots; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _own: Permit<IpAddr>,
    _one_of_all: OwnedSemaphorePermit,
}

impl UploadSlots {
    /// As many as `limits` say.
    pub(super) fn new(limits: &Limits) -> Self {
        let all = limits.transfers.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), each: KeyedLimit::new(limits.transfers_per_address.max(1)) }
    }

    /// Waits for a slot, `None` if it takes too long. Who has many waits for one of these, not for one of all.
    pub(super) async fn take(&self, address: IpAddr) -> Option<Slot> {
        let slot = async {
            let own = self.each.take(address).await?;
            // The semaphore is never closed.
            let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Slot { _own: own, _one_of_all: one_of_all })
        };
        timeout(WAIT, slot).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(transfers: usize, transfers_per_address: usize) -> Arc<UploadSlots> {
        Arc::new(UploadSlots::new(&Limits { transfers, transfers_per_address, ..Limits::share() }))
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test]
    async fn who_has_many_waits_for_its_own() {
        let slots = slots(2, 1);
        let first = slots.take(A).await.unwrap();
        let mut second = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.take(A).await.is_some() }
        });
        let other = slots.take(B).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "there is one left of all, but not for this address");
        drop(first);
        assert!((&mut second).await.unwrap());
        drop(other);
        assert_eq!(slots.each.keys(), 0, "addresses are forgotten");
        assert_eq!(slots.all.available_permits(), 2);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing() {
        let slots = slots(1, 2);
        let first = slots.take(A).await.unwrap();
        // Waits for one of all, having its own.
        assert!(timeout(Duration::from_millis(1), slots.take(B)).await.is_err());
        assert_eq!(slots.each.keys(), 1);
        drop(first);
        assert_eq!(slots.each.keys(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let slots = slots(1, 2);
        let _first = slots.take(A).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(slots.take(B).await.is_none());
        assert_eq!(begun.elapsed().as_secs(), WAIT.as_secs());
    }
}

//! Whose turn it is to be sent something large: so many transfers at once, and so many of them to one address.
//!
//! A transfer holds file descriptors, buffers and a root against garbage collection for as long as its reader likes;
//! connections alone are cheap.

use super::Limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request waits for its turn. Peers ask somebody else long before, and Nix asks its next cache then.
const WAIT: Duration = Duration::from_secs(20);

/// Gives turns.
#[derive(Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    each: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    per_address: usize,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _own: Own,
    _one_of_all: OwnedSemaphorePermit,
}

/// An address's own part of a turn, or its wait for it. The last one of an address makes us forget the address.
#[derive(Debug)]
struct Own {
    turns: Arc<Turns>,
    address: IpAddr,
    /// Both there until it is dropped, the permit once it was waited for.
    semaphore: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// With the numbers in `limits`.
    #[must_use]
    pub fn new(limits: &Limits) -> Arc<Self> {
        let all = limits.transfers.clamp(1, Semaphore::MAX_PERMITS);
        let per_address = limits.transfers_per_address.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { all: Arc::new(Semaphore::new(all)), each: Mutex::default(), per_address })
    }

    /// Waits for a turn, `None` if it takes too long. Who has many waits for one of these, not for one of all.
    pub async fn take(self: &Arc<Self>, address: IpAddr) -> Option<Turn> {
        timeout(WAIT, self.wait(address)).await.ok().flatten()
    }

    async fn wait(self: &Arc<Self>, address: IpAddr) -> Option<Turn> {
        let semaphore = {
            let mut each = self.each.lock();
            Arc::clone(each.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.per_address))))
        };
        let turns = Arc::clone(self);
        let mut own = Own { turns, address, semaphore: Some(Arc::clone(&semaphore)), permit: None };
        // Neither semaphore is ever closed.
        own.permit = Some(semaphore.acquire_owned().await.ok()?);
        let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _own: own, _one_of_all: one_of_all })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop((self.permit.take(), self.semaphore.take()));
        let mut each = self.turns.each.lock();
        // Everybody who has or awaits a turn has the semaphore, and got it under this lock.
        if each.get(&self.address).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            each.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(transfers: usize, transfers_per_address: usize) -> Arc<Turns> {
        Turns::new(&Limits { transfers, transfers_per_address, ..Limits::share() })
    }

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test]
    async fn who_has_many_waits_for_its_own() {
        let turns = turns(2, 1);
        let first = turns.take(A).await.unwrap();
        let mut second = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take(A).await.is_some() }
        });
        let other = turns.take(B).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "there is one left of all, but not for this address");
        drop(first);
        assert!((&mut second).await.unwrap());
        drop(other);
        assert!(turns.each.lock().is_empty(), "addresses are forgotten");
        assert_eq!(turns.all.available_permits(), 2);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing() {
        let turns = turns(1, 2);
        let first = turns.take(A).await.unwrap();
        // Waits for one of all, having its own.
        assert!(timeout(Duration::from_millis(1), turns.take(B)).await.is_err());
        assert_eq!(turns.each.lock().len(), 1);
        drop(first);
        assert!(turns.each.lock().is_empty());
    }
}

//! How many requests of each address are answered in a second.

use crate::resilience::TokenBucket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From so many addresses on it is looked for those that are quiet. More than have connections are never in it for long.
const ADDRESSES_KEPT: usize = 2048;

/// How long Nix waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// What each address has asked of late.
#[derive(Debug)]
pub(super) struct RequestRates {
    per_second: u32,
    addresses: Mutex<HashMap<IpAddr, TokenBucket>>,
}

impl RequestRates {
    /// So many of each; 0 for any number.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, addresses: Mutex::default() }
    }

    /// Whether a request of this address may be answered: now, or, if it `waits`, within [`PATIENCE`]. Nix takes it for trouble with the
    /// cache when it is turned away, and asks for hundreds of narinfos at once; a peer knows what to make of it.
    pub(super) async fn permits_soon(&self, address: IpAddr, waits: bool) -> bool {
        let begun = Instant::now();
        loop {
            if self.permits(address) {
                return true;
            }
            if !waits || begun.elapsed() >= PATIENCE {
                return false;
            }
            sleep(Duration::from_secs(1) / self.per_second.max(1)).await; // pace
        }
    }

    /// Whether a request of this address may be answered now; if so, it counts.
    fn permits(&self, address: IpAddr) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES_KEPT && !addresses.contains_key(&address) {
            addresses.retain(|_, bucket| !bucket.is_full());
        }
        addresses.entry(address).or_insert_with(|| TokenBucket::new(self.per_second)).permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_address_has_its_own() {
        let rates = RequestRates::new(10);
        let ip = |last: u16| {
            let [high, low] = last.to_be_bytes();
            IpAddr::from([192, 0, high, low])
        };
        let permitted = |last| (0..100).filter(|_| rates.permits(ip(last))).count();
        assert_eq!((permitted(1), permitted(2), permitted(1)), (10, 10, 0));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(permitted(1), 5);
        for last in 0..5000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            rates.permits(ip(last));
        }
        assert!(rates.addresses.lock().len() <= ADDRESSES_KEPT, "quiet ones are forgotten");
        let begun = Instant::now();
        assert_eq!(permitted(1), 10);
        assert!(!rates.permits_soon(ip(1), false).await && begun.elapsed().is_zero());
        assert!(rates.permits_soon(ip(1), true).await && begun.elapsed() <= Duration::from_millis(200));
        let any = RequestRates::new(0);
        assert!((0..10_000).all(|_| any.permits(ip(1))) && any.addresses.lock().is_empty());
    }
}

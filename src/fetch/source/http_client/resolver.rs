//! From the name of an upstream to its addresses, those first over which it was reached before.
//!
//! Names are looked up for every connection (the system remembers them, and knows when to forget), so nothing has to be
//! forgotten here when the network changes but which family worked.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use tower_service::Service;

/// The most addresses of a family that are tried for one connection; the time for it is divided among them.
const ADDRESSES_MAX: usize = 4;

/// IPv4 or IPv6: over which an upstream was reached last.
#[derive(Default)]
pub(super) struct Family(AtomicU8);

impl Family {
    /// Notes over which address it was reached.
    pub(super) fn reached(&self, address: SocketAddr) {
        self.0.store(number(address), Relaxed);
    }

    /// Forgets it: the network is another one now.
    pub(super) fn forget(&self) {
        self.0.store(0, Relaxed);
    }

    /// A bounded number of addresses in the order in which they are tried: the family that comes first has a head start.
    fn order(&self, addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let known = self.0.load(Relaxed);
        let mut taken = [0; 2];
        let mut addresses: Vec<_> = addresses
            .filter(|address| {
                let taken = &mut taken[usize::from(address.is_ipv6())];
                *taken += 1;
                *taken <= ADDRESSES_MAX
            })
            .collect();
        addresses.sort_by_key(|address| known != 0 && number(*address) != known);
        addresses
    }
}

const fn number(address: SocketAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Asks the system, in a thread of its own.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    family: Arc<Family>,
}

impl Resolver {
    pub(super) fn new(family: Arc<Family>) -> Self {
        Self { system: GaiResolver::new(), family }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, family) = (self.system.call(name), Arc::clone(&self.family));
        Box::pin(async move { Ok(family.order(found.await?).into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_comes_first() {
        let addresses = ["[2001:db8::1]:0", "192.0.2.1:0", "[2001:db8::2]:0"].map(|a| a.parse().unwrap());
        let [six, four, six_too]: [SocketAddr; 3] = addresses;
        let family = Family::default();
        assert_eq!(family.order(addresses.into_iter()), addresses, "as the system has it");
        family.reached(four);
        assert_eq!(family.order(addresses.into_iter()), [four, six, six_too]);
        family.reached(six_too);
        assert_eq!(family.order(addresses.into_iter()), [six, six_too, four]);
        family.forget();
        assert_eq!(family.order(addresses.into_iter()), addresses);
    }

    #[test]
    fn a_name_with_very_many_addresses_costs_no_more() {
        let many = (0..200_u8).map(|n| SocketAddr::from(([192, 0, 2, n], 0)));
        let family = Family::default();
        assert_eq!(family.order(many.chain(["[2001:db8::1]:0".parse().unwrap()])).len(), ADDRESSES_MAX + 1);
    }
}

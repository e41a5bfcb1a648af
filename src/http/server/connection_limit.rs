//! How many connections each address has.

use super::limits::Limits;
use crate::resilience::{KeyedLimit, Permit};
use std::net::IpAddr;

/// The places for connections from each address, and from all addresses of one IPv6 network together.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    addresses: KeyedLimit<IpAddr>,
    /// By the first half of an address: one machine owns the other half.
    networks: KeyedLimit<u64>,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _address: Permit<IpAddr>,
    _network: Option<Permit<u64>>,
}

impl ConnectionLimit {
    pub(super) fn new(limits: &Limits) -> Self {
        let per_address = limits.per_address.unwrap_or(usize::MAX);
        let per_network = if limits.per_address.is_some() { (limits.connections / 2).max(1) } else { usize::MAX };
        Self { addresses: KeyedLimit::new(per_address), networks: KeyedLimit::new(per_network) }
    }

    /// A place for a connection from `address`, unless there are too many already.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let of_address = self.addresses.try_take(address)?;
        let of_network = match address {
            IpAddr::V4(_) => None,
            // The upper half of 128 bits.
            IpAddr::V6(address) => Some(self.networks.try_take((address.to_bits() >> 64) as u64)?),
        };
        Some(Place { _address: of_address, _network: of_network })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(connections: usize, per_address: Option<usize>) -> ConnectionLimit {
        ConnectionLimit::new(&Limits { connections, per_address, ..Limits::share() })
    }

    #[test]
    fn an_address_has_its_limit() {
        let limit = limit(100, Some(2));
        let address = "192.0.2.1".parse().unwrap();
        let first = limit.take(address).unwrap();
        let _second = limit.take(address).unwrap();
        assert!(limit.take(address).is_none());
        assert!(limit.take("192.0.2.2".parse().unwrap()).is_some(), "others have their own");
        drop(first);
        assert!(limit.take(address).is_some(), "a place given back is free");
    }

    #[test]
    fn a_network_has_half() {
        let limit = limit(4, Some(1));
        let taken: Vec<_> =
            ["2001:db8::1", "2001:db8::2"].map(|text| limit.take(text.parse().unwrap()).unwrap()).into();
        assert!(limit.take("2001:db8::3".parse().unwrap()).is_none());
        assert!(limit.take("2001:db8:0:1::3".parse().unwrap()).is_some(), "the next network");
        drop(taken);
        assert!(limit.take("2001:db8::3".parse().unwrap()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_left() {
        let limit = limit(4, Some(1));
        drop(limit.take("2001:db8::1".parse().unwrap()));
        drop(limit.take("192.0.2.1".parse().unwrap()));
        assert_eq!((limit.addresses.keys(), limit.networks.keys()), (0, 0));
    }

    #[test]
    fn no_limit_is_none() {
        let limit = limit(1, None);
        let taken: Vec<_> = (0..100).map(|_| limit.take("::1".parse().unwrap())).collect();
        assert!(taken.iter().all(Option::is_some));
    }
}

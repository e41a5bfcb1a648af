//! Where one peer may be reached: a few addresses, those that worked before those that were only claimed.

use crate::peers::link::ADDRESSES_MAX;
use crate::peers::state::Provenance;
use std::net::{IpAddr, SocketAddr};
use tokio::time::Instant;

/// The addresses of one peer, the best first.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    address: SocketAddr,
    provenance: Provenance,
    /// When the peer proved its identity there.
    worked: Option<Instant>,
    /// When it was last claimed.
    heard: Instant,
}

impl Addresses {
    /// Someone claims that the peer is at each of `claims`. True if that is news.
    pub(crate) fn claimed(&mut self, claims: &[SocketAddr], provenance: Provenance) -> bool {
        let now = Instant::now();
        let mut news = Vec::new();
        for address in claims.iter().copied().map(canonical).take(ADDRESSES_MAX) {
            match self.0.iter_mut().find(|entry| entry.address == address) {
                Some(entry) => {
                    entry.heard = now;
                    entry.provenance = entry.provenance.max(provenance);
                }
                None => {
                    self.0.push(Entry { address, provenance, worked: None, heard: now });
                    news.push(address);
                }
            }
        }
        self.order();
        // The address that worked last is first, so claims never push it out.
        self.0.truncate(ADDRESSES_MAX);
        news.into_iter().any(|address| self.0.iter().any(|entry| entry.address == address))
    }

    /// The peer proved its identity there.
    pub(crate) fn worked(&mut self, address: SocketAddr) {
        let address = canonical(address);
        let now = Instant::now();
        match self.0.iter_mut().find(|entry| entry.address == address) {
            Some(entry) => entry.worked = Some(now),
            None => self.0.push(Entry { address, provenance: Provenance::Remembered, worked: Some(now), heard: now }),
        }
        self.order();
        self.0.truncate(ADDRESSES_MAX);
    }

    /// The addresses, the best first.
    pub(crate) fn list(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|entry| entry.address).collect()
    }

    /// Whether the peer proved its identity at `address`.
    pub(crate) fn worked_at(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        self.0.iter().any(|entry| entry.address == address && entry.worked.is_some())
    }

    /// Worked before claimed, latest first; among claims the surer provenance, then the latest, then IPv4, which has no
    /// scope that could be wrong.
    fn order(&mut self) {
        self.0.sort_by_key(|entry| {
            std::cmp::Reverse((entry.worked, entry.provenance, entry.heard, entry.address.is_ipv4()))
        });
    }
}

/// An IPv4 address that came through an IPv6 socket as the IPv4 address that it is; flow labels are dropped.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(v4) => SocketAddr::new(v4.into(), v6.port()),
            IpAddr::V6(_) => {
                let mut plain = v6;
                plain.set_flowinfo(0);
                plain.into()
            }
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> SocketAddr {
        format!("192.0.2.{last}:7650").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_worked_stays_whatever_is_claimed() {
        let mut addresses = Addresses::default();
        assert!(addresses.claimed(&[address(1)], Provenance::Mdns));
        addresses.worked(address(1));
        for last in 2..200 {
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
            assert!(addresses.claimed(&[address(last)], Provenance::Mdns));
        }
        let list = addresses.list();
        assert_eq!((list.len(), list[0], list[1]), (ADDRESSES_MAX, address(1), address(199)));
        assert!(!addresses.claimed(&[address(199)], Provenance::Mdns));
        addresses.worked(address(7));
        assert_eq!(addresses.list()[..2], [address(7), address(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn surer_sources_first() {
        let mut addresses = Addresses::default();
        addresses.claimed(&[address(1)], Provenance::Fixed);
        addresses.claimed(&[address(2)], Provenance::Introduced);
        addresses.claimed(&[address(3)], Provenance::Mdns);
        assert_eq!(addresses.list(), [address(1), address(3), address(2)]);
    }

    #[test]
    fn one_form_of_each_address() {
        for (given, kept) in [
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:1"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
            ("[fe80::1%3]:1", "[fe80::1%3]:1"),
        ] {
            assert_eq!(canonical(given.parse().unwrap()).to_string(), kept);
        }
    }
}

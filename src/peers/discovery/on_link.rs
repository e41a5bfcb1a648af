//! Which addresses are on the links of this machine: the only ones that an announcement may send us to.
//!
//! Anyone on the link can announce any address. If all were dialled, an announcement could make every machine of the
//! network knock at a port of the Internet or of this machine itself.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address range that one of our interfaces is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    V4 { network: u32, mask: u32 },
    V6 { network: u128, mask: u128 },
}

/// The ranges of the interfaces in use.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Range>);

impl Links {
    /// Looks at the interfaces `names`, or at all but loopback when there are no names.
    pub(super) fn look(names: &[String]) -> io::Result<Self> {
        let mut ranges = Vec::new();
        for interface in getifaddrs()? {
            let wanted = match names {
                [] => !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                names => names.contains(&interface.interface_name),
            };
            let (Some(address), Some(mask)) = (interface.address, interface.netmask) else { continue };
            if !wanted || !interface.flags.contains(InterfaceFlags::IFF_UP) {
                continue;
            }
            if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                let (address, mask): (Ipv4Addr, Ipv4Addr) = (address.ip(), mask.ip());
                ranges.push(Range::V4 { network: u32::from(address) & u32::from(mask), mask: u32::from(mask) });
            } else if let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
                let (address, mask): (Ipv6Addr, Ipv6Addr) = (address.ip(), mask.ip());
                ranges.push(Range::V6 { network: u128::from(address) & u128::from(mask), mask: u128::from(mask) });
            }
        }
        Ok(Self(ranges))
    }

    /// Whether `address` is a neighbour's. A link-local IPv6 address has to say on which link.
    pub(super) fn have(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
            return false;
        }
        if let SocketAddr::V6(v6) = address
            && v6.ip().is_unicast_link_local()
            && v6.scope_id() == 0
        {
            return false;
        }
        self.0.iter().any(|range| match (*range, ip) {
            (Range::V4 { network, mask }, IpAddr::V4(ip)) => {
                let ip = u32::from(ip);
                let broadcast = mask != u32::MAX && ip == network | !mask;
                ip & mask == network && !broadcast
            }
            (Range::V6 { network, mask }, IpAddr::V6(ip)) => u128::from(ip) & mask == network,
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str, bits: u32) -> Range {
        let mask = u32::MAX << (32 - bits);
        Range::V4 { network: u32::from(text.parse::<Ipv4Addr>().unwrap()) & mask, mask }
    }

    fn v6(text: &str, bits: u32) -> Range {
        let mask = u128::MAX << (128 - bits);
        Range::V6 { network: u128::from(text.parse::<Ipv6Addr>().unwrap()) & mask, mask }
    }

    #[test]
    fn neighbours_only() {
        let links = Links(vec![v4("192.168.7.9", 24), v6("2001:db8:1::5", 64), v6("fe80::1", 64)]);
        for near in ["192.168.7.1:7650", "[2001:db8:1::77]:7650", "[fe80::2%3]:7650"] {
            assert!(links.have(near.parse().unwrap()), "{near}");
        }
        for far in [
            "192.168.8.1:7650",
            "127.0.0.1:22",
            "[::1]:22",
            "8.8.8.8:53",
            "[2001:db8:2::1]:7650",
            "[fe80::2]:7650",
            "192.168.7.1:0",
            "192.168.7.255:7650",
            "224.0.0.251:5353",
            "0.0.0.0:1",
            "[::ffff:127.0.0.1]:22",
        ] {
            assert!(!links.have(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn loopback_has_to_be_named() {
        let loopback = "127.0.0.1:7650".parse().unwrap();
        assert!(!Links::look(&[]).unwrap().have(loopback));
        assert!(Links::look(&["lo".to_owned()]).unwrap().have(loopback));
        assert!(!Links::look(&["no-such-interface".to_owned()]).unwrap().have(loopback));
    }
}

//! This machine's network interfaces, and which addresses are on their links: the only ones that an announcement may send us to.
//!
//! Anyone on the link can announce any address. If all were dialled, an announcement could make every machine of the
//! network knock at a port of the Internet or of this machine itself.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The most interfaces that are used, the oldest first: each costs two memberships in the kernel and a packet for every question.
const INTERFACES_MAX: usize = 256;
/// The most addresses of each family that are announced on one interface: all of it has to fit into one packet.
const ANNOUNCED_MAX: usize = 8;

/// An address of ours, and its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    address: IpAddr,
    mask: IpAddr,
}

/// One of the interfaces in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interface(Vec<Range>);

/// The interfaces in use by their numbers, and the addresses of this machine on all of them and on those that are not in use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    links: BTreeMap<u32, Interface>,
    own: HashSet<IpAddr>,
}

impl Interfaces {
    /// Looks at the interfaces `names`, or at all but loopback that can do multicast when there are no names. Takes a millisecond
    /// where there are a hundred.
    pub(super) fn look(names: &[String]) -> io::Result<Self> {
        let mut found = Self::default();
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        let mut ranges: Vec<(String, Range)> = Vec::new();
        for interface in getifaddrs()? {
            if let Some(number) =
                interface.address.as_ref().and_then(|address| address.as_link_addr()).map(LinkAddr::ifindex)
            {
                numbers.insert(interface.interface_name.clone(), u32::try_from(number).unwrap_or_default());
            }
            let range = interface.address.zip(interface.netmask).and_then(|(address, mask)| {
                if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                    return Some(Range { address: address.ip().into(), mask: mask.ip().into() });
                }
                let (address, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
                Some(Range { address: address.ip().into(), mask: mask.ip().into() })
            });
            let Some(range) = range else { continue };
            found.own.insert(range.address);
            let wanted = match names {
                [] => {
                    let flags = interface.flags;
                    flags.contains(InterfaceFlags::IFF_MULTICAST) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
                }
                names => names.contains(&interface.interface_name),
            };
            if wanted && interface.flags.contains(InterfaceFlags::IFF_UP) {
                ranges.push((interface.interface_name, range));
            }
        }
        for (name, range) in ranges {
            let Some(number) = numbers.get(&name) else { continue };
            if found.links.len() < INTERFACES_MAX || found.links.contains_key(number) {
                found.links.entry(*number).or_default().0.push(range);
            }
        }
        Ok(found)
    }

    /// The interfaces in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Interface)> {
        self.links.iter().map(|(link, interface)| (*link, interface))
    }

    pub(super) fn get(&self, link: u32) -> Option<&Interface> {
        self.links.get(&link)
    }

    /// Whether `address` is this machine's.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// Whether `address` is on the link of one of the interfaces in use, and may be dialled.
    pub(super) fn have(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
            return false;
        }
        // A link-local IPv6 address has to say on which link.
        match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                self.get(v6.scope_id()).is_some_and(|interface| interface.has(ip))
            }
            _ => self.links.values().any(|interface| interface.has(ip)),
        }
    }
}

impl Interface {
    #[cfg(test)]
    pub(super) fn of(ranges: &[(&str, u32)]) -> Self {
        use std::net::{Ipv4Addr, Ipv6Addr};
        let range = |(address, bits): &(&str, u32)| match address.parse().unwrap() {
            IpAddr::V4(v4) => Range { address: v4.into(), mask: Ipv4Addr::from(u32::MAX << (32 - bits)).into() },
            IpAddr::V6(v6) => Range { address: v6.into(), mask: Ipv6Addr::from(u128::MAX << (128 - bits)).into() },
        };
        Self(ranges.iter().map(range).collect())
    }

    /// Whether `address` is in one of its networks.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| match (range.address, range.mask, address) {
            (IpAddr::V4(own), IpAddr::V4(mask), IpAddr::V4(ip)) => {
                let (own, mask, ip) = (u32::from(own), u32::from(mask), u32::from(ip));
                let broadcast = mask != u32::MAX && ip == own | !mask;
                ip & mask == own & mask && !broadcast
            }
            (IpAddr::V6(own), IpAddr::V6(mask), IpAddr::V6(ip)) => {
                u128::from(ip) & u128::from(mask) == u128::from(own) & u128::from(mask)
            }
            _ => false,
        })
    }

    /// Whether it has an address of this family.
    pub(super) fn speaks(&self, v4: bool) -> bool {
        self.0.iter().any(|range| range.address.is_ipv4() == v4)
    }

    /// What is announced on it: its own addresses, of IPv4 first; of IPv6 those first that every link has.
    pub(super) fn announced(&self) -> impl Iterator<Item = IpAddr> {
        let of =
            |family: fn(&IpAddr) -> bool| self.0.iter().map(|range| range.address).filter(family).take(ANNOUNCED_MAX);
        let local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let others = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local());
        of(IpAddr::is_ipv4).chain(of(local)).chain(of(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_only() {
        let interface = Interface::of(&[("192.168.7.9", 24), ("2001:db8:1::5", 64), ("fe80::1", 64)]);
        let interfaces = Interfaces { links: [(3, interface)].into(), own: HashSet::new() };
        for near in ["192.168.7.1:7650", "[2001:db8:1::77]:7650", "[fe80::2%3]:7650"] {
            assert!(interfaces.have(near.parse().unwrap()), "{near}");
        }
        for far in [
            "192.168.8.1:7650",
            "127.0.0.1:22",
            "[::1]:22",
            "8.8.8.8:53",
            "[2001:db8:2::1]:7650",
            "[fe80::2]:7650",
            "[fe80::2%4]:7650",
            "192.168.7.1:0",
            "192.168.7.255:7650",
            "224.0.0.251:5353",
            "0.0.0.0:1",
            "[::ffff:127.0.0.1]:22",
        ] {
            assert!(!interfaces.have(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn loopback_has_to_be_named() {
        let loopback = "127.0.0.1:7650".parse().unwrap();
        let look = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Interfaces::look(&names).unwrap()
        };
        assert!(!look(&[]).have(loopback));
        assert!(look(&["lo"]).have(loopback));
        assert!(!look(&["no-such-interface"]).have(loopback));
        assert!(look(&[]).is_own("127.0.0.1".parse().unwrap()), "whichever interface it is on");
    }

    #[test]
    fn what_is_announced_is_in_order_and_bounded() {
        let many: Vec<String> = (1..40).map(|last| format!("2001:db8::{last}")).collect();
        let mut ranges: Vec<(&str, u32)> = many.iter().map(|address| (address.as_str(), 64)).collect();
        ranges.extend([("fe80::1", 64), ("192.168.7.9", 24)]);
        let announced: Vec<IpAddr> = Interface::of(&ranges).announced().collect();
        assert_eq!(announced.len(), 2 + ANNOUNCED_MAX);
        assert_eq!(announced[..2], ["192.168.7.9".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
    }
}

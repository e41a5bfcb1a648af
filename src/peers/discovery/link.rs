//! The links of this machine, as programs see them that know nothing but broadcasts.

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::net::{IpAddr, Ipv4Addr};

/// Whether an address is of a network such as machines of one room have.
pub(super) fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(_) => false,
    }
}

/// Whether an address is this machine's.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let own = getifaddrs().into_iter().flatten();
    own.filter_map(|interface| interface.address?.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()))).any(|own| own == ip)
}

/// The broadcast addresses of the links of this machine that are private: as they are set, or as they follow from the netmask.
pub(super) fn broadcasts() -> Vec<Ipv4Addr> {
    let all = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let v4 = |address: Option<SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip());
        let (own, mask) = (v4(interface.address)?, v4(interface.netmask)?);
        let usual = Ipv4Addr::from_bits(own.to_bits() | !mask.to_bits());
        // A link between two has none; where none is set, the system tells the machine's own.
        let link = v4(interface.broadcast).filter(|set| *set != own).or((usual != own).then_some(usual))?;
        is_near(own.into()).then_some(link)
    });
    let mut links: Vec<Ipv4Addr> = all.collect();
    links.sort_unstable();
    links.dedup();
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_far_away_is_no_neighbour() {
        for (address, near) in [
            ("192.168.1.7", true),
            ("10.0.0.1", true),
            ("203.0.113.7", false),
            ("127.0.0.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_near(address.parse().unwrap()), near, "{address}");
        }
    }
}

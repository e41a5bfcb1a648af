//! Where an upstream may lead: by a redirection, and by an absolute URL in a narinfo, which nobody signs.

use super::location;
use crate::fetch::error::SourceError;
use hyper::Uri;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long the address of an upstream may take that leads inside the network.
const LOOKUP: Duration = Duration::from_secs(2);
/// Last parts of names that no public host has, and what home routers and companies use as such.
const INSIDE: [&str; 11] =
    ["local", "localdomain", "lan", "home", "internal", "intranet", "private", "corp", "arpa", "test", "onion"];

/// Where `reference` leads from `from`, if that may be followed. Never from TLS to plain HTTP; and to another host only if that is one
/// of the public Internet, or no nearer to this machine than who leads there: what is inside the network may lead inside the network, what
/// is on this machine to this machine. So nobody outside reaches through us what is inside.
///
/// # Errors
/// [`SourceError::Redirect`] if it may not be; [`SourceError::Unavailable`] if that cannot be told for the moment.
pub(super) async fn follow(from: &Uri, reference: &[u8]) -> Result<Uri, SourceError> {
    let refused = || SourceError::Redirect(String::from_utf8_lossy(reference).chars().take(200).collect());
    let target = location::resolve(from, reference).ok_or_else(refused)?;
    let is_downgrade = from.scheme_str() == Some("https") && target.scheme_str() != Some("https");
    let may = match (from.host(), target.host()) {
        _ if is_downgrade => false,
        (Some(from), Some(to)) => from.eq_ignore_ascii_case(to) || may_lead(from, to).await?,
        _ => false,
    };
    if may { Ok(target) } else { Err(refused()) }
}

async fn may_lead(from: &str, to: &str) -> Result<bool, SourceError> {
    let to = Place::of(to);
    let claimed = Place::of(from);
    // Many a host of a private network has a name like a public one. Where it really is is asked only if it matters.
    let from = if claimed == Place::Public && !claimed.may_lead(to) { really(from).await? } else { claimed };
    Ok(from.may_lead(to))
}

/// Where the host is by all of its addresses.
async fn really(host: &str) -> Result<Place, SourceError> {
    let unknown = |reason: &dyn std::fmt::Display| {
        SourceError::Unavailable(format!("whether it may lead inside the network cannot be told: {host}: {reason}"))
    };
    match timeout(LOOKUP, lookup_host((host, 0))).await {
        Ok(Ok(addresses)) => Ok(Place::of_all(addresses.map(|address| address.ip()))),
        Ok(Err(error)) => Err(unknown(&error)),
        Err(late) => Err(unknown(&late)),
    }
}

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the public Internet, as far as its name tells. What that resolves to is not looked at.
    Public,
    /// In a private network.
    Inside,
    /// On this machine.
    Here,
    /// Where no cache is: on one link, as the metadata of clouds; everywhere and nowhere; an address in disguise.
    Nowhere,
}

impl Place {
    fn of(host: &str) -> Self {
        let name = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            return Self::of_address(address);
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        match last {
            "localhost" => Self::Here,
            // Resolvers take a name whose last part is a number for an address.
            _ if last.is_empty() || last.starts_with(|c: char| c.is_ascii_digit()) => Self::Nowhere,
            _ if last == name || INSIDE.contains(&last) => Self::Inside,
            _ => Self::Public,
        }
    }

    fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    const fn of_v4(v4: Ipv4Addr) -> Self {
        match v4.octets() {
            [127, ..] => Self::Here,
            // Besides the private ones: carrier-grade NAT, which overlay networks use as well.
            [100, 64..=127, ..] => Self::Inside,
            _ if v4.is_private() => Self::Inside,
            // This network, links, benchmarks, multicast, what is reserved, broadcast.
            [0, ..] | [169, 254, ..] | [198, 18..=19, ..] | [224..=255, ..] => Self::Nowhere,
            _ => Self::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h] = v6.segments();
        let v4 = |high: u16, low: u16| Self::of_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
        match (a, b, c, d, e, f) {
            _ if v6.is_loopback() => Self::Here,
            _ if v6.is_unique_local() => Self::Inside,
            // IPv4 addresses in IPv6's clothes: mapped, by NAT64, by 6to4.
            (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
            (0x2002, high, low, ..) => v4(high, low),
            // Global unicast; the rest are links, sites, multicast, and what is not given out.
            (0x2000..=0x3fff, ..) => Self::Public,
            _ => Self::Nowhere,
        }
    }

    /// Where a host with all these addresses is: only if none of them is outside, it is inside.
    fn of_all(addresses: impl Iterator<Item = IpAddr>) -> Self {
        let places: Vec<Self> = addresses.map(Self::of_address).collect();
        let all = |wanted: &[Self]| !places.is_empty() && places.iter().all(|place| wanted.contains(place));
        if all(&[Self::Here]) {
            Self::Here
        } else if all(&[Self::Here, Self::Inside]) {
            Self::Inside
        } else {
            Self::Public
        }
    }

    /// Whether a host here may lead to another one there.
    const fn may_lead(self, to: Self) -> bool {
        match to {
            Self::Public => true,
            Self::Inside => matches!(self, Self::Inside | Self::Here),
            Self::Here => matches!(self, Self::Here),
            Self::Nowhere => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_where_a_host_is() {
        for (place, hosts) in [
            (
                Place::Public,
                &["cache.example.org", "1.1.1.1", "1.example.org", "[2a00::1]", "Cache.NixOS.org.", "::ffff:1.1.1.1"][..],
            ),
            (
                Place::Inside,
                &[
                    "10.1.2.3",
                    "192.168.1.1",
                    "172.31.0.1",
                    "100.64.0.1",
                    "fd00::1",
                    "::ffff:10.0.0.1",
                    "[64:ff9b::a00:1]",
                ],
            ),
            (Place::Inside, &["router", "router.local", "minio.lan", "x.HOME.ARPA", "s3.corp", "2002:a00:1::"]),
            (
                Place::Here,
                &["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::ffff:127.0.0.1"],
            ),
            (
                Place::Nowhere,
                &[
                    "169.254.169.254",
                    "0.0.0.0",
                    "255.255.255.255",
                    "224.0.0.251",
                    "198.18.0.1",
                    "fe80::1",
                    "[::]",
                    "ff02::fb",
                ],
            ),
            (Place::Nowhere, &["2130706433", "0x7f.1", "127.1", "", ".", "::ffff:169.254.169.254", "fec0::1"]),
        ] {
            for host in hosts {
                assert_eq!(Place::of(host), place, "{host}");
            }
        }
    }

    #[test]
    fn a_host_is_inside_if_none_of_its_addresses_is_outside() {
        let of = |addresses: &[&str]| Place::of_all(addresses.iter().map(|address| address.parse().unwrap()));
        assert_eq!(of(&["10.0.0.1", "fd00::1"]), Place::Inside);
        assert_eq!(of(&["127.0.0.1", "::1"]), Place::Here);
        assert_eq!(of(&["127.0.0.1", "10.0.0.1"]), Place::Inside);
        for outside in [&["10.0.0.1", "1.1.1.1"][..], &["1.1.1.1"], &["169.254.169.254"], &[]] {
            assert_eq!(of(outside), Place::Public, "{outside:?}");
        }
    }

    #[test]
    fn nobody_leads_nearer_to_this_machine_than_they_are() {
        use Place::{Here, Inside, Nowhere, Public};
        let allowed = |from: Place| [Public, Inside, Here, Nowhere].map(|to| from.may_lead(to));
        assert_eq!(allowed(Public), [true, false, false, false]);
        assert_eq!(allowed(Inside), [true, true, false, false]);
        assert_eq!(allowed(Here), [true, true, true, false]);
        assert_eq!(allowed(Nowhere), [true, false, false, false]);
    }

    #[tokio::test]
    async fn redirections_are_followed_within_these_bounds() {
        for (from, reference, expected) in [
            ("https://cache.example.org/x", "/y", Some("https://cache.example.org/y")),
            ("https://cache.example.org/x", "//cache.example.org:8443/y", Some("https://cache.example.org:8443/y")),
            ("https://cache.example.org/x", "https://s3.example.com/y", Some("https://s3.example.com/y")),
            ("https://cache.example.org/x", "http://cache.example.org/y", None),
            ("https://10.0.0.1/x", "http://10.0.0.2/y", None),
            ("http://10.0.0.1/x", "http://10.0.0.2:9000/y", Some("http://10.0.0.2:9000/y")),
            ("http://cache.lan/x", "http://10.0.0.2/y", Some("http://10.0.0.2/y")),
            ("http://10.0.0.1/x", "http://127.0.0.1/y", None),
            ("http://10.0.0.1/x", "http://localhost/y", None),
            ("http://localhost:1/x", "http://localhost:2/y", Some("http://localhost:2/y")),
            ("http://127.0.0.1:1/x", "http://[::1]:2/y", Some("http://[::1]:2/y")),
            ("http://localhost/x", "http://10.0.0.2/y", Some("http://10.0.0.2/y")),
            ("http://localhost/x", "http://169.254.169.254/latest", None),
            ("http://10.0.0.1/x", "http://169.254.169.254/latest", None),
            ("http://1.1.1.1/x", "http://10.0.0.1/y", None),
            ("http://1.1.1.1/x", "http://localhost/y", None),
            ("http://1.1.1.1/x", "http://2130706433/y", None),
            ("http://1.1.1.1/x", "file:///etc/passwd", None),
            ("http://169.254.1.1/x", "http://169.254.1.1:81/y", Some("http://169.254.1.1:81/y")),
        ] {
            let followed = follow(&from.parse().unwrap(), reference.as_bytes()).await.map(|uri| uri.to_string());
            assert_eq!(followed.ok().as_deref(), expected, "{from} to {reference}");
        }
        // A name that nobody has: where it is cannot be told, and it is not said that nobody has what it leads to.
        let unknown = follow(&"http://cache.invalid/x".parse().unwrap(), b"http://10.0.0.2/y").await;
        assert!(matches!(unknown, Err(SourceError::Unavailable(_))), "{unknown:?}");
    }
}

//! Which redirections of an upstream are followed.

use crate::fetch::error::SourceError;
use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::{Response, Uri};
use std::net::IpAddr;

/// Where a redirection leads, if it may be followed: never from TLS to plain HTTP, and never to an address inside a
/// network from a name outside it.
pub(crate) fn redirection(from: &Uri, response: &Response<Incoming>) -> Result<Uri, SourceError> {
    let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = || SourceError::Redirect(target.chars().take(200).collect());
    let uri: Uri = target.parse().map_err(|_| refused())?;
    let Some(host) = uri.host() else {
        // Relative to the host that sent it.
        let mut parts = from.clone().into_parts();
        parts.path_and_query = uri.into_parts().path_and_query;
        return Uri::from_parts(parts).map_err(|_| refused());
    };
    let downgrade = from.scheme_str() == Some("https") && uri.scheme_str() != Some("https");
    let inside = !is_public_host(host) && from.host() != Some(host);
    if downgrade || inside { Err(refused()) } else { Ok(uri) }
}

/// Whether a host may be one of the public Internet: a public address, or a name with a domain whose last part is not a
/// number (which resolvers take for an address in disguise). What the name resolves to is not looked at.
fn is_public_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_public(address);
    }
    let numeric = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    host.trim_end_matches('.')
        .rsplit_once('.')
        .is_some_and(|(_, last)| !last.is_empty() && !numeric(last) && last != "local")
}

/// Whether an address is one of the public Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 0/8, carrier-grade NAT (100.64/10) and benchmarks (198.18/15) besides those that have names.
            let special = matches!(v4.octets(), [0, ..] | [100, 64..=127, ..] | [198, 18..=19, ..]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || special)
        }
        IpAddr::V6(v6) => {
            let mapped_public = v6.to_ipv4_mapped().is_none_or(|v4| is_public(v4.into()));
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local())
                && mapped_public
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_networks_are_known() {
        for inside in
            ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.169.254", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "2a00::1"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
        for inside in
            ["localhost", "router.local", "router", "2130706433", "0x7f.1", "100.64.0.1", "127.1", "[::1]", ""]
        {
            assert!(!is_public_host(inside), "{inside}");
        }
        for outside in ["cache.example.org", "1.1.1.1", "1.example.org", "[2a00::1]"] {
            assert!(is_public_host(outside), "{outside}");
        }
    }
}

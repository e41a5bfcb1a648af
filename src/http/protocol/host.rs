//! `Host`: which machine a request is meant for.

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Uri, Version};
use std::net::IpAddr;

/// What the `Host` of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address, `localhost`, or (in HTTP/1.0) nothing.
    Local,
    /// Some other name.
    Elsewhere,
    /// Nothing or two things, which HTTP forbids from 1.1 on: something between the client and us may have understood another
    /// request than we do.
    Doubtful,
}

impl Host {
    pub(crate) fn of(version: Version, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut hosts = headers.get_all(HOST).iter();
        // HTTP/2 has it in a field of its own, and hyper puts that into the URI.
        let authority = uri.authority().filter(|_| version == Version::HTTP_2).map(Authority::as_str);
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if authority.is_none_or(|authority| authority.as_bytes() == host.as_bytes()) => {
                host.to_str().map_or(Self::Doubtful, Self::parse)
            }
            (None, _) if authority.is_some() => authority.map_or(Self::Doubtful, Self::parse),
            (None, _) if version == Version::HTTP_10 => Self::Local,
            _ => Self::Doubtful,
        }
    }

    fn parse(host: &str) -> Self {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _port)) => address,
            None => host.split_once(':').map_or(host, |(name, _port)| name),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_local = name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost");
        if is_local { Self::Local } else { Self::Elsewhere }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn addresses_and_localhost_are_local() {
        for host in
            ["127.0.0.1", "127.0.0.1:7649", "[::1]", "[::1]:7649", "192.0.2.1:5000", "LocalHost:7649", "localhost."]
        {
            assert_eq!(Host::parse(host), Host::Local, "{host}");
        }
        for host in
            ["evil.example:7649", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "[::1", "1.2.3:80"]
        {
            assert_eq!(Host::parse(host), Host::Elsewhere, "{host}");
        }
    }

    #[test]
    fn there_is_one_host() {
        let of = |hosts: &[&'static str], version| {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|host| {
                headers.append(HOST, HeaderValue::from_static(host));
            });
            Host::of(version, &Uri::from_static("/"), &headers)
        };
        assert_eq!(of(&["[::1]"], Version::HTTP_11), Host::Local);
        assert_eq!(of(&[], Version::HTTP_11), Host::Doubtful);
        assert_eq!(of(&[], Version::HTTP_10), Host::Local);
        assert_eq!(of(&["a", "a"], Version::HTTP_10), Host::Doubtful);
        assert_eq!(of(&["a"], Version::HTTP_11), Host::Elsewhere);
        assert_eq!(of(&[], Version::HTTP_2), Host::Doubtful);
    }

    #[test]
    fn http_2_says_it_elsewhere_and_only_once() {
        let of = |host: Option<&'static str>, version| {
            let headers = host.into_iter().map(|host| (HOST, HeaderValue::from_static(host))).collect();
            Host::of(version, &Uri::from_static("https://localhost/x"), &headers)
        };
        assert_eq!(of(None, Version::HTTP_2), Host::Local);
        assert_eq!(of(Some("localhost"), Version::HTTP_2), Host::Local);
        assert_eq!(of(Some("elsewhere"), Version::HTTP_2), Host::Doubtful);
        assert_eq!(of(Some("elsewhere"), Version::HTTP_11), Host::Elsewhere, "as it was");
    }
}

//! Which proxy leads to an upstream, by the same rules as for Nix, whose downloads are libcurl's.
//!
//! Source: [libcurl-env](https://curl.se/libcurl/c/libcurl-env.html), `CURLOPT_PROXY` and `CURLOPT_NOPROXY`.

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use std::net::IpAddr;

/// The variables for upstreams with `http://`, the first that is set. Not in capitals: a CGI program would get that one
/// from the header `Proxy` of a request.
const HTTP: &[&str] = &["http_proxy"];
/// The same for `https://`.
const HTTPS: &[&str] = &["https_proxy", "HTTPS_PROXY"];
/// The same for what has no variable of its own.
const ALL: &[&str] = &["all_proxy", "ALL_PROXY"];
/// The hosts for which no proxy is used.
const NONE_FOR: &[&str] = &["no_proxy", "NO_PROXY"];
/// The port of a proxy whose URL has none, as for libcurl; one that is spoken to over TLS has 443.
const PORT: u16 = 1080;

/// The proxies between this machine and the Internet. Loopback addresses are never asked of a proxy.
pub struct Proxies(Matcher);

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// HTTP, with `CONNECT` for TLS to the upstream.
    Http,
    /// SOCKS 5. The proxy looks the names up, whether its URL has `socks5` or `socks5h`.
    Socks,
}

/// A proxy on the way to an upstream.
pub(super) struct Proxy {
    /// Scheme, host and port, and nothing secret.
    pub(super) uri: Uri,
    pub(super) manner: Manner,
    intercept: Intercept,
}

impl Proxies {
    /// The `configured` one for everything (none at all if that is the empty text), else those of the environment. Which
    /// hosts need none is always the environment's to say.
    #[must_use]
    pub fn new(configured: Option<&str>, environment: impl Fn(&str) -> Option<String>) -> Self {
        let first_of = |names: &'static [&'static str]| {
            let set = names.iter().find_map(|name| Some((*name, environment(name).filter(|value| !value.is_empty())?)));
            set.unwrap_or_default()
        };
        let proxy_of = |names: &'static [&'static str]| {
            let (name, value) = first_of(names);
            let usable = value.is_empty() || is_proxy(&value);
            if !usable {
                // Its value may hold a password.
                log::warn!(variable = name; "{name} is not the URL of a proxy that can be used (http, https, socks5): it is not");
            }
            if usable { value } else { String::new() }
        };
        let builder = match configured {
            Some(url) => Matcher::builder().all(url),
            None => Matcher::builder().all(proxy_of(ALL)).http(proxy_of(HTTP)).https(proxy_of(HTTPS)),
        };
        Self(builder.no(hosts(&first_of(NONE_FOR).1)).build())
    }

    /// The proxy on the way to `target`, if there is one.
    pub(super) fn towards(&self, target: &Uri) -> Option<Proxy> {
        if target.host().is_none_or(is_loopback) {
            return None;
        }
        let intercept = self.0.intercept(target)?;
        let uri = intercept.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        let (manner, plain) =
            if scheme.starts_with("socks5") { (Manner::Socks, "http") } else { (Manner::Http, scheme) };
        let port = uri.port_u16().unwrap_or(if plain == "https" { 443 } else { PORT });
        let authority = format!("{}:{port}", uri.host()?);
        let uri = Uri::builder().scheme(plain).authority(authority).path_and_query("/").build().ok()?;
        Some(Proxy { uri, manner, intercept })
    }

    /// What to say to the proxy with each request for `target`: only where it reads them, without TLS.
    pub(super) fn authorization(&self, target: &Uri) -> Option<HeaderValue> {
        if target.scheme_str() == Some("https") {
            return None;
        }
        self.towards(target).filter(|proxy| proxy.manner == Manner::Http)?.authorization().cloned()
    }
}

impl Default for Proxies {
    /// None.
    fn default() -> Self {
        Self(Matcher::builder().build())
    }
}

impl Proxy {
    /// User and password for a proxy that speaks HTTP.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// The same for one that speaks SOCKS.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        self.intercept.raw_auth()
    }
}

/// Whether a text is the URL of a proxy that can be used: `http`, `https`, `socks5` or `socks5h`.
#[must_use]
pub fn is_proxy(text: &str) -> bool {
    let anywhere = Uri::from_static("http://example.org/");
    let intercept = Matcher::builder().all(text).build().intercept(&anywhere);
    intercept
        .is_some_and(|intercept| matches!(intercept.uri().scheme_str(), Some("http" | "https" | "socks5" | "socks5h")))
}

/// A list of hosts as the matcher reads it: libcurl also takes blanks between them, and IPv6 addresses in brackets.
fn hosts(list: &str) -> String {
    let hosts = list.split([',', ' ', '\t']).filter(|host| !host.is_empty());
    hosts.map(|host| host.trim_matches(['[', ']'])).collect::<Vec<_>>().join(",")
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(proxies: &Proxies, target: &str) -> Option<String> {
        proxies.towards(&target.parse().unwrap()).map(|proxy| format!("{:?} {}", proxy.manner, proxy.uri))
    }

    fn from(variables: &[(&str, &str)]) -> Proxies {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Proxies::new(None, get)
    }

    #[test]
    fn the_environment_is_read_as_libcurl_reads_it() {
        let (plain, tls) = ("http://cache.example.org/", "https://cache.example.org/");
        for (variables, for_plain, for_tls) in [
            (&[][..], None, None),
            (&[("http_proxy", "http://p:3128")], Some("Http http://p:3128/"), None),
            (&[("HTTP_PROXY", "http://p:3128")], None, None),
            (&[("https_proxy", "p")], None, Some("Http http://p:1080/")),
            (&[("HTTPS_PROXY", "https://p")], None, Some("Http https://p:443/")),
            (&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:1")], None, Some("Http http://a:1/")),
            (&[("all_proxy", "socks5h://p")], Some("Socks http://p:1080/"), Some("Socks http://p:1080/")),
            (
                &[("ALL_PROXY", "http://a:1"), ("http_proxy", "http://h:1")],
                Some("Http http://h:1/"),
                Some("Http http://a:1/"),
            ),
            (
                &[("all_proxy", "http://[2001:db8::1]:8080/x?y")],
                Some("Http http://[2001:db8::1]:8080/"),
                Some("Http http://[2001:db8::1]:8080/"),
            ),
            // What cannot be used is not, and an empty variable is none.
            (&[("all_proxy", "socks4://p"), ("https_proxy", "ftp://p")], None, None),
            (&[("all_proxy", "http://a:1"), ("http_proxy", "")], Some("Http http://a:1/"), Some("Http http://a:1/")),
        ] {
            let proxies = from(variables);
            assert_eq!(way(&proxies, plain).as_deref(), for_plain, "{variables:?}");
            assert_eq!(way(&proxies, tls).as_deref(), for_tls, "{variables:?}");
        }
    }

    #[test]
    fn some_hosts_need_no_proxy() {
        let list = "example.net .example.com,192.0.2.0/24 , [2001:db8::1],cache.example.org";
        let proxies = from(&[("all_proxy", "http://p:1"), ("NO_PROXY", list)]);
        for direct in [
            "http://example.net/",
            "https://a.b.example.net/",
            "http://x.example.com/",
            "http://192.0.2.7:81/",
            "http://[2001:db8::1]/",
            "https://CACHE.example.org/",
            "http://localhost:8080/",
            "http://a.localhost/",
            "http://127.0.0.2/",
            "http://[::1]/",
        ] {
            assert_eq!(way(&proxies, direct), None, "{direct}");
        }
        for by_proxy in ["http://notexample.net/", "http://192.0.3.7/", "https://example.org/", "http://10.0.0.1/"] {
            assert!(way(&proxies, by_proxy).is_some(), "{by_proxy}");
        }
        assert_eq!(way(&from(&[("all_proxy", "http://p:1"), ("no_proxy", "*")]), "http://example.org/"), None);
    }

    #[test]
    fn the_configured_one_wins() {
        let get = |name: &str| {
            (name == "all_proxy")
                .then(|| "http://a:1".to_owned())
                .or_else(|| (name == "no_proxy").then(|| "example.net".to_owned()))
        };
        let configured = Proxies::new(Some("socks5://c:2"), get);
        assert_eq!(way(&configured, "https://example.org/").as_deref(), Some("Socks http://c:2/"));
        assert_eq!(way(&configured, "https://example.net/"), None);
        assert_eq!(
            way(&Proxies::new(Some(""), get), "https://example.org/"),
            None,
            "none, whatever the environment says"
        );
        assert_eq!(way(&Proxies::default(), "https://example.org/"), None);
    }

    #[test]
    fn logins_are_for_the_proxy_alone() {
        let proxies = from(&[("all_proxy", "http://user:pass%20word@p:1")]);
        let plain: Uri = "http://example.org/".parse().unwrap();
        let sent = proxies.authorization(&plain).unwrap();
        assert!(sent.is_sensitive());
        assert_eq!(sent.to_str().unwrap(), format!("Basic {}", data_encoding::BASE64.encode(b"user:pass word")));
        // Over TLS the upstream would read it.
        assert_eq!(proxies.authorization(&"https://example.org/".parse().unwrap()), None);
        assert_eq!(proxies.towards(&plain).unwrap().uri, "http://p:1/", "what may be shown");
        let socks = from(&[("all_proxy", "socks5://user:pass@p:1")]);
        assert_eq!(socks.towards(&plain).unwrap().login(), Some(("user", "pass")));
        assert_eq!(socks.authorization(&plain), None);
    }
}

//! What the administrator wants of an upstream.

use super::login::Login;
use crate::nix::PublicKey;
use crate::store::Patterns;
use hyper::Uri;
use hyper::http::uri::Scheme;

/// A binary cache on the Internet, as the administrator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// Where it is.
    pub url: Uri,
    /// How it is shown who asks.
    pub login: Login,
    /// The keys by whose signatures it may vouch for paths, if they are trusted as well. `None`: all that are trusted.
    pub public_keys: Option<Vec<PublicKey>>,
    /// Names that are taken from it. `None`: all.
    pub allow: Option<Patterns>,
    /// Names that are not.
    pub deny: Patterns,
    /// Those of a higher tier are asked when those of lower ones do not have a path.
    pub tier: u8,
}

impl From<Uri> for UpstreamOptions {
    fn from(url: Uri) -> Self {
        Self { url, login: Login::default(), public_keys: None, allow: None, deny: Patterns::default(), tier: 1 }
    }
}

impl UpstreamOptions {
    /// Whether a path of this name is taken from it.
    pub(crate) fn may_give(&self, name: &str) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.matching(name).is_some());
        allowed && self.deny.matching(name).is_none()
    }

    /// Whether a URL is of this upstream itself, and not of a place that it redirects to.
    pub(crate) fn is_own(&self, uri: &Uri) -> bool {
        let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
        uri.scheme() == self.url.scheme() && host(uri) == host(&self.url) && port(uri) == port(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> UpstreamOptions {
        url.parse::<Uri>().unwrap().into()
    }

    #[test]
    fn its_own_origin_is_scheme_host_and_port() {
        let upstream = options("https://Cache.example.org/base");
        for (url, own) in [
            ("https://cache.example.org/other", true),
            ("https://cache.example.org:443/", true),
            ("http://cache.example.org/", false),
            ("https://cache.example.org:8443/", false),
            ("https://cache.example.org.evil.example/", false),
            ("https://cdn.example.org/", false),
        ] {
            assert_eq!(upstream.is_own(&url.parse().unwrap()), own, "{url}");
        }
    }

    #[test]
    fn names_are_allowed_and_denied() {
        let patterns = |texts: &[&str]| Patterns::new(texts.iter().map(|text| (*text).to_owned()).collect()).unwrap();
        let everything = options("https://a");
        assert!(everything.may_give("linux-6.1"));
        let deny = UpstreamOptions { deny: patterns(&["*-secret*"]), ..everything.clone() };
        assert!(deny.may_give("linux-6.1") && !deny.may_give("my-secret-1"));
        let both =
            UpstreamOptions { allow: Some(patterns(&["linux-*"])), deny: patterns(&["*-secret*"]), ..everything };
        assert!(both.may_give("linux-6.1") && !both.may_give("bash-5") && !both.may_give("linux-secret"));
    }
}

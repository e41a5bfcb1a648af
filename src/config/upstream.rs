//! `[gateway] upstreams`: a URL, or a table with the URL and what else there is to say of a cache.

use super::error::Problem;
use super::value;
use crate::nix::PublicKey;
use crate::store::Patterns;
use hyper::Uri;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::fmt;
use std::str::FromStr;

/// The tier of an upstream that says nothing of it.
pub const UPSTREAM_TIER: u8 = 1;
/// The most upstreams: each is asked for every path that no peer has.
const UPSTREAMS_MAX: usize = 64;

/// A cache on the Internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: UpstreamUrl,
    /// How it is shown who asks; `None`: not at all.
    pub credential: Option<Credential>,
    /// The keys by whose signatures it may vouch for paths. `None`: all that are trusted.
    pub public_keys: Option<Vec<PublicKey>>,
    /// Patterns over path names: only what matches one is taken from it. `None`: everything.
    pub allow: Option<Vec<String>>,
    /// Patterns over path names that are not taken from it.
    pub deny: Vec<String>,
    /// Upstreams of a higher tier are asked when those of lower ones do not have a path.
    pub tier: u8,
}

impl Upstream {
    /// Its URL, which has a scheme, a host and perhaps a path.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.url.0
    }
}

impl From<UpstreamUrl> for Upstream {
    fn from(url: UpstreamUrl) -> Self {
        Self { url, credential: None, public_keys: None, allow: None, deny: Vec::new(), tier: UPSTREAM_TIER }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.url.0, f)
    }
}

/// An `http` or `https` URL without query, fragment or password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl(Uri);

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Before anything repeats it.
        if text
            .split_once("://")
            .unwrap_or(("", text))
            .1
            .split(['/', '?', '#'])
            .next()
            .is_some_and(|it| it.contains('@'))
        {
            return Err("the URL of a cache holds a user or password, which would show in logs and to every user of this machine; put \
                 them into a systemd credential (`machine HOST login USER password PASSWORD`) and write { url = \"https://HOST\", \
                 credential = { netrc = \"NAME\" } }"
                .to_owned());
        }
        let bad = |why: &str| format!("'{}' {why}, such as https://cache.nixos.org", masked(text));
        let uri: Uri = text.parse().map_err(|_| bad("is not a URL; expected one"))?;
        let host = uri.host().unwrap_or_default();
        if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_empty() {
            return Err(bad("is not the URL of a binary cache; expected http or https and a host"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str() != host && uri.port_u16().is_none()) {
            return Err(bad("has something after its host that is no port; expected a URL without it"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(bad("has a query or a fragment; expected a URL without them"));
        }
        Ok(Self(uri))
    }
}

/// The key of a table that names logins.
pub(super) const CREDENTIAL: &str = "credential";

/// A text for messages, without what may be users and passwords in its URLs, and without what may be logins.
pub(super) fn masked(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("://");
        // Up to the end of the text in quotes: a password may have any character.
        let end = part.find(['"', '\'']).unwrap_or(part.len());
        match part[..end].rfind('@') {
            Some(at) => {
                masked.push('…');
                masked.push_str(&part[at..]);
            }
            None => masked.push_str(part),
        }
    }
    if let Some(at) = masked.find(CREDENTIAL) {
        masked.truncate(at + CREDENTIAL.len());
        masked.push('…');
    }
    masked
}

/// Which systemd credentials of the service show an upstream who asks: names, never the secrets themselves.
///
/// The form is named and not guessed from the content: a token that looks like another form, or a file that was mixed up, is then an
/// error with a name, and never sent as something else.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credential {
    /// A file as Nix's `netrc-file`: the user and password for the host.
    pub netrc: Option<String>,
    /// A token, sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// A client certificate and its key, both as PEM in one file.
    pub certificate: Option<String>,
}

impl Credential {
    /// The names of the credentials, each after the key that names it.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("netrc", &self.netrc), ("bearer", &self.bearer), ("certificate", &self.certificate)]
            .into_iter()
            .filter_map(|(key, name)| Some((key, name.as_deref()?)))
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UrlOrTable;
        impl<'de> Visitor<'de> for UrlOrTable {
            type Value = Upstream;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or a table such as { url = \"https://cache.example.org\", tier = 2 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Upstream, E> {
                text.parse::<UpstreamUrl>().map(Upstream::from).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Upstream, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(table))?;
                let Table { url, credential, public_keys, allow, deny, tier } = table;
                let url = url.ok_or_else(|| A::Error::custom("an upstream has no url"))?;
                let url = url.parse().map_err(A::Error::custom)?;
                Ok(Upstream { url, credential, public_keys, allow, deny, tier })
            }
        }
        deserializer.deserialize_any(UrlOrTable)
    }
}

/// The keys of the table.
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    url: Option<String>,
    #[serde(deserialize_with = "credential")]
    credential: Option<Credential>,
    #[serde(deserialize_with = "value::optional_list")]
    public_keys: Option<Vec<PublicKey>>,
    allow: Option<Vec<String>>,
    deny: Vec<String>,
    tier: u8,
}

impl Default for Table {
    fn default() -> Self {
        Self { url: None, credential: None, public_keys: None, allow: None, deny: Vec::new(), tier: UPSTREAM_TIER }
    }
}

/// Reads the names of credentials. A text in their place may be the login itself, and is not repeated.
fn credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Credential>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Credential;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table such as { netrc = \"NAME\" }")
        }

        fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Credential, E> {
            Err(E::custom("credential says of which form it is: expected a table such as { netrc = \"NAME\" }"))
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Credential, A::Error> {
            Credential::deserialize(MapAccessDeserializer::new(table))
        }
    }
    deserializer.deserialize_any(Names).map(Some)
}

/// Lists what is wrong with upstreams although every single value has the right form.
pub(super) fn check(upstreams: &[Upstream], problems: &mut Vec<Problem>) {
    let mut wrong = |what: String, remedy: &str| problems.push(Problem::of("gateway", "upstreams", what, remedy));
    if upstreams.len() > UPSTREAMS_MAX {
        wrong(format!("more than {UPSTREAMS_MAX} upstreams"), "each is asked for every path that no peer has");
    }
    for (index, upstream) in upstreams.iter().enumerate() {
        if upstreams[..index].iter().any(|other| other.url == upstream.url) {
            wrong(format!("{upstream} is listed twice"), "leave one of them out");
        }
        if upstream.public_keys.as_ref().is_some_and(Vec::is_empty) {
            wrong(
                format!("{upstream} has public_keys = [], so that nothing of it would count"),
                "name the keys by which it may vouch for paths, or leave public_keys out: then all that are trusted count",
            );
        }
        if upstream.allow.as_ref().is_some_and(Vec::is_empty) {
            wrong(
                format!("{upstream} has allow = [], so that nothing would be taken from it"),
                "name patterns such as \"linux-*\", or leave allow out: then everything is taken",
            );
        }
        for (key, patterns) in [("allow", upstream.allow.as_deref().unwrap_or_default()), ("deny", &upstream.deny)] {
            if let Err(error) = Patterns::new(patterns.to_vec()) {
                wrong(
                    format!("{key} of {upstream}: {error}"),
                    "write patterns over names without the hash, such as \"*-secret*\"",
                );
            }
        }
        if let Some(credential) = &upstream.credential {
            check_credential(upstream, credential, &mut wrong);
        }
    }
}

fn check_credential(upstream: &Upstream, credential: &Credential, wrong: &mut impl FnMut(String, &str)) {
    const FORMS: &str = "write credential = { netrc = \"NAME\" }, { bearer = \"NAME\" } or { certificate = \"NAME\" }, where NAME is \
                         a credential of peernix.service (LoadCredential=NAME:FILE)";
    if credential.names().next().is_none() {
        wrong(format!("credential of {upstream} names none"), FORMS);
    }
    if credential.netrc.is_some() && credential.bearer.is_some() {
        wrong(format!("credential of {upstream} has both netrc and bearer, and only one of them can be sent"), FORMS);
    }
    if credential.certificate.is_some() && upstream.uri().scheme_str() != Some("https") {
        wrong(format!("{upstream} cannot be shown a certificate without TLS"), "write https:// in its url");
    }
    for (key, name) in credential.names() {
        if !value::is_credential_name(name) {
            // What is written here by mistake may be the secret itself.
            wrong(format!("{key} in credential of {upstream} is not the name of a systemd credential"), FORMS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for text in [
            "https://cache.nixos.org",
            "http://10.0.0.1:5000/a/b",
            "http://[::1]:80",
            "https://[::1]/",
            "https://a/x@y",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_ok(), "{text}");
        }
        for text in ["", "cache.nixos.org", "ftp://a", "https://", "https://a?b", "https://a/#b", "s3://b"] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text}");
        }
        let odd = "https://user:hunter2/@a".parse::<UpstreamUrl>().unwrap_err();
        assert!(!odd.contains("hunter2"), "{odd}");
        for text in ["https://user:hunter2@a", "https://hunter2@a/b", "user:hunter2@a", "https://a b:hunter2@c"] {
            let error = text.parse::<UpstreamUrl>().unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("credential = { netrc"), "{error}");
        }
    }
}

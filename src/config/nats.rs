//! `[nats]`: the sites that this machine's is joined with.

use super::error::Problem;
use super::value::{self, Addresses};
use crate::peers::holders::ADDRESSES_MAX;
use crate::sites::SiteName;
use serde::Deserialize;
use std::str::FromStr;

/// The most servers: those of one cluster tell of each other.
const SERVERS_MAX: usize = 16;

/// The most that `relay` may be, in bytes.
const RELAY_MAX: u64 = 1 << 30;

/// `[nats]`: the NATS servers that join the sites of one administrator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// The servers, which need JetStream; empty: this machine knows of no other site.
    #[serde(deserialize_with = "value::list")]
    pub servers: Vec<NatsServer>,
    /// The name of the site that this machine is of.
    #[serde(deserialize_with = "value::optional")]
    pub site: Option<SiteName>,
    /// The name of a systemd credential with a NATS credentials file or the seed of an nkey. `None`: the servers are shown nothing.
    #[serde(deserialize_with = "value::optional")]
    pub credential: Option<String>,
    /// Where other sites reach this machine's share; empty: at the addresses that it has.
    pub addresses: Addresses,
    /// The largest NAR that goes over NATS where the direct way between two sites is closed, in bytes; 0: none does.
    #[serde(deserialize_with = "value::size")]
    pub relay: u64,
}

/// The URL of a NATS server: `nats` or `tls`, a host, perhaps a port, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer(String);

impl NatsServer {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NatsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Before anything repeats it.
        if text.contains('@') {
            return Err("the URL of a NATS server holds a user or password, which would show in logs; put a credentials file into a systemd \
                 credential and name that with credential = \"NAME\""
                .to_owned());
        }
        let bad = || {
            format!(
                "'{text}' is not the URL of a NATS server, such as nats://nats.example.org:4222 or tls://nats.example.org"
            )
        };
        let uri: hyper::Uri = text.parse().map_err(|_| bad())?;
        let is_plain = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if !matches!(uri.scheme_str(), Some("nats" | "tls")) || !has_host || !is_plain {
            return Err(bad());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Lists what is wrong.
pub(super) fn check(nats: &Nats, problems: &mut Vec<Problem>) {
    let mut wrong = |key, what: &str, remedy| problems.push(Problem::of("nats", key, what, remedy));
    if nats.servers.len() > SERVERS_MAX {
        wrong("servers", "more than 16 servers", "name a few: the servers of a cluster tell of each other");
    }
    if nats.site.is_none() && !nats.servers.is_empty() {
        wrong(
            "site",
            "servers are named, and not which site this machine is of",
            "write site = \"NAME\", the same on all machines of this network",
        );
    }
    if nats.servers.is_empty()
        && (nats.credential.is_some() || nats.site.is_some() || !nats.addresses.is_empty() || nats.relay > 0)
    {
        wrong(
            "servers",
            "no server is named, so that the other keys mean nothing",
            "write servers = [\"nats://HOST:4222\"], or leave the others out",
        );
    }
    if nats.addresses.0.len() > ADDRESSES_MAX {
        wrong("addresses", "more than 2 addresses", "name those that other sites can reach best");
    }
    if nats.addresses.0.iter().any(|address| address.port() == 0 || address.ip().is_unspecified()) {
        wrong(
            "addresses",
            "one that nobody can connect to",
            "write the address and port that lead to this machine from other sites",
        );
    }
    if nats.relay > RELAY_MAX {
        wrong("relay", "more than 1 GiB, which is nothing for NATS", "write 0 for none, or for example \"64MiB\"");
    }
    if nats.credential.as_ref().is_some_and(|name| !value::is_credential_name(name)) {
        wrong(
            "credential",
            "not the name of a systemd credential",
            "write the name that LoadCredential= of the unit gives it",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_without_secrets() {
        for good in ["nats://nats.example.org", "tls://10.0.0.1:4222", "nats://[::1]:4222/"] {
            good.parse::<NatsServer>().unwrap();
        }
        for bad in ["nats.example.org", "http://a", "nats://a/b", "nats://a?b", "nats://"] {
            assert!(bad.parse::<NatsServer>().unwrap_err().contains(bad), "{bad}");
        }
        let error = "nats://user:hunter2@nats.example.org".parse::<NatsServer>().unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("credential"));
    }
}

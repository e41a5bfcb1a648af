//! A peer with a fixed address, as it is written down: `HOST:PORT` or `NODEID@HOST:PORT`.

use crate::peers::error::PeersError;
use crate::peers::identity::NodeId;
use std::fmt;
use std::str::FromStr;

/// The longest host name, as in DNS, in bytes.
const HOST_MAX: usize = 253;

/// A peer of `[discovery] peers`. Without a node id, whoever answers there is taken (and admitted or not) by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedPeer {
    /// Who must answer, if that is known.
    pub id: Option<NodeId>,
    /// A name, an IPv4 address, or an IPv6 address without its brackets, which may carry a zone (`fe80::1%eth0`).
    pub host: String,
    /// The port of its share.
    pub port: u16,
}

impl FromStr for FixedPeer {
    type Err = PeersError;

    fn from_str(text: &str) -> Result<Self, PeersError> {
        let malformed = || PeersError::FixedPeer(text.chars().take(100).flat_map(char::escape_default).collect());
        let (id, address) = match text.split_once('@') {
            Some((id, address)) => (Some(id.parse().map_err(|_| malformed())?), address),
            None => (None, text),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(literal) => {
                let literal = literal.strip_suffix(']').ok_or_else(malformed)?;
                let (ip, zone) = literal.split_once('%').unwrap_or((literal, "-"));
                let valid = ip.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty() && zone.len() < HOST_MAX;
                valid.then_some(literal).ok_or_else(malformed)?
            }
            None => host,
        };
        let printable = |c: u8| c.is_ascii_graphic() && c != b'/';
        let named = !host.is_empty() && host.len() <= HOST_MAX && host.bytes().all(printable);
        if !named || (host.contains(':') && !address.starts_with('[')) {
            return Err(malformed());
        }
        Ok(Self { id, host: host.to_owned(), port })
    }
}

impl FixedPeer {
    /// Whether both are looked for at the same place.
    pub(crate) fn is_same_address(&self, other: &Self) -> bool {
        self.port == other.port && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl fmt::Display for FixedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.id {
            write!(f, "{id}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    #[test]
    fn forms() {
        let id = NodeKey::from_seed([1; 32]).id();
        for (text, host, known) in [
            ("tower:7650".to_owned(), "tower", None),
            ("192.0.2.7:7650".to_owned(), "192.0.2.7", None),
            ("[2001:db8::1]:7650".to_owned(), "2001:db8::1", None),
            ("[fe80::1%eth0]:7650".to_owned(), "fe80::1%eth0", None),
            (format!("{id}@tower.example:7650"), "tower.example", Some(id)),
        ] {
            let peer: FixedPeer = text.parse().unwrap();
            assert_eq!((peer.id, peer.host.as_str(), peer.port), (known, host, 7650));
            assert_eq!(peer.to_string(), text);
        }
    }

    #[test]
    fn malformed_ones_are_named() {
        for text in [
            "",
            "tower",
            "tower:",
            ":7650",
            "tower:0",
            "tower:65536",
            "2001:db8::1:7650",
            "[2001:db8::1]",
            "[::1:7650",
            "[x]:1",
            "[fe80::1%]:1",
            "abc@tower:7650",
            "to wer:1",
            "http://tower:1",
            "a@b@c:1",
        ] {
            let error = text.parse::<FixedPeer>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("'{text}'")), "{error}");
        }
    }
}

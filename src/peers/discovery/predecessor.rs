//! Machines with a predecessor on the link, while they are replaced: who of them has a path, and where.

use super::go_peernix::GoPeernix;
use super::peerix::Peerix;
use crate::nix::StoreHash;
use std::net::SocketAddr;

/// One of the predecessors. Cheap to clone.
#[derive(Clone)]
pub enum Predecessor {
    /// peerix, written in Python.
    Peerix(Peerix),
    /// The Peernix that is written in Go.
    Go(GoPeernix),
}

impl Predecessor {
    /// Who has a path: where the HTTP server of whoever says so first is.
    pub async fn ask(&self, hash: StoreHash) -> Option<SocketAddr> {
        match self {
            Self::Peerix(peerix) => peerix.ask(hash).await,
            Self::Go(go) => go.ask(hash).await,
        }
    }

    /// Where it has the narinfo of a path, relative to its server.
    #[must_use]
    pub fn narinfo(&self, hash: StoreHash) -> String {
        match self {
            Self::Peerix(_) => format!("local/{hash}.narinfo"),
            Self::Go(_) => format!("nix-cache/{hash}.narinfo"),
        }
    }

    /// Where it has a NAR that its narinfo gives this URL, relative to its server; `None`: it gives none such.
    #[must_use]
    pub fn nar(&self, url: &str) -> Option<String> {
        let is_plain = url.len() <= URL_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
        match self {
            Self::Peerix(_) => (is_plain && url.starts_with("local/nar/")).then(|| url.to_owned()),
            Self::Go(_) => (is_plain && !url.contains(['/', '?', '#', '%'])).then(|| format!("nix-cache/{url}")),
        }
    }
}

/// The longest URL in a narinfo of theirs, in bytes.
const URL_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    #[tokio::test]
    async fn urls_lead_nowhere_else() {
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let go = Predecessor::Go(GoPeernix::new(socket()).unwrap());
        assert_eq!(go.nar("HASH-NAR.nar").as_deref(), Some("nix-cache/HASH-NAR.nar"));
        for url in ["../x", "http://elsewhere/x", "//elsewhere", "a b", "x?y", "%2e%2e"] {
            assert_eq!(go.nar(url), None, "{url}");
        }
        let peerix = Predecessor::Peerix(Peerix::new(socket()).unwrap());
        assert_eq!(peerix.nar("local/nar/eA==.nar").as_deref(), Some("local/nar/eA==.nar"));
        assert_eq!(peerix.nar("HASH-NAR.nar"), None);
    }
}

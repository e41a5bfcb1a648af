//! Peers with a fixed address, from the configuration: `HOST:PORT` or `NODEID@HOST:PORT`.

use super::super::error::{LinkError, PeersError};
use super::super::hub::{Hub, changed};
use super::super::identity::NodeId;
use super::super::table::breaker::Backoff;
use super::super::table::{ADDRESSES_MAX, PeerEvent, Source, State};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

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

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// How often a name is resolved again while the peer is online: it may have moved.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Who looks for one fixed peer.
pub(crate) struct Attendant {
    pub(crate) peer: FixedPeer,
    /// Whether the administrator added it at run time, and under which name if any.
    pub(crate) added: Option<Option<String>>,
    pub(crate) stop: CancellationToken,
    /// Who was found there last.
    found: Mutex<Option<NodeId>>,
}

impl Attendant {
    /// Who was found there last.
    pub(crate) fn found(&self) -> Option<NodeId> {
        *self.found.lock()
    }

    /// Whether it is `id` that is looked for, or was found.
    pub(crate) fn is_for(&self, id: NodeId) -> bool {
        self.peer.id == Some(id) || self.found() == Some(id)
    }
}

/// Begins to look for a fixed peer, until everything stops or its [`Attendant`] is ended.
pub(crate) fn begin(hub: &Arc<Hub>, peer: FixedPeer, added: Option<Option<String>>) {
    let attendant = Arc::new(Attendant { peer, added, stop: hub.stop.child_token(), found: Mutex::default() });
    hub.attendants().push(attendant.clone());
    hub.tasks.spawn(attend(hub.clone(), attendant));
}

/// Looks after one fixed peer: resolves its name, and without a node id finds out who is there.
async fn attend(hub: Arc<Hub>, attendant: Arc<Attendant>) {
    attendant.stop.run_until_cancelled(look(&hub, &attendant)).await;
}

async fn look(hub: &Arc<Hub>, attendant: &Attendant) {
    let fixed = &attendant.peer;
    let mut network = hub.network.clone();
    let mut refresh = hub.refresh.subscribe();
    let mut backoff = Backoff::default();
    let mut reached = false;
    loop {
        // Before the peer is sought, so that its loss is not missed.
        let events = hub.notices.events.subscribe();
        let found = find(hub, attendant).await;
        let away = |id| hub.table.get(id).is_none_or(|peer| peer.state() == State::Offline);
        let (pause, id) = match found {
            // It may be this machine itself, where one configuration is written for all.
            Ok(id) if id == hub.id => (RESOLVE_AGAIN, None),
            Ok(id) if away(id) => (backoff.next(), None),
            Ok(id) => {
                reached = true;
                backoff.reset();
                (RESOLVE_AGAIN, Some(id))
            }
            Err(error) => {
                // A peer that was reached is in the table, and its state is told from there.
                let level = if reached { log::Level::Debug } else { log::Level::Warn };
                reached = true;
                log::log!(level, address:% = fixed, reason:% = error; "fixed peer not reached; it is tried again");
                (backoff.next(), None)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = changed(&mut network) => {}
            () = changed(&mut refresh) => {}
            () = lost(events, id) => {}
        }
    }
}

/// Waits until the peer goes offline; without one, for ever.
async fn lost(mut events: Receiver<PeerEvent>, id: Option<NodeId>) {
    loop {
        match events.recv().await {
            Ok(PeerEvent::Changed { id: other, to: State::Offline, .. } | PeerEvent::Forgotten { id: other, .. })
                if Some(other) == id =>
            {
                return;
            }
            // What was missed may have been it.
            Err(RecvError::Lagged(_)) if id.is_some() => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Resolves the name, finds out who is there where that is not written down, and tells the table.
async fn find(hub: &Arc<Hub>, attendant: &Attendant) -> Result<NodeId, FindError> {
    let fixed = &attendant.peer;
    let resolved = timeout(RESOLVE_LIMIT, tokio::net::lookup_host((fixed.host.as_str(), fixed.port))).await;
    let resolved = resolved.map_err(|_| FindError::Resolve(io::ErrorKind::TimedOut.into()))?;
    let addresses: Vec<SocketAddr> = resolved.map_err(FindError::Resolve)?.take(ADDRESSES_MAX).collect();
    let id = match fixed.id {
        Some(id) => id,
        None => match hub.table.online_at(&addresses) {
            Some(peer) => peer.id(),
            None => hub.dialler.target(None).dial(&addresses).await?.id(),
        },
    };
    if id == hub.id {
        return Ok(id);
    }
    let peer = hub.learn(id, &addresses, Source::Fixed).ok_or(LinkError::NotAdmitted(id))?;
    if let Some(label) = &attendant.added {
        let mut record = peer.record();
        record.added = true;
        record.label.clone_from(label);
    }
    *attendant.found.lock() = Some(id);
    Ok(id)
}

/// Why a fixed peer was not found.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error("cannot resolve the name: {0}")]
    Resolve(io::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::identity::NodeKey;

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

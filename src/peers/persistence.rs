//! Peers remembered over restarts: `peers.json` in the state directory.
//!
//! ```json
//! {"version":1,"peers":[{"id":"…","name":"tower","addresses":["192.0.2.7:7650"],"last_seen":1789000000,
//!   "ban":{"until":1789003600,"reason":"…","left":3600,"written":1789000000}}]}
//! ```
//!
//! It holds those who were online once and those who are banned. Losing it costs a few seconds of looking around, so a
//! file that cannot be read is reported and begun anew.

use super::hello::TEXT_MAX;
use super::identity::NodeId;
use super::link::ADDRESSES_MAX;
use super::record::{Health, PeerStatus, REMEMBERED, RememberedBan, unix};
use super::shared::Shared;
use super::state::Provenance;
use super::table::PEERS_MAX;
use crate::files;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// The name of the file.
pub(super) const FILE: &str = "peers.json";
/// The version of its format.
const VERSION: u32 = 1;
/// The largest file read, in bytes: 4096 peers with all that is kept of each.
pub(super) const SIZE_MAX: u64 = 8 * 1024 * 1024;
/// The least time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    peers: Vec<Remembered>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    id: NodeId,
    name: String,
    addresses: Vec<SocketAddr>,
    /// Seconds since 1970.
    last_seen: Option<u64>,
    ban: Option<RememberedBan>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_seen: Option<u64>,
    /// Only in what is handed over to the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover: Option<Handover>,
}

/// What grows old too soon to be written down, but survives a restart.
#[derive(Debug, Serialize, Deserialize)]
struct Handover {
    measures: Health,
    failures: u32,
    /// For how long the breaker keeps requests away, in milliseconds.
    breaker_ms: Option<u64>,
    bytes_in: u64,
    bytes_out: u64,
}

/// Reads the file in `state_dir` and puts the peers into the table, whose tasks dial them at once.
pub(super) async fn recall(shared: &Arc<Shared>, state_dir: &Path) {
    let path = state_dir.join(FILE);
    let read = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || read(&path)).await
    };
    let peers = match read {
        Ok(Ok(peers)) => peers,
        Ok(Err(error)) => {
            log::warn!("cannot read {}: {error}; remembered peers are forgotten", path.display());
            return;
        }
        // The task cannot be cancelled, and does not panic.
        Err(_) => return,
    };
    take_over(shared, peers);
}

/// Puts peers that were known before into the table; tells how many.
fn take_over(shared: &Arc<Shared>, peers: Vec<Remembered>) -> usize {
    let now = SystemTime::now();
    let time = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map(|time| time.min(now));
    let mut count = 0;
    for one in peers.into_iter().take(PEERS_MAX) {
        let seen = one.last_seen.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let age = seen.map(|seen| now.duration_since(seen).unwrap_or_default());
        let ban = one.ban.and_then(|ban| ban.recall(now));
        if ban.is_none() && age.is_none_or(|age| age > REMEMBERED) {
            continue;
        }
        let addresses: Vec<SocketAddr> = one.addresses.into_iter().take(ADDRESSES_MAX).collect();
        if let Some(peer) = shared.learn(one.id, &addresses, Provenance::Remembered) {
            let mut record = peer.record();
            record.last_seen = seen.map(|seen| seen.min(now));
            record.first_seen = one.first_seen.and_then(time);
            if let Some(handover) = &one.handover {
                record.health.restore(handover.measures);
                record.breaker.restore(
                    handover.failures,
                    handover.breaker_ms.map(Duration::from_millis),
                    Instant::now(),
                );
            }
            if one.name.len() <= TEXT_MAX && !one.name.chars().any(char::is_control) {
                record.name = one.name;
            }
            drop(record);
            if let Some(handover) = one.handover {
                peer.gave(handover.bytes_in);
                peer.took(handover.bytes_out);
            }
            count += 1;
            if let Some(ban) = ban {
                peer.set_ban(ban);
            }
        }
    }
    count
}

fn read(path: &Path) -> io::Result<Vec<Remembered>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut content)?;
    parse(&content)
}

fn parse(content: &[u8]) -> io::Result<Vec<Remembered>> {
    if content.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than {SIZE_MAX} bytes")));
    }
    let content: Content = serde_json::from_slice(content)?;
    if content.version != VERSION {
        return Err(io::Error::other(format!("its version is {}, not {VERSION}", content.version)));
    }
    Ok(content.peers)
}

/// Writes the file whenever something worth remembering changed, at most every few seconds, and once more at the end.
pub(super) async fn keep(shared: Arc<Shared>, state_dir: PathBuf) {
    let mut healthy = true;
    loop {
        let stopping = tokio::select! {
            () = shared.notices.worth_saving.notified() => false,
            () = shared.stop.cancelled() => true,
        };
        let content = gather(&shared, false);
        let dir = state_dir.clone();
        let written = tokio::task::spawn_blocking(move || write(&dir, &content)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => healthy = true,
            // Once: a full disk would else be told of with every peer that comes or goes.
            Err(error) if healthy => {
                healthy = false;
                let path = state_dir.join(FILE);
                log::warn!("cannot write {}: {error}; peers will not be remembered", path.display());
            }
            Err(_) => {}
        }
        if stopping {
            return;
        }
        // The pause between writes; changes meanwhile wait for its end, the end of everything does not.
        let _ = tokio::time::timeout(WRITE_INTERVAL, shared.stop.cancelled()).await;
    }
}

/// The same for the next run of the program, with what was measured.
pub(super) fn export(shared: &Shared) -> Vec<u8> {
    let mut content = gather(shared, true);
    content.peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_seen));
    loop {
        // Texts, numbers and lists of them: there is nothing that JSON could not hold.
        let text = serde_json::to_vec(&content).unwrap_or_default();
        if text.len() as u64 <= SIZE_MAX {
            return text;
        }
        // Never with what honest peers are called; the latest are the most useful.
        content.peers.truncate(content.peers.len() / 2);
    }
}

/// Takes over what [`export`] gave, read off the reactor; tells how many peers.
pub(super) async fn import(shared: &Arc<Shared>, exported: Vec<u8>) -> io::Result<usize> {
    let parsed = tokio::task::spawn_blocking(move || parse(&exported)).await;
    Ok(take_over(shared, parsed.unwrap_or_else(|error| Err(io::Error::other(error)))?))
}

fn gather(shared: &Shared, handover: bool) -> Content {
    let now = Instant::now();
    let mut peers: Vec<Remembered> = Vec::new();
    for peer in shared.table.all() {
        let record = peer.record();
        let ban = record.ban.as_ref().and_then(|ban| ban.remember(SystemTime::now()));
        if ban.is_none() && (record.last_seen.is_none() || record.is_stale() || record.is_far()) {
            continue;
        }
        let (name, addresses) = (record.name.clone(), record.addresses.list());
        let (first_seen, last_seen) = (record.first_seen.and_then(unix), record.last_seen.and_then(unix));
        let measured = handover.then(|| (record.health, record.breaker.failures(), record.breaker.remaining(now)));
        drop(record);
        let handover = measured.map(|(measures, failures, rest)| {
            let breaker_ms = rest.map(|rest| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX));
            let PeerStatus { bytes_in, bytes_out, .. } = peer.status();
            Handover { measures, failures, breaker_ms, bytes_in, bytes_out }
        });
        peers.push(Remembered { id: peer.id(), name, addresses, last_seen, ban, first_seen, handover });
    }
    peers.sort_by_key(|peer| peer.id);
    Content { version: VERSION, peers }
}

fn write(state_dir: &Path, content: &Content) -> io::Result<()> {
    files::create_private_dir(state_dir)?;
    files::replace_atomically(&state_dir.join(FILE), &serde_json::to_vec(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error_and_nothing_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert!(read(&path).unwrap().is_empty());
        for garbage in [&b""[..], b"\0\xff", b"{", br#"{"version":2,"peers":[]}"#, br#"{"version":1,"peers":[{}]}"#] {
            std::fs::write(&path, garbage).unwrap();
            assert!(read(&path).is_err(), "{garbage:?}");
        }
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(SIZE_MAX + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("larger"));
    }
}

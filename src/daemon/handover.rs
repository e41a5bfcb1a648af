//! What a restart takes over: the table of peers and the counters, kept by the service manager in a sealed memory file.

use crate::metrics::Statistics;
use crate::peers::Peers;
use crate::system::fdstore::{self, FdStoreError, Kept};
use crate::system::notify::Notifier;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// The version of the format.
const VERSION: u32 = 1;

/// More than what stands around the two parts, in bytes.
const ENVELOPE: usize = 256;

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Handover {
    version: u32,
    /// When, in nanoseconds since the machine was started: it tells the newest of several. What was left before this was written
    /// counts as the oldest.
    #[serde(default)]
    written: u64,
    peers: Box<RawValue>,
    statistics: Box<RawValue>,
}

/// What the run before left, each part in the form of its room. Trouble is logged: the service then starts cold.
pub(super) fn recall(kept: Kept, notifier: &Notifier) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let Some(handover) = newest(kept.read(notifier)) else { return (None, None) };
    log::info!("peers and counters of the run before are taken over");
    let peers = Some(handover.peers.get()).filter(|peers| *peers != "null");
    (peers.map(Into::into), Some(handover.statistics.get().into()))
}

/// The newest of what was left, of what can be read.
fn newest(left: Vec<Result<Vec<u8>, FdStoreError>>) -> Option<Handover> {
    let read =
        |bytes: Result<Vec<u8>, FdStoreError>| match bytes.map(|bytes| serde_json::from_slice::<Handover>(&bytes)) {
            Ok(Ok(handover)) if handover.version == VERSION => Some(handover),
            Ok(Ok(handover)) => {
                log::info!("the run before left something of version {}, which is not {VERSION}", handover.version);
                None
            }
            Ok(Err(error)) => {
                log::warn!("what the run before left is damaged: {error}");
                None
            }
            Err(error) => {
                log::warn!("what the run before left cannot be read: {error}");
                None
            }
        };
    left.into_iter().filter_map(read).max_by_key(|handover| handover.written)
}

/// Nanoseconds since the machine was started; goes on while it sleeps, and over a soft reboot.
fn now() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Leaves peers and counters for the next run.
pub(super) fn keep(notifier: &Notifier, peers: &Peers, statistics: &Statistics) {
    let raw = |bytes: Vec<u8>| String::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text).ok());
    let (Some(peers), Some(statistics)) = (raw(peers.export()), raw(statistics.export())) else { return };
    let mut handover = Handover { version: VERSION, written: now(), peers, statistics };
    if handover.peers.get().len() + handover.statistics.get().len() > fdstore::STATE_MAX - ENVELOPE {
        // A table as large as that is found again on the network; the counters are not.
        handover.peers = RawValue::NULL.to_owned();
    }
    let left = serde_json::to_vec(&handover).map_err(anyhow::Error::from);
    if let Err(error) = left.and_then(|bytes| Ok(fdstore::keep(notifier, &bytes)?)) {
        log::warn!("peers and counters cannot be left for the next run: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(written: &str, statistics: &str) -> Result<Vec<u8>, FdStoreError> {
        Ok(format!("{{\"version\":1,{written}\"peers\":null,\"statistics\":{statistics}}}").into_bytes())
    }

    #[test]
    fn the_newest_counts_in_whatever_order_they_come() {
        let found = |left: Vec<_>| newest(left).map(|handover| handover.statistics.get().to_owned());
        let versions = || [left("", "0"), left("\"written\":7,", "1"), left("\"written\":9,", "2")];
        let [unstamped, older, newer] = versions();
        assert_eq!(found(vec![newer, older, unstamped]).as_deref(), Some("2"));
        let [unstamped, older, newer] = versions();
        assert_eq!(found(vec![unstamped, older, newer]).as_deref(), Some("2"));
        let [_, older, _] = versions();
        assert_eq!(found(vec![Err(FdStoreError::NotSealed), older, Ok(b"{".to_vec())]).as_deref(), Some("1"));
        assert_eq!(found(vec![Ok(b"{\"version\":2,\"peers\":null,\"statistics\":1}".to_vec())]), None);
    }

    #[test]
    fn time_goes_on() {
        let before = now();
        assert!(before > 0 && now() > before);
    }
}

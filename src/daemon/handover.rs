//! What a restart takes over: the table of peers and the counters, kept by the service manager in a sealed memory file.

use crate::metrics::Statistics;
use crate::peers::Peers;
use crate::system::fdstore::{self, Kept};
use crate::system::notify::Notifier;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format.
const VERSION: u32 = 1;

/// More than what stands around the two parts, in bytes.
const ENVELOPE: usize = 256;

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Handover {
    version: u32,
    peers: Box<RawValue>,
    statistics: Box<RawValue>,
}

/// What the run before left, each part in the form of its room. Trouble is logged: the service then starts cold.
pub(super) fn recall(kept: Kept, notifier: &Notifier) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let bytes = match kept.read(notifier) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return (None, None),
        Err(error) => {
            log::warn!("what the run before left cannot be read: {error}");
            return (None, None);
        }
    };
    match serde_json::from_slice::<Handover>(&bytes) {
        Ok(handover) if handover.version == VERSION => {
            log::info!(bytes = bytes.len(); "peers and counters of the run before are taken over");
            let peers = Some(handover.peers.get()).filter(|peers| *peers != "null");
            (peers.map(Into::into), Some(handover.statistics.get().into()))
        }
        Ok(handover) => {
            log::info!("the run before left something of version {}, which is not {VERSION}", handover.version);
            (None, None)
        }
        Err(error) => {
            log::warn!("what the run before left is damaged: {error}");
            (None, None)
        }
    }
}

/// Leaves peers and counters for the next run.
pub(super) fn keep(notifier: &Notifier, peers: &Peers, statistics: &Statistics) {
    let raw = |bytes: Vec<u8>| String::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text).ok());
    let (Some(peers), Some(statistics)) = (raw(peers.export()), raw(statistics.export())) else { return };
    let mut handover = Handover { version: VERSION, peers, statistics };
    if handover.peers.get().len() + handover.statistics.get().len() > fdstore::STATE_MAX - ENVELOPE {
        // A table as large as that is found again on the network; the counters are not.
        handover.peers = RawValue::NULL.to_owned();
    }
    let left = serde_json::to_vec(&handover).map_err(anyhow::Error::from);
    if let Err(error) = left.and_then(|bytes| Ok(fdstore::keep(notifier, &bytes)?)) {
        log::warn!("peers and counters cannot be left for the next run: {error}");
    }
}

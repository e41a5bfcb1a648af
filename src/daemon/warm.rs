//! What a restart takes over: the table of peers and the counters, kept by the service manager in a sealed memory file.

use crate::metrics::Statistics;
use crate::peers::Peers;
use crate::system::fdstore::{self, Kept};
use crate::system::notify::Notifier;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the format.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Warm {
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
    match serde_json::from_slice::<Warm>(&bytes) {
        Ok(warm) if warm.version == VERSION => {
            log::info!(bytes = bytes.len(); "peers and counters of the run before are taken over");
            (Some(warm.peers.get().into()), Some(warm.statistics.get().into()))
        }
        Ok(warm) => {
            log::info!("the run before left something of version {}, which is not {VERSION}", warm.version);
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
    let kept = serde_json::to_vec(&Warm { version: VERSION, peers, statistics });
    match kept {
        Ok(bytes) => {
            if let Err(error) = fdstore::keep(notifier, &bytes) {
                log::warn!("peers and counters cannot be left for the next run: {error}");
            }
        }
        Err(error) => log::warn!("peers and counters cannot be written down for the next run: {error}"),
    }
}

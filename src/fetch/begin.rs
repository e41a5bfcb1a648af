//! The begin of a transfer: its turn, its share of the memory, and its place in the list that later requests join.

use super::error::TransferError;
use super::ledger::Trace;
use super::pass_through::{self, PassThrough};
use super::stream::{Reader, Stream};
use super::{Fetcher, NarRequest, TransferKey, transfer};
use crate::nix::Compression;
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many transfers may be under way that work on threads of their own: one that hashes, and one that decodes where an
/// upstream compressed. Twice this is well below the 512 blocking threads of tokio, which files and SQLite need as well: so
/// many readers that stand still must not keep everybody else waiting, and the watchdog's questions with them.
pub(super) const TRANSFERS_MAX: usize = 192;
/// How long a transfer waits for its turn before Nix is told to look elsewhere.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long it waits for its share of the memory before it makes do with [`SMALL_WINDOW`].
const MEMORY_WAIT: Duration = Duration::from_secs(1);
/// The window of a transfer for which the memory did not suffice, in bytes: more than what is withheld.
const SMALL_WINDOW: u64 = 256 * 1024;
/// The unit of the memory budget, in bytes.
const BUDGET_UNIT: u64 = 64 * 1024;

impl Fetcher {
    /// Begins a transfer and is its first reader.
    pub(super) async fn start(
        &self,
        request: &NarRequest,
        key: TransferKey,
        offset: u64,
    ) -> Option<(Arc<Stream>, Reader)> {
        let found = self.find(request).await?;
        let turn = match request.compression {
            Compression::None => Some(turn(&self.0.turns).await?),
            // Passed through as it is, it needs no thread.
            _ => None,
        };
        let lookup = Arc::clone(&self.0.lookup);
        if turn.is_some() {
            let size = found.info.nar_size;
            let (window, memory) = self.reserve(if size <= transfer::WHOLE { size } else { transfer::WINDOW }).await;
            let (stream, reader, is_new) = self.enter(&key, offset, || Stream::new(Some(size), window, memory))?;
            if is_new {
                let trace = lookup.ledger.begin(&found.info.path, Some(size));
                let (own, own_trace) = (Arc::clone(&stream), Arc::clone(&trace));
                let transfer = transfer::Transfer { lookup, found, stream: own, trace: own_trace };
                let transfer = async move {
                    let _turn = turn;
                    transfer.run().await
                };
                self.spawn(key, Arc::clone(&stream), trace, transfer);
            }
            return Some((stream, reader));
        }
        let size = key.2;
        for (upstream, url) in found.files_in(&request.compression) {
            match pass_through::open(&upstream, &url, offset, size).await {
                Ok(opened) => {
                    let (window, memory) = self.reserve(size.unwrap_or(u64::MAX).min(transfer::WINDOW)).await;
                    let new = || Stream::from_offset(offset, opened.size, window, memory);
                    let (stream, reader, is_new) = self.enter(&key, offset, new)?;
                    if is_new {
                        let trace = lookup.ledger.begin(&found.info.path, opened.size);
                        let (own, own_trace) = (Arc::clone(&stream), Arc::clone(&trace));
                        let transfer = PassThrough { lookup, upstream, url, stream: own, trace: own_trace };
                        self.spawn(key, Arc::clone(&stream), trace, transfer.run(opened));
                    }
                    return Some((stream, reader));
                }
                Err(error) => log::info!(upstream:% = upstream, path:% = request.hash; "an upstream failed: {error}"),
            }
        }
        None
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<TransferKey, Arc<Stream>>> {
        self.0.transfers.lock()
    }

    /// A reader of the stream of `key`: the one that another request began meanwhile, or a new one.
    fn enter(
        &self,
        key: &TransferKey,
        offset: u64,
        new: impl FnOnce() -> Arc<Stream>,
    ) -> Option<(Arc<Stream>, Reader, bool)> {
        let mut transfers = self.running();
        if let Some(stream) = transfers.get(key)
            && let Some(reader) = stream.reader(offset)
        {
            self.0.metrics.transfers_joined.add(1);
            return Some((Arc::clone(stream), reader, false));
        }
        let stream = new();
        let reader = stream.reader(offset)?;
        transfers.insert(key.clone(), Arc::clone(&stream));
        Some((stream, reader, true))
    }

    /// Runs a transfer, and takes it out of the list when it is over.
    fn spawn(
        &self,
        key: TransferKey,
        stream: Arc<Stream>,
        trace: Arc<Trace>,
        transfer: impl Future<Output = Result<(), TransferError>> + Send + 'static,
    ) {
        self.0.metrics.transfers_started.add(1);
        let fetcher = self.clone();
        self.0.tasks.spawn(async move {
            let outcome = transfer.await;
            fetcher.0.lookup.ledger.end(&trace, &outcome);
            if let Err(TransferError::Corrupt(_)) = outcome {
                fetcher.0.tainted.insert(key.clone(), ());
            }
            let mut transfers = fetcher.running();
            if transfers.get(&key).is_some_and(|current| Arc::ptr_eq(current, &stream)) {
                transfers.remove(&key);
            }
        });
    }

    /// A window of `bytes` and the memory for it; or, where others have all of that for too long, a small one without: a
    /// NAR must not wait for other NARs' readers.
    async fn reserve(&self, bytes: u64) -> (u64, Option<OwnedSemaphorePermit>) {
        let units = units(bytes).min(self.0.memory_units);
        let memory = Arc::clone(&self.0.memory).acquire_many_owned(units);
        match tokio::time::timeout(MEMORY_WAIT, memory).await {
            Ok(Ok(memory)) => (bytes, Some(memory)),
            Ok(Err(_)) | Err(_) => (bytes.min(SMALL_WINDOW), None),
        }
    }
}

/// A turn of [`TRANSFERS_MAX`]; `None` where others have all of them for too long.
async fn turn(turns: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let turn = tokio::time::timeout(TURN_WAIT, Arc::clone(turns).acquire_owned()).await;
    if turn.is_err() {
        log::warn!("{TRANSFERS_MAX} transfers are under way and none ends: another one is refused");
    }
    turn.ok()?.ok()
}

/// Permits of the memory budget for `bytes`.
pub(super) fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_within_bounds() {
        let turns = Arc::new(Semaphore::new(1));
        let first = turn(&turns).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(turn(&turns).await.is_none());
        assert_eq!(begun.elapsed(), TURN_WAIT);
        let (second, ()) = tokio::join!(turn(&turns), async { drop(first) });
        assert!(second.is_some() && begun.elapsed() < TURN_WAIT * 2);
    }
}

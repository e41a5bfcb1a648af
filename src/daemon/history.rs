//! Keeps what was counted, day by day: in the state directory, in one small file.

use crate::files;
use crate::metrics::{HISTORY_MAX, History, Levels, Moment, Statistics};
use crate::store::Store;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

/// The file in the state directory.
const FILE: &str = "history.json";
/// How often is noted what was counted.
const NOTED: Duration = Duration::from_secs(60);
/// Every how many times it is written down: what is lost in a power cut.
const WRITTEN: u64 = 10;
/// Every how many times the store is measured: a scan of its whole database.
const MEASURED: u64 = 60;

/// What is kept of it.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) history: Arc<History>,
    statistics: Arc<Statistics>,
    store: Store,
    file: PathBuf,
}

impl Keeper {
    /// Goes on from what the state directory has; what cannot be read is put aside.
    pub(super) async fn open(state: &Path, statistics: Arc<Statistics>, store: Store) -> Self {
        let (history, file) = (Arc::new(History::default()), state.join(FILE));
        let (begun, from) = (Arc::clone(&history), file.clone());
        // It fails only when the program is being stopped.
        let _ = tokio::task::spawn_blocking(move || read(&begun, &from)).await;
        Self { history, statistics, store, file }
    }

    /// Notes and writes until it is told to stop, and once more then.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut clock = interval(NOTED); // pace
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 0_u64.. {
            let is_over = stop.run_until_cancelled(clock.tick()).await.is_none();
            self.note(tick.is_multiple_of(MEASURED)).await;
            if is_over || (tick > 0 && tick.is_multiple_of(WRITTEN)) {
                self.write().await;
            }
            if is_over {
                return;
            }
        }
    }

    async fn note(&self, measures: bool) {
        let store = self.store.clone();
        let disk = move || Levels {
            disk_free_bytes: store.free().ok(),
            disk_bytes: store.disk_size().ok(),
            ..Levels::default()
        };
        let mut levels = tokio::task::spawn_blocking(disk).await.unwrap_or_default();
        if measures {
            // Without the database nobody knows.
            levels.store_bytes = self.store.size().await.ok();
        }
        // One that goes on while the machine sleeps, as the time of day does.
        let machine = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        self.history.note(self.statistics.totals(), levels, Moment { wall: SystemTime::now(), machine });
    }

    async fn write(&self) {
        let (history, file) = (self.history.export(), self.file.clone());
        let written = tokio::task::spawn_blocking(move || files::replace_atomically(&file, &history)).await;
        if let Ok(Err(error)) = written {
            log::warn!(reason:% = error; "the history of what was done is not kept: cannot write {}: {error}", self.file.display());
        }
    }
}

/// Takes over what a file has, or puts it aside. Blocks.
fn read(history: &History, file: &Path) {
    let taken = match files::read_text(file, HISTORY_MAX) {
        Ok(Some(text)) => history.restore(text.as_bytes(), SystemTime::now()).map_err(|error| error.to_string()),
        Ok(None) => Err(format!("it is larger than {HISTORY_MAX} bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(reason) = taken {
        let aside = file.with_extension("json.bad");
        log::warn!(reason = reason.as_str(); "{} cannot be used: {reason}; the history begins anew, and the file is put aside as {}", file.display(), aside.display());
        let _ = std::fs::rename(file, aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::store::StoreOptions;

    async fn keeper(state: &Path) -> (Keeper, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let statistics = Arc::new(Statistics::new(Arc::clone(&metrics), Vec::new()));
        let store =
            Store::open(StoreOptions { state_dir: state.join("nix"), ..StoreOptions::default() }).await.unwrap();
        (Keeper::open(state, statistics, store).await, metrics)
    }

    #[tokio::test]
    async fn what_was_counted_is_there_after_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let (first, metrics) = keeper(state.path()).await;
        let (history, stop) = (Arc::clone(&first.history), CancellationToken::new());
        let running = tokio::spawn(first.run(stop.clone()));
        while history.days().is_empty() {
            tokio::task::yield_now().await;
        }
        metrics.fetched_peer_bytes.add(70);
        stop.cancel();
        running.await.unwrap();
        let (second, _) = keeper(state.path()).await;
        assert!(!state.path().join("history.json.bad").exists(), "there was nothing to begin with");
        assert_eq!(second.history.days().iter().map(|day| day.bytes_from_peers).sum::<u64>(), 70);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_put_aside() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), "{").unwrap();
        let (keeper, _) = keeper(state.path()).await;
        assert!(keeper.history.days().is_empty());
        assert!(state.path().join("history.json.bad").exists() && !state.path().join(FILE).exists());
    }
}

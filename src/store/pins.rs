//! Pins: paths that an administrator wants to keep, as Nix's own garbage-collector roots.
//!
//! A pin is a symbolic link in our state directory to the store path, which the Nix daemon is told of
//! (`AddIndirectRoot`): from then on Nix keeps the path and its closure while the link is there, whether we run or not.
//! Why, since when and until when is in `pins.json` beside the links. The directory may be ours alone: the daemon looks
//! into it as root. What a garbage collection finds dangling in `gcroots/auto` it removes itself.

mod pin;
mod stored;

pub use pin::{PIN_COPIES_MAX, PIN_REASON_MAX, PINS_MAX, Pin};

use super::{Store, StoreError};
use crate::nix::StorePath;
use parking_lot::RwLock;
use pin::check_reason;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stored::Directory;
use tokio::sync::{Mutex, Notify};

/// The longest wait for the end of a pin before the clock is looked at again: it may be set, and a machine may sleep.
const CLOCK_CHECK: Duration = Duration::from_secs(60);
/// How long the disk is left alone after the end of a pin could not be written down.
const RETRY: Duration = Duration::from_secs(60);

/// All pins of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    directory: Arc<Directory>,
    /// What is written down. Locked for moments only.
    list: RwLock<BTreeMap<StorePath, Pin>>,
    /// Held over a change: one after the other.
    changes: Mutex<()>,
    changed: Notify,
}

impl Pins {
    /// Reads the pins that are kept in `<state_dir>/pins`, and makes that directory. Needs no Nix daemon.
    ///
    /// # Errors
    /// The directory cannot be made, read or written.
    pub async fn open(store: Store, state_dir: &Path) -> Result<Self, StoreError> {
        let (dir, store_dir) = (state_dir.join("pins"), store.dir().clone());
        let (directory, list) = blocking(move || Directory::open(&dir, store_dir)).await?;
        let inner = Inner {
            store,
            directory: Arc::new(directory),
            list: RwLock::new(list),
            changes: Mutex::default(),
            changed: Notify::new(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Every pin, by path.
    #[must_use]
    pub fn list(&self) -> Vec<Pin> {
        self.0.list.read().values().cloned().collect()
    }

    /// Whether `path` itself is pinned.
    #[must_use]
    pub fn is_pinned(&self, path: &StorePath) -> bool {
        self.0.list.read().contains_key(path)
    }

    /// Tells the Nix daemon of all pins again, at the start: somebody may have collected garbage while our directory was
    /// away, or restored it from a backup. One that fails keeps none of the others from it.
    ///
    /// # Errors
    /// The daemon cannot be reached, or refuses: the first failure of all.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let _turn = self.0.changes.lock().await;
        let mut first = None;
        for pin in self.list() {
            if let Err(error) = self.register(&pin.path).await {
                // One that does not answer would be waited for with every pin, and nothing could be pinned meanwhile.
                let is_silent = matches!(error.inner(), StoreError::DaemonSilent { .. });
                first.get_or_insert(error);
                if is_silent {
                    break;
                }
            }
        }
        first.map_or(Ok(()), |error| Err(error.needs_daemon("restoring the pins")))
    }

    /// Keeps `path`, with its closure, until `until`. False if it was kept so before; a different reason or end replaces the
    /// one before.
    ///
    /// # Errors
    /// The path is not valid, the reason or the end make no sense, there are [`PINS_MAX`] pins, or the Nix daemon cannot be
    /// reached.
    pub async fn pin(&self, path: &StorePath, reason: &str, until: Option<SystemTime>) -> Result<bool, StoreError> {
        self.pin_in_copies(path, reason, until, None).await
    }

    /// The same for a path that shall be on so many machines, this one included, 1 to [`PIN_COPIES_MAX`].
    ///
    /// # Errors
    /// As [`Self::pin`], or the number makes no sense.
    pub async fn pin_in_copies(
        &self,
        path: &StorePath,
        reason: &str,
        until: Option<SystemTime>,
        copies: Option<u32>,
    ) -> Result<bool, StoreError> {
        let now = SystemTime::now();
        check_reason(reason)?;
        if copies.is_some_and(|copies| !(1..=PIN_COPIES_MAX).contains(&copies)) {
            return Err(StoreError::Argument(format!("a path may be in 1 to {PIN_COPIES_MAX} copies")));
        }
        if until.is_some_and(|until| until <= now) {
            return Err(StoreError::Argument("the end of the pin is in the past".to_owned()));
        }
        let _turn = self.0.changes.lock().await;
        let mut list = self.copy();
        if list.len() >= PINS_MAX && !list.contains_key(path) {
            return Err(StoreError::TooManyPins { limit: PINS_MAX });
        }
        // Between the next question and the root nothing must collect it. On a connection of its own, because a path that is
        // unpinned at once may go at once.
        let daemon = &self.0.store.0.daemon;
        let mut keeper = daemon.root_keeper().await.map_err(|error| error.needs_daemon("pinning a path"))?;
        daemon.add_temp_root(&mut keeper, path).await?;
        if self.0.store.valid(path).await?.is_none() {
            return Err(StoreError::NotValid(path.clone()));
        }
        let before = list.get(path).cloned();
        let since = before.as_ref().map_or(now, |pin| pin.since);
        let pin = Pin { path: path.clone(), reason: reason.to_owned(), since, until, copies };
        let registered = self.register(path).await;
        if before.as_ref() == Some(&pin) {
            registered?;
            return Ok(false);
        }
        let is_new = before.is_none();
        list.insert(path.clone(), pin);
        let written = match registered {
            Ok(()) => self.write(list).await,
            Err(error) => Err(error.needs_daemon("pinning a path")),
        };
        if written.is_err() && is_new {
            // What was not promised is not kept.
            if let Err(error) = self.unlink(path).await {
                log::warn!(path:% = path, reason:% = error; "the link of a pin that failed cannot be removed");
            }
        }
        written.map(|()| true)
    }

    /// Keeps `path` no longer. False if it was not pinned.
    ///
    /// # Errors
    /// The change cannot be written down.
    pub async fn unpin(&self, path: &StorePath) -> Result<bool, StoreError> {
        let _turn = self.0.changes.lock().await;
        let mut list = self.copy();
        if list.remove(path).is_none() {
            return Ok(false);
        }
        // In this order: a link that is left over is removed at the next start.
        self.write(list).await?;
        self.unlink(path).await?;
        Ok(true)
    }

    /// Removes the pins whose time is over, and says which.
    ///
    /// # Errors
    /// The change cannot be written down.
    pub async fn expire(&self) -> Result<Vec<StorePath>, StoreError> {
        let now = SystemTime::now();
        let over = self.list().into_iter().filter(|pin| pin.until.is_some_and(|until| until <= now));
        let mut removed = Vec::new();
        for pin in over {
            if self.unpin(&pin.path).await? {
                log::info!(path:% = pin.path; "a pin has ended");
                removed.push(pin.path);
            }
        }
        Ok(removed)
    }

    /// Waits until the time of some pin is over, and returns what was removed then. To be called in a loop; may be dropped
    /// at any time.
    pub async fn expired(&self) -> Vec<StorePath> {
        loop {
            let changed = self.0.changed.notified();
            let next = self.list().into_iter().filter_map(|pin| pin.until).min();
            let wait = async {
                match next {
                    Some(until) => {
                        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                        tokio::time::sleep(left.min(CLOCK_CHECK)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => continue,
                () = wait => {}
            }
            match self.expire().await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => return removed,
                Err(error) => {
                    log::warn!(reason:% = error; "a pin that has ended cannot be removed; it is tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Waits until something is pinned or unpinned.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn copy(&self) -> BTreeMap<StorePath, Pin> {
        self.0.list.read().clone()
    }

    async fn register(&self, path: &StorePath) -> Result<(), StoreError> {
        let (directory, linked) = (Arc::clone(&self.0.directory), path.clone());
        let link = blocking(move || directory.link(&linked)).await?;
        self.0.store.0.daemon.add_indirect_root(&link).await
    }

    async fn unlink(&self, path: &StorePath) -> Result<(), StoreError> {
        let (directory, path) = (Arc::clone(&self.0.directory), path.clone());
        blocking(move || directory.unlink(&path)).await
    }

    async fn write(&self, list: BTreeMap<StorePath, Pin>) -> Result<(), StoreError> {
        let directory = Arc::clone(&self.0.directory);
        let list = blocking(move || directory.write(&list).map(|()| list)).await?;
        *self.0.list.write() = list;
        self.0.changed.notify_waiters();
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

//! The layouts of paths that were asked for lately.

use super::layout::Layout;
use super::{StoreError, ValidPath, walk};
use crate::nix::{NarHash, StoreHash};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How much memory they may take, in bytes: 32 MiB, some 600,000 files.
const CACHE_MAX: u64 = 32 * 1024 * 1024;
/// How many walks may go on at once: enough to overlap, few enough to leave the disk to those who read.
const WALKS_MAX: usize = 4;
/// How many damaged paths are remembered as reported.
const COMPLAINTS_MAX: u64 = 1024;

/// What a layout is for: path, content, and registration (a path may be deleted and come back).
type Key = (StoreHash, NarHash, u64);

/// The cache of layouts. Those who ask at the same time for the same one share a walk.
#[derive(Debug)]
pub(super) struct Layouts {
    /// Where the files of the store really are.
    store: PathBuf,
    cache: Cache<Key, Arc<Layout>>,
    walks: Arc<Semaphore>,
    complaints: moka::sync::Cache<StoreHash, ()>,
}

impl Layouts {
    pub(super) fn new(store: PathBuf) -> Self {
        let weight = |_: &Key, layout: &Arc<Layout>| u32::try_from(layout.memory()).unwrap_or(u32::MAX);
        Self {
            store,
            // The one asked for last will be asked for again, for its next part.
            cache: Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .weigher(weight)
                .max_capacity(CACHE_MAX)
                .build(),
            walks: Arc::new(Semaphore::new(WALKS_MAX)),
            complaints: moka::sync::Cache::new(COMPLAINTS_MAX),
        }
    }

    /// The layout of `path`, if it is there and nobody found the files changed.
    pub(super) async fn cached(&self, path: &ValidPath) -> Option<Arc<Layout>> {
        let key = key(path);
        let layout = self.cache.get(&key).await?;
        if layout.is_stale() {
            self.cache.invalidate(&key).await;
            return None;
        }
        Some(layout)
    }

    /// The layout of `path` by a walk, one's own or another's.
    pub(super) async fn walked(&self, path: &ValidPath) -> Result<Arc<Layout>, StoreError> {
        let walk = async {
            let turn = Arc::clone(&self.walks).acquire_owned().await.map_err(|_| StoreError::Closed)?;
            let (store, info) = (self.store.clone(), path.info.clone());
            let walk = move || {
                let _turn = turn;
                walk::walk(&store, &info.path, info.nar_hash)
            };
            let layout = tokio::task::spawn_blocking(walk).await.map_err(|_| StoreError::Closed)??;
            if layout.nar_size() != path.info.nar_size {
                let what = format!(
                    "its files make a NAR of {} bytes, and the database says {}",
                    layout.nar_size(),
                    path.info.nar_size
                );
                return Err(StoreError::Corrupt { path: path.info.path.clone(), what });
            }
            Ok(Arc::new(layout))
        };
        Ok(self.cache.try_get_with(key(path), walk).await?)
    }

    /// Forgets all of them, and says how many bytes they took.
    pub(super) async fn clear(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        let size = self.cache.weighted_size();
        self.cache.invalidate_all();
        self.cache.run_pending_tasks().await;
        size
    }

    /// Tells the administrator about a path that cannot be served, once.
    pub(super) fn complain(&self, path: &ValidPath, error: &StoreError) {
        if !self.complaints.contains_key(&path.info.path.hash()) {
            self.complaints.insert(path.info.path.hash(), ());
            log::warn!(path:% = path.info.path, reason:% = error; "a path of the store cannot be served");
        }
    }
}

fn key(path: &ValidPath) -> Key {
    (path.info.path.hash(), path.info.nar_hash, path.registration_time)
}

//! This machine's store: what is in it, its bytes, and what of it may be shared.
//!
//! Path infos come from Nix's database, or from the Nix daemon where this user cannot read the database. NARs are made from
//! the files, from any offset, by a layout that is kept; while one is sent, its path is a temp root of the daemon's.
#![forbid(unsafe_code)]

pub mod policy;

mod daemon;
mod database;
mod debuginfo;
mod error;
mod extras;
mod garbage;
mod intact;
mod layout;
mod layouts;
mod listing;
mod logs;
mod narinfo_disk_cache;
mod offered;
mod options;
mod pattern;
mod pins;
mod prefetch;
mod reader;
mod record;
mod roots;
mod stream;
mod walk;

#[cfg(test)]
mod tests;

pub use database::BUILT_MAX;
pub use error::StoreError;
pub use extras::{DebugInfo, Realisation};
pub use garbage::{Garbage, GarbageOptions, GarbagePath, GarbageProgress, PROTECTED_MAX};
pub use layout::Layout;
pub use narinfo_disk_cache::{NarInfoDiskCache, Remembered};
pub use offered::Offered;
pub use options::StoreOptions;
pub use pattern::{PatternError, Patterns};
pub use pins::{PIN_COPIES_MAX, PIN_REASON_MAX, PINS_MAX, Pin, Pins};
pub use policy::{Audience, Decision, PolicyOptions, Reason, SharePolicy, SharePolicyMode};
pub use prefetch::{PREFETCH_MAX, Prefetch, PrefetchProgress, PrefetchResult, Prefetched};
pub use record::ValidPath;
pub use stream::ByteStream;

use crate::files;
use crate::metrics::Latency;
use crate::nix::{NarHash, StoreDir, StoreHash, StorePath};
use daemon::Daemon;
use database::Database;
use debuginfo::DebugPaths;
use http_body_util::BodyExt as _;
use layouts::Layouts;
use listing::ListingSource;
use reader::NarSource;
use roots::{RootGuard, Roots};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stream::Blocks;
use tokio::time::timeout;

/// How long the daemon has for an answer where the database is being written to: it may have to wait for the same lock.
const INSTEAD_OF_BUSY: Duration = Duration::from_secs(3);

/// How the store is read at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// From its database.
    Database,
    /// Through the Nix daemon, because the database cannot be read by this user.
    Daemon,
}

/// A store of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: StoreDir,
    /// Where the files of the store really are.
    real_dir: PathBuf,
    log_dir: PathBuf,
    database: Arc<Database>,
    daemon: Arc<Daemon>,
    roots: Roots,
    layouts: Layouts,
    blocks: Arc<Blocks>,
    debug_paths: DebugPaths,
    /// What was said last about how the store is read, and about temp roots: said again only when it changes.
    access: Said,
    protection: Said,
}

impl Store {
    /// Opens the store.
    ///
    /// Works without one too: what is not there yet may come later, and until then every question is answered with
    /// [`StoreError::Missing`]. [`Self::check`] tells.
    ///
    /// # Errors
    /// A directory in `options` that is not absolute.
    // Asynchronous because a task is started, which needs a runtime.
    #[allow(clippy::unused_async)]
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let StoreOptions { dir, state_dir, root, log_dir, daemon_socket } = options;
        for (key, path) in [("[store] state_dir", &state_dir), ("[store] root", &root)] {
            if !path.is_absolute() {
                let what = format!("'{}' is not an absolute path", path.display());
                return Err(StoreError::Configuration { key, what });
            }
        }
        let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let real_state = below(&state_dir);
        // `NIX_STATE_DIR` is `…/var/nix`, and `NIX_LOG_DIR` is `…/var/log/nix`.
        let log_dir = log_dir.unwrap_or_else(|| below(&state_dir.parent().unwrap_or(&state_dir).join("log/nix")));
        let socket = daemon_socket.unwrap_or_else(|| real_state.join("daemon-socket/socket"));
        let real_dir = below(Path::new(dir.as_str()));
        let daemon = Arc::new(Daemon::new(socket, dir.clone()));
        Ok(Self(Arc::new(Inner {
            database: Arc::new(Database::new(real_state.join("db/db.sqlite"), dir.clone())),
            roots: Roots::start(Arc::clone(&daemon)),
            layouts: Layouts::new(real_dir.clone()),
            blocks: Arc::new(Blocks::new()),
            debug_paths: DebugPaths::new(),
            access: Said::default(),
            protection: Said::default(),
            daemon,
            dir,
            real_dir,
            log_dir,
        })))
    }

    /// The store directory as it is written in paths.
    #[must_use]
    pub fn dir(&self) -> &StoreDir {
        &self.0.dir
    }

    /// How the store is read at the moment.
    ///
    /// # Errors
    /// There is no store, or it cannot be read; the message says what to do.
    pub async fn check(&self) -> Result<Access, StoreError> {
        match self.0.database.newest().await {
            Ok(_) => Ok(Access::Database),
            Err(database) => match self.0.daemon.greet().await {
                Ok(()) => Ok(Access::Daemon),
                Err(daemon) => Err(self.unreadable(database, daemon)),
            },
        }
    }

    /// The valid path with this hash part, `None` if there is none. New paths are seen at once.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub async fn path_info(&self, hash: StoreHash) -> Result<Option<Arc<ValidPath>>, StoreError> {
        let database = match self.0.database.path_info(hash).await {
            Ok(found) => {
                if self.0.access.changes_to(Said::GOOD) {
                    log::info!(path:% = self.0.database.file().display(); "the store is read from its database");
                }
                return Ok(found);
            }
            // The daemon reads the same records.
            Err(error @ (StoreError::Record { .. } | StoreError::Closed)) => return Err(error),
            Err(error) => error,
        };
        // One who is in our way may be in the daemon's.
        let patience = if database.is_passing() { INSTEAD_OF_BUSY } else { Duration::MAX };
        let Ok(by_daemon) = timeout(patience, self.0.daemon.path_info(hash)).await else { return Err(database) };
        match by_daemon {
            Ok(found) => {
                if self.0.access.changes_to(Said::FALLEN_BACK) {
                    log::warn!(reason:% = database; "the store's database cannot be read; the Nix daemon is asked instead");
                }
                Ok(found.map(Arc::new))
            }
            Err(error @ StoreError::Record { .. }) => Err(error),
            Err(daemon) => Err(self.unreadable(database, daemon)),
        }
    }

    /// The layout of `path`, from the cache or by a walk.
    ///
    /// # Errors
    /// The path is gone, damaged, or cannot be read.
    pub async fn layout(&self, path: &ValidPath) -> Result<Arc<Layout>, StoreError> {
        if let Some(layout) = self.0.layouts.cached(path).await {
            return Ok(layout);
        }
        let _root = self.protect(&path.info.path).await;
        match self.0.layouts.walked(path).await {
            Ok(layout) => Ok(layout),
            Err(error) => {
                // What was being deleted while it was walked over looks damaged, and is not.
                self.still_valid(&path.info.path, path.info.nar_hash).await?;
                self.0.layouts.complain(path, &error);
                Err(error)
            }
        }
    }

    /// The bytes `range` of the NAR. The path is protected from garbage collection while the stream lives.
    ///
    /// # Errors
    /// The range is not inside the NAR, or the path is gone.
    pub async fn nar(&self, layout: &Arc<Layout>, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let size = layout.nar_size();
        if range.start > range.end || range.end > size {
            return Err(StoreError::Range { start: range.start, end: range.end, size });
        }
        let root = self.protect(layout.path()).await;
        // Garbage collection may have come first. From here on it cannot come any more.
        self.still_valid(layout.path(), layout.nar_hash()).await?;
        let length = range.end - range.start;
        let source = NarSource::new(Arc::clone(layout), &self.0.real_dir, &range, root);
        Ok(ByteStream::new(source, Some(length), Arc::clone(&self.0.blocks)))
    }

    /// The bytes `range` of the NAR of `path`, all at once: for parts that fit into memory.
    ///
    /// # Errors
    /// As [`Self::layout`] and [`Self::nar`].
    pub async fn read(&self, path: &ValidPath, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let layout = self.layout(path).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default());
        let mut stream = self.nar(&layout, range).await?;
        while let Some(frame) = stream.frame().await {
            bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
        Ok(bytes)
    }

    /// The outputs of derivations that were built here at `since` or later, the newest first, [`BUILT_MAX`] at most. Only the database knows them.
    ///
    /// # Errors
    /// There is no store, or its database cannot be read.
    pub async fn built(&self, since: SystemTime) -> Result<Vec<Arc<ValidPath>>, StoreError> {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut found = Vec::new();
        for path in self.0.database.built(since).await? {
            found.extend(self.valid(&path).await?);
        }
        Ok(found)
    }

    /// How many bytes are free where the store is. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn free(&self) -> io::Result<u64> {
        files::free_space(&self.0.real_dir)
    }

    /// How large the disk of the store is, in bytes. Blocks.
    ///
    /// # Errors
    /// What the system says.
    pub fn disk_size(&self) -> io::Result<u64> {
        files::disk_size(&self.0.real_dir)
    }

    /// The sizes of the NARs of all paths together, in bytes. Only the database knows them.
    ///
    /// # Errors
    /// There is no store, or its database cannot be read.
    pub async fn size(&self) -> Result<u64, StoreError> {
        self.0.database.size().await
    }

    /// Has it noted how long questions to the database take.
    pub fn measure(&self, took: Latency) {
        self.0.database.measure(took);
    }

    /// Other paths of the same package and output as `path`, the newest first, `most` of them at most. Only the database knows them.
    ///
    /// # Errors
    /// There is no store, or its database cannot be read.
    pub async fn other_versions(&self, path: &StorePath, most: usize) -> Result<Vec<Arc<ValidPath>>, StoreError> {
        let mut found = Vec::new();
        for other in self.0.database.other_versions(path).await?.into_iter().take(most) {
            found.extend(self.valid(&other).await?);
        }
        Ok(found)
    }

    /// The listing (`.ls`, version 1 with `narOffset`) as JSON, with its exact length.
    ///
    /// # Errors
    /// A name in the path is not UTF-8: then there is no listing.
    pub async fn listing(&self, layout: &Arc<Layout>) -> Result<ByteStream, StoreError> {
        let length = match layout.listing_len().get() {
            Some(length) => *length,
            None => {
                let measured = Arc::clone(layout);
                let measure = move || ListingSource::measure(&measured);
                let length = tokio::task::spawn_blocking(measure).await.map_err(|_| StoreError::Closed)??;
                *layout.listing_len().get_or_init(|| length)
            }
        };
        let source = ListingSource::new(Arc::clone(layout));
        Ok(ByteStream::new(source, Some(length), Arc::clone(&self.0.blocks)))
    }

    /// Moves whenever something may have become valid, or is no longer. Must be called within a tokio runtime.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        database::changes(&self.0.database)
    }

    /// Gives up what is only kept to be quick, and estimates how many bytes that was: layouts, spare buffers, the list of
    /// debug information, idle connections to the database and the daemon. What is in use stays.
    pub async fn drop_caches(&self) -> u64 {
        let freed = self.0.layouts.clear().await + self.0.blocks.drop_spare() + self.0.debug_paths.clear().await;
        self.0.daemon.hang_up();
        let database = Arc::clone(&self.0.database);
        // Closing files may take its time.
        let closed = tokio::task::spawn_blocking(move || database.close_idle()).await.unwrap_or_default();
        freed + closed
    }

    /// The valid path that is exactly `path`.
    async fn valid(&self, path: &StorePath) -> Result<Option<Arc<ValidPath>>, StoreError> {
        Ok(self.path_info(path.hash()).await?.filter(|found| found.info.path == *path))
    }

    /// Makes sure that `path` is (still) valid, with this content.
    async fn still_valid(&self, path: &StorePath, nar_hash: NarHash) -> Result<(), StoreError> {
        let valid = self.valid(path).await?.is_some_and(|found| found.info.nar_hash == nar_hash);
        if valid { Ok(()) } else { Err(StoreError::Gone(path.clone())) }
    }

    /// Makes `path` a temp root, as well as that can be done: without a daemon there is none, and the path is sent all the
    /// same.
    async fn protect(&self, path: &StorePath) -> Option<RootGuard> {
        match self.0.roots.hold(path).await {
            Ok(guard) => {
                self.0.protection.changes_to(Said::GOOD);
                Some(guard)
            }
            Err(error) => {
                if self.0.protection.changes_to(Said::FALLEN_BACK) {
                    log::warn!(reason:% = error; "paths that are being sent are not protected from garbage collection");
                }
                None
            }
        }
    }

    /// The error when neither way to the store works.
    fn unreadable(&self, database: StoreError, daemon: StoreError) -> StoreError {
        if database.is_passing() && daemon.is_absent() {
            return database;
        }
        if database.is_absent() && daemon.is_absent() {
            return StoreError::Missing {
                database: self.0.database.file().to_owned(),
                socket: self.0.daemon.socket().to_owned(),
            };
        }
        StoreError::Unreadable { database: Box::new(database), daemon: Box::new(daemon) }
    }
}

/// What was last said in the log about something, so that it is not said again with every request.
#[derive(Debug, Default)]
struct Said(AtomicU8);

impl Said {
    /// It is as it should be, which goes without saying at first.
    const GOOD: u8 = 0;
    /// It is not.
    const FALLEN_BACK: u8 = 1;

    /// Whether this is news.
    fn changes_to(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) != state && self.0.swap(state, Ordering::Relaxed) != state
    }
}

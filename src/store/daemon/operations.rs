//! What changes the store: garbage collection, garbage-collector roots, and fetching from substituters.
//!
//! Source: `remote-store.cc`, `daemon.cc` and `gc.cc` of Nix 2.3 to 2.36. Each of these may take hours. So each has a
//! connection of its own, and whoever loses interest drops the future: the daemon notices the closed connection and stops,
//! at the latest after the path that it is at. `ignoreLiveness` is never set, so the daemon itself makes sure that nothing
//! goes that is still needed; and every user of the daemon may do all this.

use super::connection::Connection;
use super::frames::Tell;
use super::wire::WireError;
use super::{Daemon, ROOT_TIMEOUT};
use crate::nix::{StoreDir, StorePath};
use crate::store::StoreError;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

const QUERY_MISSING: u64 = 40;
const ENSURE_PATH: u64 = 10;
const ADD_INDIRECT_ROOT: u64 = 12;
const COLLECT_GARBAGE: u64 = 20;

/// How long such an operation may take. A daemon that hangs for longer is not worth waiting for.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// How many paths one answer may name: a million, ten times a large store, at some 100 bytes each.
const PATHS_MAX: u64 = 1 << 20;

/// What a collection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collection<'a> {
    /// Name what is dead.
    Find,
    /// Delete all that is dead.
    All,
    /// Delete these, all of which must be dead. Those that refer to others come before them, or in the same call.
    These(&'a [StorePath]),
}

/// What a collection came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// The paths that are dead, or were deleted.
    pub(crate) paths: Vec<StorePath>,
    /// How many more there were that have no name of a store path: what interrupted builds left behind.
    pub(crate) nameless: u64,
    /// The bytes that were freed on the disk.
    pub(crate) bytes: u64,
}

/// What would have to be fetched for some paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What some substituter has, closures included.
    pub(crate) fetched: Vec<StorePath>,
    /// How much would be downloaded, in bytes.
    pub(crate) download_size: u64,
    /// How much that is once unpacked, in bytes.
    pub(crate) nar_size: u64,
}

impl Daemon {
    /// Collects garbage, or looks for it. What the daemon says meanwhile goes to `tell`: before it deletes a path, it says so.
    pub(crate) async fn collect_garbage(
        &self,
        collection: Collection<'_>,
        tell: Tell<'_>,
    ) -> Result<Collected, StoreError> {
        let mut connection = self.connect().await?;
        self.within(OPERATION_TIMEOUT, connection.collect_garbage(&self.dir, collection, tell)).await
    }

    /// Makes the symbolic link `link` a root: the path that it leads to is kept while the link is there.
    pub(crate) async fn add_indirect_root(&self, link: &str) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        self.within(ROOT_TIMEOUT, connection.add_indirect_root(link)).await
    }

    /// A connection of its own for fetching.
    pub(crate) async fn fetcher(&self) -> Result<Fetcher<'_>, StoreError> {
        Ok(Fetcher { daemon: self, connection: self.connect().await? })
    }
}

/// A connection over which paths are fetched. Of no use any more after an error that is not [`StoreError::Refused`].
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    daemon: &'a Daemon,
    connection: Connection<UnixStream>,
}

impl Fetcher<'_> {
    /// What would have to be fetched for `paths`.
    pub(crate) async fn missing(&mut self, paths: &[StorePath]) -> Result<Missing, StoreError> {
        self.daemon.within(OPERATION_TIMEOUT, self.connection.missing(&self.daemon.dir, paths)).await
    }

    /// Makes `path` valid with its closure, from substituters. Never builds.
    pub(crate) async fn ensure(&mut self, path: &StorePath, tell: Tell<'_>) -> Result<(), StoreError> {
        self.daemon.within(OPERATION_TIMEOUT, self.connection.ensure(&self.daemon.dir, path, tell)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) async fn collect_garbage(
        &mut self,
        dir: &StoreDir,
        collection: Collection<'_>,
        tell: Tell<'_>,
    ) -> Result<Collected, WireError> {
        let (action, paths) = match collection {
            Collection::Find => (1, &[][..]),
            Collection::All => (2, &[][..]),
            Collection::These(paths) => (3, paths),
        };
        self.wire.write_number(COLLECT_GARBAGE).await?;
        self.wire.write_number(action).await?;
        self.wire.write_strings(&full(dir, paths)).await?;
        // Whether to ignore liveness; the most to free, which is no limit here; three options that are gone.
        for number in [0, u64::MAX, 0, 0, 0] {
            self.wire.write_number(number).await?;
        }
        self.wire.flush().await?;
        self.read_frames_to(tell).await?;
        let (paths, nameless) = self.read_paths(dir).await?;
        let bytes = self.wire.read_number().await?;
        let _always_zero = self.wire.read_number().await?;
        Ok(Collected { paths, nameless, bytes })
    }

    pub(super) async fn add_indirect_root(&mut self, link: &str) -> Result<(), WireError> {
        self.begin(ADD_INDIRECT_ROOT, link).await?;
        let _always_one = self.wire.read_number().await?;
        Ok(())
    }

    pub(super) async fn missing(&mut self, dir: &StoreDir, paths: &[StorePath]) -> Result<Missing, WireError> {
        self.wire.write_number(QUERY_MISSING).await?;
        self.wire.write_strings(&full(dir, paths)).await?;
        self.wire.flush().await?;
        self.read_frames_to(&mut |_| ()).await?;
        let _built = self.read_paths(dir).await?;
        let (fetched, _) = self.read_paths(dir).await?;
        let _unknown = self.read_paths(dir).await?;
        let (download_size, nar_size) = (self.wire.read_number().await?, self.wire.read_number().await?);
        Ok(Missing { fetched, download_size, nar_size })
    }

    pub(super) async fn ensure(&mut self, dir: &StoreDir, path: &StorePath, tell: Tell<'_>) -> Result<(), WireError> {
        self.wire.write_number(ENSURE_PATH).await?;
        self.wire.write_string(&dir.join(path)).await?;
        self.wire.flush().await?;
        self.read_frames_to(tell).await?;
        let _always_one = self.wire.read_number().await?;
        Ok(())
    }

    /// Reads a list of paths, and counts what is in it that is none.
    async fn read_paths(&mut self, dir: &StoreDir) -> Result<(Vec<StorePath>, u64), WireError> {
        let count = self.wire.read_number().await?;
        if count > PATHS_MAX {
            return Err(WireError::Protocol("an answer names more than a million paths"));
        }
        let (mut paths, mut nameless) = (Vec::new(), 0);
        for _ in 0..count {
            match dir.parse(&self.wire.read_string().await?) {
                Ok(path) => paths.push(path),
                Err(_) => nameless += 1,
            }
        }
        Ok((paths, nameless))
    }
}

fn full(dir: &StoreDir, paths: &[StorePath]) -> Vec<String> {
    paths.iter().map(|path| dir.join(path)).collect()
}

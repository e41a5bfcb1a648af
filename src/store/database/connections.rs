//! The connections to the database: few, read-only, opened anew when the file is another one.

use super::columns::Columns;
use super::error::QueryError;
use crate::nix::StoreDir;
use crate::store::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many connections there are at most. A question takes some 20 µs, so this is for overlapping disk waits.
const CONNECTIONS_MAX: usize = 4;
/// How many questions may scan a whole table at once; the quick ones must never wait for them.
const SCANS_MAX: usize = 1;
/// How long SQLite waits for a lock. Readers of a write-ahead log wait only while it is being recovered.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that SQLite caches for a connection, in bytes: its default.
const PAGE_CACHE: u64 = 2000 * 1024;
/// How many statements a connection keeps prepared.
const STATEMENTS_MAX: usize = 16;

/// The database of a store. It need not exist (yet).
#[derive(Debug)]
pub(crate) struct Database {
    file: PathBuf,
    dir: StoreDir,
    idle: Mutex<Vec<Handle>>,
    quick: Arc<Semaphore>,
    scans: Arc<Semaphore>,
}

/// One connection and what it was made for.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) connection: Connection,
    pub(super) columns: Columns,
    /// Device and inode of the database when it was opened: another pair under the same name is another database.
    identity: (u64, u64),
}

impl Database {
    /// The database `file` of a store with paths in `dir`. Opens nothing yet.
    pub(crate) fn new(file: PathBuf, dir: StoreDir) -> Self {
        Self {
            file,
            dir,
            idle: Mutex::new(Vec::new()),
            quick: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
        }
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Asks a question that an index answers.
    pub(super) async fn quick<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(&self.quick, question).await
    }

    /// Asks a question that needs a whole table.
    pub(super) async fn scan<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(&self.scans, question).await
    }

    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        permits: &Arc<Semaphore>,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let this = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            // Held until the thread is done, even when nobody waits for the answer any more.
            let _permit = permit;
            this.ask_now(question)
        });
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn ask_now<T>(&self, question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError>) -> Result<T, StoreError> {
        let identity = self.identity()?;
        if let Some(handle) = self.take_idle(identity) {
            match question(&handle, &self.dir) {
                Ok(answer) => {
                    self.put_back(handle);
                    return Ok(answer);
                }
                Err(QueryError::Record(error)) => {
                    self.put_back(handle);
                    return Err(error);
                }
                // A connection can go stale in ways that the inode does not show (a changed schema, a vanished write-ahead
                // log): a new one decides.
                Err(QueryError::Sqlite(error)) => {
                    log::debug!(reason:% = error; "the store's database is opened anew");
                }
            }
        }
        let handle = self.connect(identity).map_err(|source| self.error(source))?;
        match question(&handle, &self.dir) {
            Ok(answer) => {
                self.put_back(handle);
                Ok(answer)
            }
            Err(QueryError::Record(error)) => Err(error),
            Err(QueryError::Sqlite(source)) => Err(self.error(source)),
        }
    }

    /// Device and inode of the file.
    fn identity(&self) -> Result<(u64, u64), StoreError> {
        let metadata =
            std::fs::metadata(&self.file).map_err(|source| StoreError::Io { file: self.file.clone(), source })?;
        if !metadata.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(StoreError::Io { file: self.file.clone(), source });
        }
        Ok((metadata.dev(), metadata.ino()))
    }

    fn take_idle(&self, identity: (u64, u64)) -> Option<Handle> {
        let mut idle = self.idle.lock();
        idle.retain(|handle| handle.identity == identity);
        idle.pop()
    }

    /// Closes the connections that nobody uses, and says roughly how many bytes they took.
    pub(crate) fn close_idle(&self) -> u64 {
        let idle = std::mem::take(&mut *self.idle.lock());
        idle.len() as u64 * PAGE_CACHE
    }

    fn put_back(&self, handle: Handle) {
        let mut idle = self.idle.lock();
        if idle.len() < CONNECTIONS_MAX {
            idle.push(handle);
        }
    }

    fn connect(&self, identity: (u64, u64)) -> Result<Handle, rusqlite::Error> {
        // One thread at a time uses a connection, so SQLite's own mutexes are not needed.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(read_only_uri(&self.file), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // A mapping would turn a truncated file into a killed process.
        connection.pragma_update(None, "mmap_size", 0)?;
        let columns = Columns::of(&connection)?;
        Ok(Handle { connection, columns, identity })
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { file: self.file.clone(), source }
    }
}

/// `file` as an SQLite URI that asks for reading only.
///
/// Source: [SQLite on URI filenames](https://www.sqlite.org/uri.html): `%`, `?` and `#` are escaped; here everything is
/// that could mean something.
fn read_only_uri(file: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    uri.push_str("?mode=ro");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_file_names_survive_the_uri() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a b?c#d%e&mode=rw ä.sqlite");
        Connection::open(&file).unwrap().execute_batch("create table t (x); insert into t values (7);").unwrap();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(read_only_uri(&file), flags).unwrap();
        let seven: i64 = connection.query_row("select x from t", [], |row| row.get(0)).unwrap();
        assert_eq!(seven, 7);
        assert!(connection.execute_batch("insert into t values (8)").is_err(), "it is read-only");
    }
}

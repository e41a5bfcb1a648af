//! The connections to the database: few, read-only, opened anew when the file is another one.

use super::columns::Columns;
use super::error::QueryError;
use super::recent::Recent;
use super::stamp::{self, FileId, Mark, Opened};
use crate::metrics::Latency;
use crate::nix::StoreDir;
use crate::resilience::{Backoff, Schedule};
use crate::store::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many connections there are at most. A question takes some 20 µs, so this is for overlapping disk waits.
const CONNECTIONS_MAX: usize = 4;
/// How many questions may scan a whole table at once; the quick ones must never wait for them.
const SCANS_MAX: usize = 1;
/// How long a question is asked again while somebody else is at work in the database. Nix holds its locks for milliseconds; readers of
/// a write-ahead log wait only while it is being recovered.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a quick question waits in all, also for those before it.
const QUICK_MAX: Duration = Duration::from_secs(4);
/// The pauses before a question is asked again.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(1), factor: 2, most: Duration::from_millis(50), spread: true };
/// How long a database may be at work. One that has been for longer is not busy but broken: something holds its lock for good, or died
/// and left half of a transaction to the next Nix.
const BUSY_MAX: Duration = Duration::from_secs(60);
/// In the place of device and inode.
const NO_FILE: FileId = (0, 0);
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
    /// The file, open as long as there may be connections to it.
    opened: Mutex<Option<Arc<Opened>>>,
    /// What was asked lately.
    pub(super) recent: Recent,
    /// Since when nothing could be read because somebody else was at work.
    busy_since: Mutex<Option<Instant>>,
    /// It was said that the file is read as it lies there.
    lies_there: AtomicBool,
    /// How long questions took, where somebody wants to know.
    took: OnceLock<Latency>,
}

/// One connection and what it was made for.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) connection: Connection,
    pub(super) columns: Columns,
    /// Device and inode of the database when it was opened: another pair under the same name is another database.
    identity: FileId,
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
            opened: Mutex::new(None),
            recent: Recent::new(),
            busy_since: Mutex::new(None),
            lies_there: AtomicBool::new(false),
            took: OnceLock::new(),
        }
    }

    /// Has it noted from now on how long questions take.
    pub(crate) fn measure(&self, took: Latency) {
        // Whoever came first is told.
        let _ = self.took.set(took);
    }

    /// Where it is.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What the content can be told by from every other one, at this moment. Asks nobody.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.opened().ok()?.mark().ok()?
    }

    /// The same inside a question, for what it is about to read.
    pub(super) fn mark_for(&self, handle: &Handle) -> Option<Mark> {
        // One that reads the file as it lies there is for no file in particular, and is held against it afterwards.
        let is_about = |mark: &Mark| mark.database == handle.identity || handle.identity == NO_FILE;
        self.mark().filter(is_about)
    }

    /// Asks a question that an index answers.
    pub(super) async fn quick<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let answer = timeout(QUICK_MAX, self.ask(&self.quick, question)).await;
        if let Some(took) = self.took.get() {
            took.observe(begun.elapsed());
        }
        answer.unwrap_or_else(|_| Err(self.busy(stamp::written_meanwhile())))
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

    /// Asks until nobody is in the way.
    fn ask_now<T>(&self, question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError>) -> Result<T, StoreError> {
        let (begun, mut pauses) = (Instant::now(), Backoff::new(PAUSES));
        loop {
            let error = match self.attempt(&question) {
                Err(QueryError::Sqlite(error)) if stamp::is_passing(&error) => error,
                answer => {
                    *self.busy_since.lock() = None;
                    return answer.map_err(|error| self.error(error));
                }
            };
            let pause = pauses.next_pause();
            if begun.elapsed() + pause > PATIENCE || self.is_stuck() {
                return Err(self.busy(error));
            }
            // On a thread for that.
            std::thread::sleep(pause); // backoff
        }
    }

    /// Asks once. What was read while somebody wrote without SQLite's knowledge is no answer.
    fn attempt<T>(&self, question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let unreadable = |source| QueryError::Store(StoreError::Io { file: self.file.clone(), source });
        let opened = self.opened().map_err(unreadable)?;
        let stamp = || opened.stamp().map_err(unreadable);
        if !opened.has_log().map_err(unreadable)? {
            let before = stamp()?;
            let answer = self.read(opened.identity, &question);
            return if before.is_at_rest() && before == stamp()? {
                answer
            } else {
                Err(stamp::written_meanwhile().into())
            };
        }
        // With a log every question sees one state, whoever writes.
        match self.read(opened.identity, &question) {
            Err(QueryError::Sqlite(error)) if stamp::needs_files(&error) => {
                let before = stamp()?;
                if !before.is_at_rest() {
                    return Err(error.into());
                }
                let answer = self.read_as_it_lies(&question, &error);
                if before == stamp()? { answer } else { Err(stamp::written_meanwhile().into()) }
            }
            answer => answer,
        }
    }

    /// The file that is there now.
    fn opened(&self) -> io::Result<Arc<Opened>> {
        let identity = Opened::identity_of(&self.file)?;
        let mut opened = self.opened.lock();
        if let Some(opened) = &*opened
            && opened.identity == identity
        {
            return Ok(Arc::clone(opened));
        }
        // What was open is another database, and its connections are not used any more.
        let new = Arc::new(Opened::new(&self.file)?);
        *opened = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Asks by a connection that is kept, or a new one.
    fn read<T>(
        &self,
        identity: FileId,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        if let Some(handle) = self.take_idle(identity) {
            match question(&handle, &self.dir) {
                // A connection can go stale in ways that the inode does not show (a changed schema, a vanished write-ahead
                // log): a new one decides.
                Err(QueryError::Sqlite(error)) if !stamp::is_passing(&error) => {
                    log::debug!(reason:% = error; "the store's database is opened anew");
                }
                answer => {
                    self.put_back(handle);
                    return answer;
                }
            }
        }
        let handle = self.connect(read_only_uri(&self.file), identity)?;
        let answer = question(&handle, &self.dir);
        if !matches!(answer, Err(QueryError::Sqlite(_))) {
            self.lies_there.store(false, Relaxed);
            self.put_back(handle);
        }
        answer
    }

    /// Asks by a connection that takes the file for all there is. It knows nothing of changes, so it is for this question alone, and
    /// whether the answer counts is for the caller to find out.
    fn read_as_it_lies<T>(
        &self,
        question: impl Fn(&Handle, &StoreDir) -> Result<T, QueryError>,
        reason: &rusqlite::Error,
    ) -> Result<T, QueryError> {
        if !self.lies_there.swap(true, Relaxed) {
            log::warn!(
                path:% = self.file.display(), reason:% = reason;
                "nobody has the store's database open, and this user may not make the files beside it that SQLite needs \
                 (Nix before 2.22 removes them); it is read as it lies there, which is slower"
            );
        }
        let handle = self.connect(read_only_uri(&self.file) + "&immutable=1", NO_FILE)?;
        question(&handle, &self.dir)
    }

    fn take_idle(&self, identity: FileId) -> Option<Handle> {
        let mut idle = self.idle.lock();
        idle.retain(|handle| handle.identity == identity);
        idle.pop()
    }

    /// Closes the connections that nobody uses, and says roughly how many bytes they took.
    pub(crate) fn close_idle(&self) -> u64 {
        let idle = std::mem::take(&mut *self.idle.lock());
        idle.len() as u64 * PAGE_CACHE + self.recent.clear()
    }

    fn put_back(&self, handle: Handle) {
        let mut idle = self.idle.lock();
        if idle.len() < CONNECTIONS_MAX {
            idle.push(handle);
        }
    }

    fn connect(&self, uri: String, identity: FileId) -> Result<Handle, rusqlite::Error> {
        // One thread at a time uses a connection, so SQLite's own mutexes are not needed.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri, flags)?;
        // Who is in the way is waited for in one place, whatever the error is called.
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // A mapping would turn a truncated file into a killed process.
        connection.pragma_update(None, "mmap_size", 0)?;
        let columns = Columns::of(&connection)?;
        Ok(Handle { connection, columns, identity })
    }

    fn error(&self, error: QueryError) -> StoreError {
        match error {
            QueryError::Store(error) => error,
            QueryError::Sqlite(source) => StoreError::Database { file: self.file.clone(), source },
        }
    }

    /// Somebody is at work in the database for longer than a question can wait, perhaps for good.
    fn busy(&self, source: rusqlite::Error) -> StoreError {
        self.busy_since.lock().get_or_insert_with(Instant::now);
        let file = self.file.clone();
        if self.is_stuck() { StoreError::Database { file, source } } else { StoreError::Busy { file, source } }
    }

    /// Whether nobody waits for the database any more.
    fn is_stuck(&self) -> bool {
        self.busy_since.lock().is_some_and(|since| since.elapsed() > BUSY_MAX)
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

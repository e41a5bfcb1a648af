//! What shows whether somebody wrote to the database while it was read, where SQLite's own locks do not.
//!
//! Two such cases. With `use-sqlite-wal = false` Nix keeps a rollback journal and locks with a directory beside the database (SQLite's
//! `unix-dotfile`), which somebody who only reads cannot take part in. And a database that is read as it lies there, because SQLite
//! would have to make files to read it, is not locked at all.

use parking_lot::Mutex;
use rusqlite::{Error, ffi};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How much of the file is looked at, in bytes: SQLite's header.
///
/// Source: [Database file format](https://www.sqlite.org/fileformat2.html#the_database_header): 18 and 19 are the versions of the
/// format (2 with a write-ahead log), 24 to 27 the change counter.
const HEADER: usize = 100;
/// How much of the index of the write-ahead log is looked at, in bytes: the first copy of its header. The byte at 12 says that it is one.
///
/// Source: [WAL-mode file format](https://www.sqlite.org/walformat.html#the_wal_index_header): every commit counts up in it, as the last
/// thing it does before others can see what was committed.
const INDEX_HEADER: usize = 48;
const INDEX_IS_INIT: usize = 12;

/// The file of the database, kept open to look at its header.
///
/// It must not be closed while SQLite has the same file open: the locks of a process are gone when it closes any descriptor of the file
/// ([How to corrupt an SQLite database file, 2.2](https://www.sqlite.org/howtocorrupt.html)). Nix would then take itself for the only
/// one who has the database open, and remove the write-ahead log under our hands.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    path: PathBuf,
    /// Device and inode: another pair under the same name is another database.
    pub(super) identity: FileId,
    /// The index of the write-ahead log, with its own identity. Kept open for the same reason.
    index: Mutex<Option<(File, FileId)>>,
}

/// What tells the content of a database from every other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Which file it is.
    pub(super) database: FileId,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// With a write-ahead log: the header of its index.
    Log(FileId, [u8; INDEX_HEADER]),
    /// Without one, and nobody is writing.
    Rest(Stamp),
}

/// Device and inode.
pub(super) type FileId = (u64, u64);

/// A state of the database's files. Another one is another content, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    times: [(i64, i64); 2],
    header: [u8; HEADER],
    /// How long the rollback journal is, in bytes; nothing when nobody writes.
    journal: u64,
    /// How long the write-ahead log is, in bytes.
    log: u64,
}

impl Opened {
    /// Device and inode of the file under this name now.
    pub(super) fn identity_of(path: &Path) -> io::Result<FileId> {
        identity(&std::fs::metadata(path)?)
    }

    /// Opens the file under this name.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity(&file.metadata()?)?;
        Ok(Self { file, path: path.to_owned(), identity, index: Mutex::new(None) })
    }

    /// Whether the database keeps a write-ahead log.
    pub(super) fn has_log(&self) -> io::Result<bool> {
        Ok(self.header()?[18..20] == [2, 2])
    }

    /// The state now.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let metadata = self.file.metadata()?;
        Ok(Stamp {
            size: metadata.len(),
            times: [(metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec())],
            header: self.header()?,
            journal: length(&beside(&self.path, "-journal"))?,
            log: length(&beside(&self.path, "-wal"))?,
        })
    }

    /// What this content can be told by from every other one; `None` if it cannot be, as while somebody writes without a log.
    ///
    /// A few system calls on files that the system has in memory, so that it may be asked for anywhere.
    pub(super) fn mark(&self) -> io::Result<Option<Mark>> {
        let content = if let Some((index, header)) = self.index_header()? {
            (header[INDEX_IS_INIT] != 0).then_some(Content::Log(index, header))
        } else {
            let stamp = self.stamp()?;
            stamp.is_at_rest().then_some(Content::Rest(stamp))
        };
        Ok(content.map(|content| Mark { database: self.identity, content }))
    }

    /// The header of the index of the write-ahead log, and which file that is; `None` if there is none.
    fn index_header(&self) -> io::Result<Option<(FileId, [u8; INDEX_HEADER])>> {
        let path = beside(&self.path, "-shm");
        let now = match std::fs::metadata(&path) {
            Ok(metadata) => identity(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut index = self.index.lock();
        if index.as_ref().is_none_or(|(_, identity)| *identity != now) {
            // The one that was open has no name any more, so that nobody else can meet it under a lock that closing it undoes.
            let file = File::open(&path)?;
            let identity = identity(&file.metadata()?)?;
            *index = Some((file, identity));
        }
        let mut header = [0; INDEX_HEADER];
        let Some((file, identity)) = &*index else { return Ok(None) };
        file.read_at(&mut header, 0)?;
        Ok(Some((*identity, header)))
    }

    /// The header; zeros where the file is shorter.
    fn header(&self) -> io::Result<[u8; HEADER]> {
        let mut header = [0; HEADER];
        self.file.read_at(&mut header, 0)?;
        Ok(header)
    }
}

impl Stamp {
    /// Whether all there is lies in the file itself, and nobody is writing.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.journal == 0 && self.log == 0
    }
}

/// Which file it is.
fn identity(metadata: &Metadata) -> io::Result<FileId> {
    if metadata.is_file() {
        Ok((metadata.dev(), metadata.ino()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn length(file: &Path) -> io::Result<u64> {
    match std::fs::metadata(file) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whether SQLite refused because somebody else is at work in the database: it may be over in a moment.
pub(super) fn is_passing(error: &Error) -> bool {
    let Error::SqliteFailure(failure, _) = error else { return false };
    match failure.extended_code {
        // A journal that somebody is writing looks as if it were left over, and one who only reads cannot roll it back.
        ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY | ffi::SQLITE_READONLY_CANTLOCK => true,
        code => matches!(code & 0xff, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_PROTOCOL),
    }
}

/// Whether SQLite refused because it would have to make files to read this database, and this user may not.
pub(super) fn needs_files(error: &Error) -> bool {
    let Error::SqliteFailure(failure, _) = error else { return false };
    matches!(failure.extended_code & 0xff, ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN) && !is_passing(error)
}

/// What a question comes to that was asked while somebody wrote.
pub(super) fn written_meanwhile() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some("it was written to while it was read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn a_state_shows_formats_and_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("db.sqlite");
        assert_eq!(Opened::new(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Opened::identity_of(directory.path()).is_err(), "a directory is none");
        let writer = Connection::open(&file).unwrap();
        writer.execute_batch("pragma journal_mode = truncate; create table t (x)").unwrap();
        let opened = Opened::new(&file).unwrap();
        assert_eq!(opened.identity, Opened::identity_of(&file).unwrap());
        let rest = opened.stamp().unwrap();
        assert!(rest.is_at_rest() && !opened.has_log().unwrap());
        assert_eq!(rest, opened.stamp().unwrap());
        writer.execute_batch("begin immediate; insert into t values (1)").unwrap();
        assert!(!opened.stamp().unwrap().is_at_rest(), "there is a journal");
        writer.execute_batch("commit").unwrap();
        let after = opened.stamp().unwrap();
        assert!(after.is_at_rest() && after != rest, "the change counter moved");
        let mode: String = writer.query_row("pragma journal_mode = wal", [], |row| row.get(0)).unwrap();
        writer.execute_batch("insert into t values (2)").unwrap();
        let is_at_rest = opened.stamp().unwrap().is_at_rest();
        assert_eq!((mode.as_str(), opened.has_log().unwrap(), is_at_rest), ("wal", true, false));
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let failure = |code| Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_RECOVERY, ffi::SQLITE_LOCKED, ffi::SQLITE_READONLY_ROLLBACK] {
            assert!(is_passing(&failure(code)) && !needs_files(&failure(code)), "{code}");
        }
        for code in [ffi::SQLITE_READONLY_DIRECTORY, ffi::SQLITE_CANTOPEN] {
            assert!(!is_passing(&failure(code)) && needs_files(&failure(code)), "{code}");
        }
        assert!(!is_passing(&failure(ffi::SQLITE_NOTADB)) && !needs_files(&failure(ffi::SQLITE_NOTADB)));
        assert!(is_passing(&written_meanwhile()));
    }
}

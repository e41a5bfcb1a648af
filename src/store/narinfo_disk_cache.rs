//! What Nix itself remembers of the answers of binary caches: its disk cache of look-ups, a file of SQLite for each user who asks, and
//! root's for the Nix daemon.
//!
//! Nix remembers for a month that a cache has a path and for an hour that it has not, whatever happens meanwhile. Its tables are
//! `BinaryCaches` (a row a cache, by its URL), `NARs` (a row an answer, `present` or not) and the build traces.

use super::StoreError;
use crate::nix::StoreHash;
use rusqlite::{Connection, OpenFlags, params};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the files are called; between them is the version of the schema, which has been 6 to 8 since Nix 2.4.
const NAME: (&str, &str) = ("binary-cache-v", ".sqlite");
/// The most files that a folder has: one for each schema that ever was.
const FILES_MAX: usize = 16;
/// How long a Nix that writes is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The tables of build traces, by the names that they have had.
const TRACES: [&str; 2] = ["Realisations", "BuildTrace"];

/// One file of what Nix remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfoDiskCache {
    file: PathBuf,
}

/// What Nix remembers that a cache said of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The URL of the cache.
    pub url: String,
    /// Whether it has the path.
    pub present: bool,
    /// When it said so, in seconds since 1970.
    pub timestamp: u64,
}

impl NarInfoDiskCache {
    /// The files in `folder`, which is Nix's cache folder of one user; none if there is no such folder.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn in_folder(folder: &Path) -> io::Result<Vec<Self>> {
        let entries = match folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let is_one = |name: &str| {
            let version = name.strip_prefix(NAME.0).and_then(|rest| rest.strip_suffix(NAME.1));
            version.is_some_and(|version| !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit()))
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_one))
            .map(|entry| entry.path())
            .take(FILES_MAX)
            .collect();
        files.sort();
        Ok(files.into_iter().map(|file| Self { file }).collect())
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is remembered of a path that the caches whose URL `is_meant` were asked for.
    ///
    /// # Errors
    /// If the file cannot be read, or is none of Nix's.
    pub fn of_path(&self, is_meant: impl Fn(&str) -> bool, hash: StoreHash) -> Result<Vec<Remembered>, StoreError> {
        let database = self.open(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        self.caches(&database, is_meant)?
            .into_iter()
            .filter_map(|(id, url)| {
                let row = database.query_row(
                    "select present, timestamp from NARs where cache = ? and hashPart = ?",
                    params![id, hash.to_string()],
                    |row| Ok((row.get::<_, i64>(0)? != 0, row.get::<_, i64>(1)?)),
                );
                match row {
                    Ok((present, timestamp)) => {
                        let timestamp = u64::try_from(timestamp).unwrap_or_default();
                        Some(Ok(Remembered { url, present, timestamp }))
                    }
                    Err(rusqlite::Error::QueryReturnedNoRows) => None,
                    Err(error) => Some(Err(self.failed(error))),
                }
            })
            .collect()
    }

    /// Has Nix ask the caches whose URL `is_meant` again for `hashes`, or for everything, `nix-cache-info` included. Returns how many
    /// answers were forgotten.
    ///
    /// A process of Nix that runs has its own memory beside this, until it ends.
    ///
    /// # Errors
    /// If the file cannot be written to, or is none of Nix's; then nothing of it is forgotten.
    pub fn forget(&self, is_meant: impl Fn(&str) -> bool, hashes: Option<&[StoreHash]>) -> Result<usize, StoreError> {
        let mut database = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let forget = |database: &mut Connection, caches: Vec<i64>| -> rusqlite::Result<usize> {
            let transaction = database.transaction()?;
            let mut forgotten = 0;
            for cache in caches {
                let Some(hashes) = hashes else {
                    forgotten += transaction.execute("delete from NARs where cache = ?", [cache])?;
                    for table in TRACES.iter().filter(|table| transaction.table_exists(None, **table).unwrap_or(false))
                    {
                        forgotten += transaction.execute(&format!("delete from {table} where cache = ?"), [cache])?;
                    }
                    // The row itself stays: a Nix that runs knows it by its number.
                    transaction.execute("update BinaryCaches set timestamp = 0 where id = ?", [cache])?;
                    continue;
                };
                for hash in hashes {
                    let hash = hash.to_string();
                    let one = "delete from NARs where cache = ? and hashPart = ?";
                    forgotten += transaction.execute(one, params![cache, hash])?;
                }
            }
            transaction.commit()?;
            Ok(forgotten)
        };
        let caches = self.caches(&database, is_meant)?.into_iter().map(|(id, _)| id).collect();
        forget(&mut database, caches).map_err(|error| self.failed(error))
    }

    fn open(&self, mode: OpenFlags) -> Result<Connection, StoreError> {
        let open = || {
            let database = Connection::open_with_flags(&self.file, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            database.busy_timeout(BUSY_TIMEOUT)?;
            Ok(database)
        };
        open().map_err(|error| self.failed(error))
    }

    /// The numbers and URLs of the caches that are meant.
    fn caches(&self, database: &Connection, is_meant: impl Fn(&str) -> bool) -> Result<Vec<(i64, String)>, StoreError> {
        let all = || -> rusqlite::Result<Vec<(i64, String)>> {
            let mut caches = database.prepare("select id, url from BinaryCaches")?;
            caches.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let all = all().map_err(|error| self.failed(error))?;
        Ok(all.into_iter().filter(|(_, url)| is_meant(url)).collect())
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Database { file: self.file.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "http://127.0.0.1:7649";
    const OTHER: &str = "https://cache.nixos.org";

    /// A file with what these tests need of Nix's schema 6. The lab has the real ones.
    fn cache(folder: &Path, name: &str) -> NarInfoDiskCache {
        let file = folder.join(name);
        let database = Connection::open(&file).unwrap();
        database
            .execute_batch(
                "create table BinaryCaches (id integer primary key, url text unique not null, timestamp integer not null);
                 create table NARs (cache integer not null, hashPart text not null, timestamp integer not null, present integer
                   not null, primary key (cache, hashPart), foreign key (cache) references BinaryCaches(id) on delete cascade);
                 create table Realisations (cache integer not null, outputId text not null);
                 insert into BinaryCaches values (1, 'https://cache.nixos.org', 100), (2, 'http://127.0.0.1:7649', 200);
                 insert into Realisations values (1, 'a'), (2, 'a');",
            )
            .unwrap();
        for cache in [1, 2] {
            for (number, present) in [(1_u8, 0), (2, 1)] {
                let row = params![cache, hash(number).to_string(), 1000 + i64::from(number), present];
                database.execute("insert into NARs values (?, ?, ?, ?)", row).unwrap();
            }
        }
        NarInfoDiskCache { file }
    }

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    fn is_gateway(url: &str) -> bool {
        url == GATEWAY
    }

    #[test]
    fn files_of_every_schema_are_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(NarInfoDiskCache::in_folder(&folder.path().join("none")).unwrap(), []);
        for name in [
            "binary-cache-v7.sqlite",
            "binary-cache-v6.sqlite",
            "binary-cache-v6.sqlite-journal",
            "binary-cache-v.sqlite",
            "x",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = NarInfoDiskCache::in_folder(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|cache| cache.file().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["binary-cache-v6.sqlite", "binary-cache-v7.sqlite"]);
    }

    #[test]
    fn one_path_is_forgotten_of_the_caches_that_are_meant() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), "binary-cache-v6.sqlite");
        let miss = Remembered { url: GATEWAY.to_owned(), present: false, timestamp: 1001 };
        assert_eq!(cache.of_path(is_gateway, hash(1)).unwrap(), [miss]);
        assert_eq!(cache.forget(is_gateway, Some(&[hash(1), hash(9)])).unwrap(), 1);
        assert_eq!(cache.of_path(is_gateway, hash(1)).unwrap(), []);
        assert!(cache.of_path(is_gateway, hash(2)).unwrap()[0].present);
        assert_eq!(cache.of_path(|url| url == OTHER, hash(1)).unwrap().len(), 1);
    }

    #[test]
    fn everything_is_forgotten_but_the_number_of_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), "binary-cache-v6.sqlite");
        assert_eq!(cache.forget(is_gateway, None).unwrap(), 3);
        let database = Connection::open(cache.file()).unwrap();
        let count = |question: &str| database.query_row(question, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("select count(*) from NARs where cache = 1"), 2);
        assert_eq!(count("select count(*) from Realisations"), 1);
        assert_eq!(count("select timestamp from BinaryCaches where id = 2"), 0, "nix-cache-info is asked for again");
        assert_eq!(count("select timestamp from BinaryCaches where id = 1"), 100);
    }

    #[test]
    fn a_file_that_is_none_of_nixs_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("binary-cache-v6.sqlite");
        std::fs::write(&file, "no database").unwrap();
        let [cache] = &NarInfoDiskCache::in_folder(folder.path()).unwrap()[..] else { panic!("one file") };
        let error = cache.forget(is_gateway, None).unwrap_err().to_string();
        assert!(error.contains("binary-cache-v6.sqlite"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"no database");
    }
}

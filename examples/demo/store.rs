//! Makes a store with signed paths, without Nix: files, and the database in the form that Nix gives it (schema 10).
//!
//! Source: the tables that `nix-store --init` makes. Nix reads and verifies the result as its own.

use super::content::{Node, Random, directory, write};
use anyhow::Context as _;
use peernix::nix::hash::Hash;
use peernix::nix::{PathInfo, SecretKey, StoreDir, StoreHash, StorePath};
use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;

/// How many libraries the closure has.
const LIBRARIES: u64 = 20;
/// How many small files its documentation has.
const PAGES: u64 = 1500;
/// The largest page of the documentation, in bytes.
const PAGE_MAX: u64 = 4096;
/// The smallest and largest library, in bytes.
const LIBRARY: [u64; 2] = [64 * 1024, 1536 * 1024];

/// The tables of Nix that hold the paths.
const SCHEMA: &str = "
    create table ValidPaths (
        id integer primary key autoincrement not null, path text unique not null, hash text not null,
        registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
    create table Refs (
        referrer integer not null, reference integer not null, primary key (referrer, reference),
        foreign key (referrer) references ValidPaths(id) on delete cascade,
        foreign key (reference) references ValidPaths(id) on delete restrict);
    create index IndexReferrer on Refs(referrer);
    create index IndexReference on Refs(reference);
    create trigger DeleteSelfRefs before delete on ValidPaths
        begin delete from Refs where referrer = old.id and reference = old.id; end;
    create table DerivationOutputs (
        drv integer not null, id text not null, path text not null, primary key (drv, id),
        foreign key (drv) references ValidPaths(id) on delete cascade);
    create index IndexDerivationOutputs on DerivationOutputs(path);";
/// The number of that schema, as it stands in the file `schema`.
const SCHEMA_VERSION: &str = "10";

/// A path and all that it refers to.
pub(super) struct Closure {
    /// Every path, references before what refers to them; the last one is the root.
    pub(super) paths: Vec<PathInfo>,
    /// The NAR size of the largest path, in bytes.
    pub(super) largest: u64,
    /// The NAR sizes of all, in bytes.
    pub(super) total: u64,
}

impl Closure {
    /// The path that refers to all others.
    pub(super) fn root(&self) -> Option<&PathInfo> {
        self.paths.last()
    }
}

/// Makes a store below `root` whose paths are signed with `key`. The same seed makes the same store.
pub(super) fn make(root: &Path, key: &SecretKey, seed: u64, largest: u64) -> anyhow::Result<Closure> {
    let dir = StoreDir::default();
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let files = below(dir.as_str());
    fs::create_dir_all(&files).with_context(|| format!("{}", files.display()))?;
    let mut maker = Maker { files: &files, dir, key, seed, paths: Vec::new() };
    maker.closure(largest)?;
    let Maker { dir, paths, .. } = maker;
    register(&below("/nix/var/nix/db"), &dir, &paths)?;
    Ok(Closure {
        largest: paths.iter().map(|path| path.nar_size).max().unwrap_or(0),
        total: paths.iter().map(|path| path.nar_size).sum(),
        paths,
    })
}

struct Maker<'a> {
    files: &'a Path,
    dir: StoreDir,
    key: &'a SecretKey,
    seed: u64,
    paths: Vec<PathInfo>,
}

impl Maker<'_> {
    /// Libraries that refer to each other, a tree of many small files, one large file, and a root that refers to all.
    fn closure(&mut self, largest: u64) -> anyhow::Result<()> {
        let mut random = Random(self.seed);
        for number in 0..LIBRARIES {
            let size = LIBRARY[0] + random.below(LIBRARY[1] - LIBRARY[0]);
            let program = Node::File { size: 16 * 1024 + number, seed: random.next(), executable: true };
            let library = Node::File { size, seed: random.next(), executable: false };
            let lib = directory([("libdemo.so".into(), Node::Link("libdemo.so.1")), ("libdemo.so.1".into(), library)]);
            let bin = directory([(format!("demo-{number}"), program)]);
            let references = if number == 0 { vec![] } else { vec![number / 2, number - 1] };
            self.add(&format!("demo-lib-{number}-1.0"), &references, vec![("bin".into(), bin), ("lib".into(), lib)])?;
        }
        let mut pages = Vec::new();
        for chapter in 0..PAGES / 100 {
            let page = |random: &mut Random| {
                let size = random.below(PAGE_MAX);
                Node::File { size, seed: random.next(), executable: false }
            };
            let chapter_pages: Vec<(String, Node)> =
                (0..100).map(|number| (format!("page-{number}.html"), page(&mut random))).collect();
            pages.push((format!("chapter-{chapter}"), directory(chapter_pages)));
        }
        self.add("demo-doc-1.0", &[0], vec![("share".into(), directory(pages))])?;
        let image = Node::File { size: largest, seed: random.next(), executable: false };
        self.add("demo-image-1.0", &[LIBRARIES - 1], vec![("image".into(), image)])?;
        let all: Vec<u64> = (0..self.paths.len() as u64).collect();
        self.add("demo-system-1.0", &all, vec![])
    }

    /// Adds a path that refers to earlier ones, by their number, and names them in a file as real ones do.
    fn add(&mut self, name: &str, references: &[u64], mut entries: Vec<(String, Node)>) -> anyhow::Result<()> {
        let mut hash = [0; 20];
        hash.copy_from_slice(&Sha256::digest(format!("{}:{name}", self.seed))[..20]);
        let path = StorePath::new(StoreHash::new(hash), name)?;
        let numbers = references.iter().filter_map(|number| usize::try_from(*number).ok());
        let mut references: Vec<StorePath> = numbers.map(|number| self.paths[number].path.clone()).collect();
        references.sort();
        references.dedup();
        let text: String = references.iter().map(|path| self.dir.join(path) + "\n").collect();
        entries.push(("references".to_owned(), Node::Text(text)));
        let files = self.files.join(path.to_string());
        let (nar_hash, nar_size) =
            write(&directory(entries), &files).with_context(|| format!("{}", files.display()))?;
        let mut info =
            PathInfo { path, nar_hash, nar_size, references, deriver: None, signatures: Vec::new(), ca: None };
        info.signatures.push(self.key.sign(&info, &self.dir));
        self.paths.push(info);
        Ok(())
    }
}

/// Writes the database.
fn register(db: &Path, dir: &StoreDir, paths: &[PathInfo]) -> anyhow::Result<()> {
    fs::create_dir_all(db).with_context(|| format!("{}", db.display()))?;
    fs::write(db.join("schema"), SCHEMA_VERSION)?;
    let mut database = Connection::open(db.join("db.sqlite"))?;
    // As Nix has it. The files are thrown away: they need not survive a power cut.
    database.pragma_update(None, "journal_mode", "wal")?;
    database.pragma_update(None, "synchronous", "off")?;
    database.execute_batch(SCHEMA)?;
    let transaction = database.transaction()?;
    for info in paths {
        let signatures: Vec<String> = info.signatures.iter().map(ToString::to_string).collect();
        let hash = format!("sha256:{}", Hash::from(info.nar_hash).to_base16());
        transaction.execute(
            "insert into ValidPaths (path, hash, registrationTime, narSize, sigs) values (?, ?, ?, ?, ?)",
            params![dir.join(&info.path), hash, 1, i64::try_from(info.nar_size)?, signatures.join(" ")],
        )?;
        for reference in &info.references {
            transaction.execute(
                "insert into Refs select referrer.id, reference.id from ValidPaths referrer, ValidPaths reference
                 where referrer.path = ? and reference.path = ?",
                params![dir.join(&info.path), dir.join(reference)],
            )?;
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use peernix::nix::TrustedKeys;
    use std::process::Command;

    #[test]
    fn the_same_seed_makes_the_same_signed_closure_and_nix_agrees() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::from_seed("demo-1", [3; 32]).unwrap();
        let [a, b] = ["a", "b"].map(|name| make(&dir.path().join(name), &key, 7, 1_000_003).unwrap());
        assert_eq!(a.paths, b.paths);
        assert_eq!(a.paths.len(), 23);
        assert_eq!(a.root().unwrap().references.len(), 22);
        let trusted: TrustedKeys = [key.public()].into_iter().collect();
        assert!(a.paths.iter().all(|path| trusted.voucher(path, &StoreDir::default()).is_some()));
        let nix = |arguments: &[&str]| {
            let store = dir.path().join("a");
            Command::new("nix-store").arg("--store").arg(store).args(arguments).env("NIX_REMOTE", "").output()
        };
        // Where there is no Nix, `make test` says so; the lab needs it in any case.
        if let Ok(verdict) = nix(&["--verify", "--check-contents"]) {
            assert!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stderr));
            let root = StoreDir::default().join(&a.root().unwrap().path);
            let closure = nix(&["--query", "--requisites", &root]).unwrap();
            assert_eq!(String::from_utf8(closure.stdout).unwrap().lines().count(), 23);
        }
        super::super::workspace::remove(dir.path()).unwrap();
    }
}

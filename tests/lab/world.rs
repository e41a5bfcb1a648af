//! What there is to share: the lab's signing key and its sets of store paths, each made when a case first wants it.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use peernix::nix::{SecretKey, StorePath};

use crate::store::{Builder, StoreSet};

/// To be raised when the content of a set changes: kept sets of another version are made again.
const VERSION: &str = "3";

/// Paths of the closure, the tree of many files and the odd one included.
pub(crate) const CLOSURE: usize = 200;

/// Files of the tree of many files.
pub(crate) const TREE_FILES: usize = 12_000;

/// Name of the path that refers to the whole closure.
pub(crate) const CLOSURE_ROOT: &str = "closure-of-200";

/// The packages of the closure hold this much each, so that 200 of them stay a download of seconds.
const PACKAGE_BYTES: std::ops::RangeInclusive<u64> = 10_000..=3_000_000;

/// The key that signs everything. Its secrecy protects nothing.
pub(crate) fn secret_key() -> Result<SecretKey> {
    Ok(SecretKey::from_seed("lab-1", [7; 32])?)
}

/// The sets of store paths.
pub(crate) struct World {
    stores: PathBuf,
    closure: OnceLock<StoreSet>,
    many: OnceLock<StoreSet>,
    pieces: OnceLock<StoreSet>,
    versions: OnceLock<StoreSet>,
    large: OnceLock<StoreSet>,
    huge: OnceLock<StoreSet>,
    making: Mutex<()>,
}

impl World {
    pub(crate) fn new(stores: PathBuf) -> Self {
        Self {
            stores,
            closure: OnceLock::new(),
            many: OnceLock::new(),
            pieces: OnceLock::new(),
            versions: OnceLock::new(),
            large: OnceLock::new(),
            huge: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    /// The key to trust, as nix.conf writes it.
    pub(crate) fn public_key(&self) -> String {
        // The seed is a constant of ours and the name is well formed.
        secret_key().map(|key| key.public().to_string()).unwrap_or_default()
    }

    /// 200 paths: real Debian packages, a tree of 12,000 small files, odd names; all under [`CLOSURE_ROOT`].
    pub(crate) fn closure(&self) -> Result<&StoreSet> {
        self.get(&self.closure, "closure", make_closure)
    }

    /// 5,000 small paths, each referring to a few before it.
    pub(crate) fn many(&self) -> Result<&StoreSet> {
        self.get(&self.many, "many", |builder| {
            for number in 0..5000 {
                let before = builder.added();
                let references: Vec<StorePath> =
                    (1..=number.min(3)).map(|back| before[number - back].clone()).collect();
                builder.add(&format!("small-{number:04}"), &references, |place| {
                    Ok(std::fs::write(place, noise(number as u64, 200 + number % 3000))?)
                })?;
            }
            Ok(())
        })
    }

    /// Single files of known size, without references: `piece-2m`, `piece-2m-other`, … see [`PIECES`].
    pub(crate) fn pieces(&self) -> Result<&StoreSet> {
        self.get(&self.pieces, "pieces", |builder| {
            for (seed, (name, mebibytes)) in PIECES.iter().enumerate() {
                builder.add(name, &[], |place| Ok(std::fs::write(place, noise(seed as u64, mebibytes << 20))?))?;
            }
            for number in 0..SLIVERS {
                let content = noise(1000 + number as u64, SLIVER);
                builder.add(&format!("sliver-{number}"), &[], |place| Ok(std::fs::write(place, content)?))?;
            }
            builder.add("text-24m", &[], |place| Ok(std::fs::write(place, repetitive(24 << 20))?))?;
            let first = builder.added()[0].clone();
            builder
                .add("with-reference", &[first], |place| Ok(std::fs::write(place, "refers to the first piece\n")?))?;
            Ok(())
        })
    }

    /// Two versions of one program, `program-1.0` and `program-1.1`, each a file of 24 MiB, and another of 2 MiB.
    pub(crate) fn versions(&self) -> Result<&StoreSet> {
        self.get(&self.versions, "versions", |builder| {
            // Code as compilers make it: this program.
            let mut code = std::fs::read(std::env::current_exe()?)?;
            code.truncate(24 << 20);
            let mut newer = code.clone();
            for place in (0..newer.len() - 64).step_by(20_000) {
                newer[place..place + 64].copy_from_slice(&noise(place as u64, 64));
            }
            newer.splice(8 << 20..8 << 20, noise(7, 30_000));
            builder.add("program-1.0", &[], |place| Ok(std::fs::write(place, code)?))?;
            builder.add("program-1.1", &[], |place| Ok(std::fs::write(place, newer)?))?;
            builder.add("other-1.0", &[], |place| Ok(std::fs::write(place, noise(8, 2 << 20))?)).map(drop)
        })
    }

    /// One file of 500 MiB, named `piece-500m`.
    pub(crate) fn large(&self) -> Result<&StoreSet> {
        self.get(&self.large, "large", |builder| builder.add("piece-500m", &[], |place| blocks(place, 125)).map(drop))
    }

    /// One file of 2 GiB, named `huge`.
    pub(crate) fn huge(&self) -> Result<&StoreSet> {
        self.get(&self.huge, "huge", |builder| builder.add("huge", &[], |place| blocks(place, 512)).map(drop))
    }

    fn get<'a>(
        &self,
        cell: &'a OnceLock<StoreSet>,
        name: &str,
        make: impl FnOnce(&mut Builder) -> Result<()>,
    ) -> Result<&'a StoreSet> {
        let _one_at_a_time = self.making.lock();
        if cell.get().is_none() {
            let set = Builder::build(&self.stores, name, VERSION, make).with_context(|| format!("set {name}"))?;
            let _ = cell.set(set);
        }
        cell.get().context("just made")
    }
}

/// A file of so many times 4 MiB, no two of which are alike.
fn blocks(place: &Path, count: u64) -> Result<()> {
    let mut file = std::fs::File::create(place)?;
    let mut block = noise(99, 4 << 20);
    for number in 0..count {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block)?;
    }
    Ok(())
}

/// How many pieces named `sliver-0`, `sliver-1`, … there are, and their size in bytes.
pub(crate) const SLIVERS: usize = 8;
const SLIVER: usize = 96 << 10;

/// The pieces and their size in MiB. Those above 16 MiB are too large to be verified before their first byte goes out.
pub(crate) const PIECES: [(&str, usize); 7] = [
    ("piece-2m", 2),
    ("piece-2m-other", 2),
    ("piece-8m", 8),
    ("piece-24m", 24),
    ("piece-24m-other", 24),
    ("piece-64m", 64),
    ("piece-100m", 100),
];

/// Bytes that do not compress, the same for the same seed (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Blocks of which a little is new and the rest is as before: the slowest compressor makes megabytes of it in a second.
fn repetitive(length: usize) -> Vec<u8> {
    const BLOCK: usize = 4096;
    const NEW: usize = 64;
    let mut block = noise(1, BLOCK);
    let mut bytes = Vec::with_capacity(length + BLOCK);
    while bytes.len() < length {
        block[..NEW].copy_from_slice(&noise(bytes.len() as u64 + 2, NEW));
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(length);
    bytes
}

fn make_closure(builder: &mut Builder) -> Result<()> {
    let packages = debian_packages()?;
    let mut made: BTreeMap<String, StorePath> = BTreeMap::new();
    // The tree, the odd path and the root are the other three.
    for package in packages.into_iter().take(CLOSURE - 3) {
        let references: Vec<StorePath> = package.depends.iter().filter_map(|name| made.get(name).cloned()).collect();
        let path = builder.add(&format!("deb-{}", package.name.replace([':', '~'], "-")), &references, |place| {
            for file in &package.files {
                copy(file, &place.join(file.strip_prefix("/")?))?;
            }
            Ok(std::fs::write(place.join("references"), format!("{references:#?}"))?)
        })?;
        made.insert(package.name, path);
    }
    // A machine with few packages still gets a closure of the full number.
    while builder.len() < CLOSURE - 3 {
        let number = builder.len();
        let references: Vec<StorePath> = builder.added().into_iter().rev().take(number % 4).collect();
        builder.add(&format!("filler-{number}"), &references, |place| {
            Ok(std::fs::write(place, noise(number as u64, 100_000))?)
        })?;
    }
    builder.add("tree-of-12000", &[], |place| {
        for number in 0..TREE_FILES {
            let dir = place.join(format!("d{:02}/e{:02}", number % 40, number / 40 % 10));
            if number < 400 {
                std::fs::create_dir_all(&dir)?;
            }
            std::fs::write(dir.join(format!("file-{number:05}.nix")), noise(number as u64, number % 2048))?;
        }
        Ok(())
    })?;
    builder.add("odd+names_2.0?-=", &[], odd_names)?;
    let all = builder.added();
    builder.add(CLOSURE_ROOT, &all, |place| Ok(std::fs::write(place, format!("{all:#?}"))?))?;
    Ok(())
}

/// Everything that a NAR can hold and a careless program stumbles over.
fn odd_names(place: &Path) -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let long = "l".repeat(255);
    let names: [&[u8]; 12] = [
        b"with space",
        b"new\nline",
        "\u{fc}n\u{ef}c\u{f6}d\u{e9}".as_bytes(),
        b"not-utf8-\xff\xfe",
        b"-dash",
        b".hidden",
        b"..two-dots",
        b"quotes'\"",
        b"percent%41?query#hash",
        b"back\\slash",
        b"Case",
        b"case",
    ];
    std::fs::create_dir_all(place)?;
    for name in names.into_iter().chain([long.as_bytes()]) {
        std::fs::write(place.join(std::ffi::OsStr::from_bytes(name)), name)?;
    }
    std::fs::write(place.join("empty"), "")?;
    for size in 1..=17 {
        std::fs::write(place.join(format!("of-{size}-bytes")), vec![b'x'; size])?;
    }
    std::fs::create_dir(place.join("empty-directory"))?;
    std::fs::create_dir_all(place.join("deep/".repeat(50)))?;
    std::fs::write(place.join("program"), "#!/bin/sh\n")?;
    std::fs::set_permissions(place.join("program"), PermissionsExt::from_mode(0o755))?;
    symlink("nowhere at all", place.join("dangling"))?;
    symlink("empty-directory", place.join("link-to-directory"))?;
    symlink("/".to_owned() + &"t".repeat(4000), place.join("long-target"))?;
    symlink("loop", place.join("loop"))?;
    Ok(())
}

struct Package {
    name: String,
    depends: BTreeSet<String>,
    files: Vec<PathBuf>,
}

/// Installed packages of a fitting size, by name.
fn debian_packages() -> Result<Vec<Package>> {
    let status = std::fs::read_to_string("/var/lib/dpkg/status").context("the list of Debian's packages")?;
    let mut packages = Vec::new();
    for paragraph in status.split("\n\n") {
        let field = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let (Some(name), Some("install ok installed")) = (field("Package:"), field("Status:")) else { continue };
        let arch = field("Architecture:").unwrap_or_default();
        let info = Path::new("/var/lib/dpkg/info");
        let Ok(list) = std::fs::read_to_string(info.join(format!("{name}.list")))
            .or_else(|_| std::fs::read_to_string(info.join(format!("{name}:{arch}.list"))))
        else {
            continue;
        };
        let files: Vec<PathBuf> = list
            .lines()
            .filter(|line| line.starts_with("/usr/"))
            .map(PathBuf::from)
            .filter(|file| file.symlink_metadata().is_ok_and(|meta| meta.is_file() || meta.is_symlink()))
            .collect();
        let bytes: u64 = files.iter().filter_map(|file| file.symlink_metadata().ok()).map(|meta| meta.len()).sum();
        if !PACKAGE_BYTES.contains(&bytes) {
            continue;
        }
        let depends = field("Depends:").unwrap_or_default();
        let depends = depends
            .split([',', '|'])
            .filter_map(|one| one.split_whitespace().next())
            .map(|one| one.split(':').next().unwrap_or(one).to_owned())
            .collect();
        packages.push(Package { name: name.to_owned(), depends, files });
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let meta = from.symlink_metadata()?;
    if meta.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
    } else {
        std::fs::copy(from, to)?;
    }
    Ok(())
}

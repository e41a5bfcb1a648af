//! The walk over a store path that makes its layout.
//!
//! Every file is looked at relative to the directory that holds it, and no symbolic link is followed: whatever somebody with
//! rights on the store does meanwhile, nothing outside the path gets into its NAR.

use super::StoreError;
use super::layout::{Builder, Kind, Layout, NODES_MAX};
use crate::nix::nar::{DEPTH_MAX, TARGET_MAX};
use crate::nix::{NarHash, StorePath};
use ::nix::dir::{Dir, Type};
use ::nix::errno::Errno;
use ::nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use ::nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Walks over `path` in the directory `store` and measures its NAR. Blocks.
pub(super) fn walk(store: &Path, path: &StorePath, nar_hash: NarHash) -> Result<Layout, StoreError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let store_fd = open(store, flags, Mode::empty()).map_err(|error| io(store.to_owned(), error))?;
    let base_name = path.to_string();
    let mut walk = Walk { root: store.join(&base_name), builder: Builder::default() };
    let mut levels = Vec::new();
    levels.extend(walk.visit(store_fd.as_fd(), base_name.as_bytes(), None, None, 0)?);
    while let Some(mut level) = levels.pop() {
        let Some((start, end, kind)) = level.entries.pop() else { continue };
        let name = &level.names[start as usize..end as usize];
        let inner = walk.visit(level.directory.as_fd(), name, kind, Some(level.node), levels.len() + 1)?;
        levels.push(level);
        levels.extend(inner);
    }
    walk.builder.finish(path.clone(), nar_hash).ok_or_else(|| StoreError::Corrupt {
        path: path.clone(),
        what: "its files are larger than a NAR can be".to_owned(),
    })
}

struct Walk {
    /// The store path in the file system, for messages.
    root: PathBuf,
    builder: Builder,
}

/// A directory that is being walked.
struct Level {
    directory: Dir,
    node: u32,
    /// The names of all entries, one after the other.
    names: Vec<u8>,
    /// Where in `names` each name begins and ends, and what the directory says it is; the next entry last.
    entries: Vec<(u32, u32, Option<Type>)>,
}

impl Walk {
    /// Adds what `name` in `directory` is, with `depth` directories above it. `None` as the parent means that it is the
    /// root. A directory is returned for its entries to be visited next.
    fn visit(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        kind: Option<Type>,
        parent: Option<u32>,
        depth: usize,
    ) -> Result<Option<Level>, StoreError> {
        if depth >= DEPTH_MAX {
            return Err(self.limit("levels of directories", DEPTH_MAX));
        }
        // The directory's word saves the look at a link or directory: opening or reading it is proof enough.
        let (kind, stat) = match kind {
            Some(kind @ (Type::Directory | Type::Symlink)) => (kind, None),
            _ => {
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                let stat = fstatat(directory, name, flags).map_err(|error| self.error(name, parent, error))?;
                (self.kind_of(&stat, name, parent)?, Some(stat))
            }
        };
        // The root's own name is not part of its NAR.
        let stored = if parent.is_some() { name } else { b"" };
        match (kind, stat) {
            (Type::Directory, _) => {
                let node = self.add(parent, stored, Kind::Directory, 0, b"")?;
                let level = Level::open(directory, name, node).map_err(|error| self.error(name, parent, error))?;
                if level.entries.len() > NODES_MAX {
                    return Err(self.limit("files", NODES_MAX));
                }
                return Ok(Some(level));
            }
            (Type::Symlink, _) => {
                let target = readlinkat(directory, name).map_err(|error| self.error(name, parent, error))?;
                if target.len() > TARGET_MAX {
                    return Err(self.limit("bytes in the target of a symbolic link", TARGET_MAX));
                }
                self.add(parent, stored, Kind::Symlink, 0, target.as_bytes())?;
            }
            (_, stat) => {
                let (size, mode) = stat.map_or((0, 0), |stat| (stat.st_size, stat.st_mode));
                let kind = if mode & Mode::S_IXUSR.bits() == 0 { Kind::Regular } else { Kind::Executable };
                self.add(parent, stored, kind, u64::try_from(size).unwrap_or_default(), b"")?;
            }
        }
        Ok(None)
    }

    fn limit(&self, what: &str, limit: usize) -> StoreError {
        StoreError::Limit { what: format!("{what} in {}", self.root.display()), limit: limit as u64 }
    }

    fn add(
        &mut self,
        parent: Option<u32>,
        name: &[u8],
        kind: Kind,
        size: u64,
        target: &[u8],
    ) -> Result<u32, StoreError> {
        self.builder.add(parent, name, kind, size, target).ok_or_else(|| self.limit("files", NODES_MAX))
    }

    fn kind_of(&self, stat: &FileStat, name: &[u8], parent: Option<u32>) -> Result<Type, StoreError> {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Ok(Type::File),
            SFlag::S_IFDIR => Ok(Type::Directory),
            SFlag::S_IFLNK => Ok(Type::Symlink),
            _ => {
                let source = std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    "neither a file nor a directory nor a symbolic link: it cannot be in a NAR",
                );
                Err(StoreError::Io { file: self.shown(name, parent), source })
            }
        }
    }

    fn error(&self, name: &[u8], parent: Option<u32>, error: Errno) -> StoreError {
        io(self.shown(name, parent), error)
    }

    /// A file's full path, for messages.
    fn shown(&self, name: &[u8], parent: Option<u32>) -> PathBuf {
        parent.map_or_else(
            || self.root.clone(),
            |parent| self.root.join(self.builder.relative(parent)).join(OsStr::from_bytes(name)),
        )
    }
}

impl Level {
    /// Opens the directory `name` in `parent` and reads the names in it.
    fn open(parent: BorrowedFd<'_>, name: &[u8], node: u32) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(parent, name, flags, Mode::empty())?;
        let mut names = Vec::new();
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            // A directory cannot hold 4 GiB of names before the limit of nodes is reached; were it so, the names were cut
            // and not found.
            let start = u32::try_from(names.len()).map_err(|_| Errno::EFBIG)?;
            names.extend_from_slice(name);
            let end = u32::try_from(names.len()).map_err(|_| Errno::EFBIG)?;
            entries.push((start, end, entry.file_type()));
        }
        let name = |entry: &(u32, u32, Option<Type>)| &names[entry.0 as usize..entry.1 as usize];
        // Descending, because they are taken from the end.
        entries.sort_unstable_by(|a, b| name(b).cmp(name(a)));
        Ok(Self { directory, node, names, entries })
    }
}

fn io(file: PathBuf, error: Errno) -> StoreError {
    StoreError::Io { file, source: error.into() }
}

//! A directory for a while, gone afterwards with everything in it.

use anyhow::Context as _;
use nix::sys::statvfs::statvfs;
use peernix::nix::base32;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A directory among other temporary ones.
pub(super) struct Workspace {
    pub(super) path: PathBuf,
    /// Whether it stays.
    pub(super) keep: bool,
}

impl Workspace {
    /// Makes one below `parent` with room for `bytes`.
    pub(super) fn new(parent: &Path, bytes: u64, keep: bool) -> anyhow::Result<Self> {
        let space = statvfs(parent).with_context(|| format!("{}", parent.display()))?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        if free < bytes {
            let [needed, free] = [bytes, free].map(super::bytes);
            anyhow::bail!(
                "{} has {free} free and {needed} are needed: set $TMPDIR, or a smaller --size",
                parent.display()
            );
        }
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        let path = parent.join(format!("peernix-demo-{}", base32::encode(&random)));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = remove(&self.path)
        {
            super::progress(&format!("{} is left over: {error}", self.path.display()));
        }
    }
}

/// Removes a tree with read-only directories in it, as stores have them.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // Not through links: `file_type` does not follow them.
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

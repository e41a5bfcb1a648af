//! Small files that must never be seen half written: a temporary file beside the real one, synced, then put in place.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The permissions of every file written here: state is nobody else's business.
const FILE_MODE: u32 = 0o600;
/// The permissions of a state directory that did not exist.
const DIR_MODE: u32 = 0o700;

/// Makes `dir` and what is missing above it, for this user alone.
pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Writes a new file, or fails with `AlreadyExists` and leaves the other one alone.
pub(super) fn create_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    // Unlike a rename, a link never replaces.
    put(path, content, |temporary| std::fs::hard_link(temporary, path))
}

/// Writes a file, in place of one that may exist.
pub(super) fn replace_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, |temporary| std::fs::rename(temporary, path))
}

fn put(path: &Path, content: &[u8], place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("not the path of a file"));
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let suffix = crate::nix::base32::encode(&random);
    let temporary = Temporary(dir.join(format!(".{}.{suffix}", name.to_string_lossy())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary.0)?;
    file.write_all(content)?;
    file.sync_all()?;
    place(&temporary.0)?;
    File::open(dir)?.sync_all()
}

/// Removes the temporary file, whichever way its writer ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

//! Small files that must never be seen half written: a temporary file beside the real one, synced, then put in place.

#![forbid(unsafe_code)]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The permissions of every file written here: state is nobody else's business.
const FILE_MODE: u32 = 0o600;
/// The permissions of a state directory that did not exist.
const DIR_MODE: u32 = 0o700;

/// How many bytes this user may still write where `dir` is. Blocks.
pub(crate) fn free_space(dir: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// How many bytes the disk of `dir` has. Blocks.
pub(crate) fn disk_size(dir: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(dir)?;
    Ok(disk.blocks().saturating_mul(disk.fragment_size()))
}

/// Makes `dir` and what is missing above it, for this user alone.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Writes a new file, or fails with `AlreadyExists` and leaves the other one alone.
pub(crate) fn create_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    // Unlike a rename, a link never replaces.
    put(path, content, |temporary| std::fs::hard_link(temporary, path))
}

/// Writes a file, in place of one that may exist.
pub(crate) fn replace_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, |temporary| std::fs::rename(temporary, path))
}

fn put(path: &Path, content: &[u8], place: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("not the path of a file"));
    };
    let temporary = Temporary(dir.join(temporary_name(&name.to_string_lossy())?));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary.0)?;
    file.write_all(content)?;
    file.sync_all()?;
    place(&temporary.0)?;
    File::open(dir)?.sync_all()
}

/// What a file is called until it is complete.
fn temporary_name(name: &str) -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{}{}", temporary_prefix(name), crate::nix::base32::encode(&random)))
}

fn temporary_prefix(name: &str) -> String {
    format!(".{name}.")
}

/// Removes what writers of `path` left that were killed before their file was complete. For files with one writer.
pub(crate) fn remove_leftovers(path: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = temporary_prefix(&name.to_string_lossy());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Reads a plain file of at most `limit` bytes that has none of the permission bits `forbidden`; `None` where there is
/// no file. What was read is wiped when it is dropped.
pub(crate) fn read_private(path: &Path, limit: u64, forbidden: u32) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // A link in place of the file could make us read another one with our rights.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    if metadata.mode() & forbidden != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(io::Error::other(format!("it has mode {mode:o}, which lets others in; run chmod 600 on it")));
    }
    let too_large = || io::Error::other(format!("it is larger than {limit} bytes"));
    let size = usize::try_from(metadata.size()).ok().filter(|_| metadata.size() <= limit).ok_or_else(too_large)?;
    // At once: a buffer that grows leaves copies of its content behind.
    let mut content = Zeroizing::new(vec![0; size]);
    file.read_exact(&mut content)?;
    Ok(Some(content))
}

/// Reads a plain file of at most `limit` bytes of text, whoever may write it; `None` if it has more.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<Option<String>> {
    text_of(File::open(path)?, limit)
}

/// The same of a file that is open already.
pub(crate) fn text_of(file: File, limit: u64) -> io::Result<Option<String>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(None);
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "not UTF-8"))?;
    Ok(Some(text))
}

/// Removes the temporary file, whichever way its writer ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, read_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_read_is_private_plain_and_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let read = || read_private(&path, 8, 0o077);
        assert!(read().unwrap().is_none());
        replace_atomically(&path, b"secret").unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, FILE_MODE);
        assert_eq!(read().unwrap().unwrap().as_slice(), b"secret");
        set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        assert!(read().unwrap_err().to_string().contains("mode 604"));
        assert!(read_private(&path, 8, 0o022).unwrap().is_some(), "others may read this one");
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        replace_atomically(&path, b"123456789").unwrap();
        assert!(read().unwrap_err().to_string().contains("larger than 8 bytes"));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(read().is_err());
    }

    #[test]
    fn leftovers_go_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        remove_leftovers(&dir.path().join("none/a.json")).unwrap();
        for name in ["a.json", "b.json", ".b.json.x", ".a.jsonx"] {
            write(dir.path().join(name), "").unwrap();
        }
        write(dir.path().join(temporary_name("a.json").unwrap()), "half").unwrap();
        remove_leftovers(&path).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap().count(), 4);
    }
}

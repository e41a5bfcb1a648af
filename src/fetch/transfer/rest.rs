//! What is left of large NARs whose transfer did not come to its end: their first bytes, in files of the cache directory, by which the next transfer
//! goes on where the last one was.
//!
//! Nothing in such a file is proved: it counts as what anybody sends. A power cut may leave wrong bytes in it; then the transfer that
//! goes on with it fails, and the file is gone.

use crate::nix::NarHash;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// From this size on something is left of a NAR, in bytes.
pub(crate) const RESTS_MIN: u64 = 16 * 1024 * 1024;
/// How long it is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// What its name ends with, behind the hash of the NAR.
const SUFFIX: &str = ".part";

fn path(dir: &Path, nar: NarHash) -> PathBuf {
    dir.join(nar.to_nix32() + SUFFIX)
}

/// A new file for the NAR, instead of one that is there.
pub(super) fn create(dir: &Path, nar: NarHash) -> io::Result<(File, PathBuf)> {
    let path = path(dir, nar);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((file, path))
}

/// What is there of the NAR, how long it is, and where.
pub(super) fn find(dir: &Path, nar: NarHash, size: u64) -> Option<(File, u64, PathBuf)> {
    let path = path(dir, nar);
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path).ok()?;
    let found = file.metadata().ok()?;
    let length = found.len().min(size);
    (found.is_file() && length > 0).then_some((file, length, path))
}

/// Removes a file, unless another one has its name by now.
pub(super) fn remove(path: &Path, file: &File) {
    let is_it = |found: &fs::Metadata, own: &fs::Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
    if let (Ok(found), Ok(own)) = (fs::symlink_metadata(path), file.metadata())
        && is_it(&found, &own)
    {
        // What cannot be removed is removed by the next one who cleans.
        let _ = fs::remove_file(path);
    }
}

/// Removes what is too old, and the oldest of what takes more than `max_size` bytes; not those that are in use.
pub(super) fn clean(dir: &Path, max_size: u64, in_use: &HashSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let is_rest = |path: &Path| path.to_str().is_some_and(|path| path.ends_with(SUFFIX)) && !in_use.contains(path);
    let found = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let found = fs::symlink_metadata(&path).ok().filter(|found| found.is_file() && is_rest(&path))?;
        // What it takes of the disk, which may be more than is in it.
        Some((found.modified().ok()?, found.len().max(found.blocks() * 512), path))
    });
    let mut rests: Vec<(SystemTime, u64, PathBuf)> = found.collect();
    rests.sort_by_key(|(modified, ..)| Reverse(*modified));
    let mut taken = 0_u64;
    for (modified, size, path) in rests {
        taken = taken.saturating_add(size);
        let is_old = modified.elapsed().is_ok_and(|age| age > KEPT);
        if is_old || taken > max_size {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const NAR: NarHash = NarHash::new([7; 32]);

    fn write(dir: &Path, nar: NarHash, content: &[u8]) -> File {
        let (mut file, _) = create(dir, nar).unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn what_is_left_is_taken_once_and_no_more_of_it_than_the_nar_has() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path(), NAR, 100).is_none());
        write(dir.path(), NAR, b"old");
        write(dir.path(), NAR, b"0123456789");
        let (file, length, path) = find(dir.path(), NAR, 8).unwrap();
        assert_eq!(length, 8);
        remove(&path, &file);
        assert!(find(dir.path(), NAR, 100).is_none());
        write(dir.path(), NAR, b"");
        assert!(find(dir.path(), NAR, 100).is_none(), "that is nothing");
    }

    #[test]
    fn a_file_is_removed_only_by_the_one_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(dir.path(), NAR, b"first");
        let second = write(dir.path(), NAR, b"second");
        remove(&path(dir.path(), NAR), &first);
        assert!(path(dir.path(), NAR).exists());
        remove(&path(dir.path(), NAR), &second);
        assert!(!path(dir.path(), NAR).exists());
    }

    #[test]
    fn the_oldest_goes_first_and_nothing_that_is_in_use_or_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let minutes = |minutes: u64| now - Duration::from_secs(60 * minutes);
        for (number, age) in [(1, minutes(1)), (2, minutes(2)), (3, minutes(3)), (4, minutes(25 * 60))] {
            write(dir.path(), NarHash::new([number; 32]), &[0; 100_000]).set_modified(age).unwrap();
        }
        fs::write(dir.path().join("other"), [0; 1000]).unwrap();
        let there =
            || (1..=4).filter(|number| path(dir.path(), NarHash::new([*number; 32])).exists()).collect::<Vec<u8>>();
        clean(dir.path(), 1_000_000, &HashSet::from([path(dir.path(), NarHash::new([4; 32]))]));
        assert_eq!(there(), [1, 2, 3, 4]);
        clean(dir.path(), 1_000_000, &HashSet::new());
        assert_eq!(there(), [1, 2, 3]);
        clean(dir.path(), 250_000, &HashSet::new());
        assert_eq!(there(), [1, 2]);
        clean(dir.path(), 0, &HashSet::new());
        assert!(there().is_empty() && dir.path().join("other").exists());
    }
}

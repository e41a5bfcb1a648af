//! Where the debug information of a build ID is.
//!
//! There is no index from build IDs to paths: Nix makes one only when it fills a binary cache with `index-debug-info`. What
//! Nixpkgs builds with `separateDebugInfo` is named `*-debug` and holds `lib/debug/.build-id/xx/yyyy.debug`, so the newest
//! paths with such a name are kept in a list, and each is looked into: one system call a path. The list is made by one scan
//! of the database and then continued from the last number that it saw. Debug information elsewhere is not found, and none
//! is while the database cannot be read.

use super::StoreError;
use super::database::{DEBUG_PATHS_MAX, Database};
use crate::nix::StorePath;
use ::nix::fcntl::{AT_FDCWD, AtFlags};
use ::nix::sys::stat::{SFlag, fstatat};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

/// How many paths with the same build ID are considered.
const HITS_MAX: usize = 8;

/// How many searches may go on at once. A search takes milliseconds, and nobody's work depends on it.
const SEARCHES_MAX: usize = 1;

/// The paths that may hold debug information.
#[derive(Debug)]
pub(super) struct DebugPaths {
    list: Mutex<List>,
    searches: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct List {
    /// The highest number that the database had at the last scan.
    newest: i64,
    /// The newest first.
    paths: Arc<Vec<StorePath>>,
}

impl DebugPaths {
    pub(super) fn new() -> Self {
        Self { list: Mutex::default(), searches: Arc::new(Semaphore::new(SEARCHES_MAX)) }
    }

    /// The list, up to date.
    async fn list(&self, database: &Arc<Database>) -> Result<Arc<Vec<StorePath>>, StoreError> {
        // Held over the scan: whoever else asks meanwhile wants its result.
        let mut list = self.list.lock().await;
        let newest = database.newest().await?;
        if newest != list.newest {
            // A lower number than before means another database.
            let after = if newest < list.newest { 0 } else { list.newest };
            let mut paths = database.debug_paths(after).await?;
            if after > 0 {
                paths.extend(list.paths.iter().cloned());
                paths.truncate(DEBUG_PATHS_MAX as usize);
            }
            *list = List { newest, paths: Arc::new(paths) };
        }
        Ok(Arc::clone(&list.paths))
    }

    /// Forgets the list, and says roughly how many bytes it took.
    pub(super) async fn clear(&self) -> u64 {
        let list = std::mem::take(&mut *self.list.lock().await);
        list.paths.iter().map(|path| (size_of::<StorePath>() + path.name().len()) as u64).sum()
    }

    /// The store paths below the directory `store` that hold `member`, the newest first.
    pub(super) async fn holders(
        &self,
        database: &Arc<Database>,
        store: &Path,
        member: &str,
    ) -> Result<Vec<StorePath>, StoreError> {
        let list = self.list(database).await?;
        let turn = Arc::clone(&self.searches).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (store, member) = (store.to_owned(), member.to_owned());
        let search = move || {
            let _turn = turn;
            let holds = |path: &&StorePath| is_member(&store.join(path.to_string()), &member);
            list.iter().filter(holds).take(HITS_MAX).cloned().collect()
        };
        tokio::task::spawn_blocking(search).await.map_err(|_| StoreError::Closed)
    }
}

/// The member of a path that holds the debug information of `build_id`: at least four hexadecimal digits, lower case, as
/// `readelf -n` prints them, with or without `.debug` after them. `None` for anything else.
pub(super) fn member(build_id: &str) -> Option<String> {
    /// The longest build ID, in digits. Those of the GNU linker have 40.
    const BUILD_ID_MAX: usize = 128;
    let build_id = build_id.strip_suffix(".debug").unwrap_or(build_id);
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    if !(4..=BUILD_ID_MAX).contains(&build_id.len()) || !build_id.bytes().all(is_digit) {
        return None;
    }
    let (start, rest) = build_id.split_at(2);
    Some(format!("lib/debug/.build-id/{start}/{rest}.debug"))
}

/// Whether `member` is a regular file in the directory `root`, without a symbolic link on the way. Blocks.
fn is_member(root: &Path, member: &str) -> bool {
    let kind = |file: &Path| {
        let stat = fstatat(AT_FDCWD, file, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some(SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()))
    };
    let file = root.join(member);
    // Nearly always the answer is no, so the one look that says so comes first.
    kind(&file) == Some(SFlag::S_IFREG)
        && file.ancestors().skip(1).take_while(|dir| *dir != root).all(|dir| kind(dir) == Some(SFlag::S_IFDIR))
        && kind(root) == Some(SFlag::S_IFDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_build_ids_only() {
        assert_eq!(member("ab12cd").as_deref(), Some("lib/debug/.build-id/ab/12cd.debug"));
        assert_eq!(member("ab12cd.debug").as_deref(), Some("lib/debug/.build-id/ab/12cd.debug"));
        for odd in ["", "ab", "abc", "AB12", "ab/../../x", "..", "ab12cd.debug.debug", &"a".repeat(130)] {
            assert_eq!(member(odd), None, "{odd}");
        }
    }

    #[test]
    fn links_do_not_lead_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("path");
        let inside = root.join("lib/debug/.build-id/ab");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(inside.join("12.debug"), "x").unwrap();
        assert!(is_member(&root, "lib/debug/.build-id/ab/12.debug"));
        assert!(!is_member(&root, "lib/debug/.build-id/ab/13.debug"));

        let other = directory.path().join("other");
        std::fs::create_dir_all(other.join("lib/debug/.build-id")).unwrap();
        std::os::unix::fs::symlink(&inside, other.join("lib/debug/.build-id/ab")).unwrap();
        assert!(!is_member(&other, "lib/debug/.build-id/ab/12.debug"));
        std::os::unix::fs::symlink("12.debug", inside.join("14.debug")).unwrap();
        assert!(!is_member(&root, "lib/debug/.build-id/ab/14.debug"));
        let alias = directory.path().join("alias");
        std::os::unix::fs::symlink(&root, &alias).unwrap();
        assert!(!is_member(&alias, "lib/debug/.build-id/ab/12.debug"));
    }
}

//! What Nix saved by keeping equal files of the store once (`nix-store --optimise`, `auto-optimise-store`).

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where Nix links every file that it keeps once.
const LINKS: &str = "/nix/store/.links";
/// How long is looked; what was seen by then is told as a part.
const LIMIT: Duration = Duration::from_secs(5);

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Optimised {
    /// What the files take that were looked at.
    pub(super) kept: u64,
    /// What they would take besides, if each stood for itself.
    pub(super) saved: u64,
    /// Not all of them were looked at.
    pub(super) is_part: bool,
}

/// Looks; `None` where there is nothing to look at.
pub(super) fn saved() -> Option<Optimised> {
    look(Path::new(LINKS))
}

fn look(links: &Path) -> Option<Optimised> {
    let until = Instant::now() + LIMIT;
    let mut seen = Optimised { kept: 0, saved: 0, is_part: false };
    for (number, entry) in std::fs::read_dir(links).ok()?.enumerate() {
        if number % 1024 == 0 && Instant::now() > until {
            seen.is_part = true;
            break;
        }
        // It may be gone by now.
        let Ok(file) = entry.and_then(|entry| entry.metadata()) else { continue };
        seen.kept += file.size();
        // One of them is the link itself, one the first file.
        seen.saved += file.size() * file.nlink().saturating_sub(2);
    }
    (seen.kept > 0).then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_beyond_the_first_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!((look(&dir.path().join("none")), look(dir.path())), (None, None));
        let links = dir.path().join(".links");
        std::fs::create_dir(&links).unwrap();
        std::fs::write(links.join("a"), [0; 10]).unwrap();
        std::fs::write(links.join("b"), [0; 7]).unwrap();
        for path in ["one", "two", "three"] {
            std::fs::hard_link(links.join("a"), dir.path().join(path)).unwrap();
        }
        assert_eq!(look(&links), Some(Optimised { kept: 17, saved: 20, is_part: false }));
    }
}

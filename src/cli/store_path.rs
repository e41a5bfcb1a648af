//! Store paths as people name them: in full, by their base name, by their hash, by a link such as `./result`.

use super::error::{Done, VerbError};
use crate::nix::{StoreHash, StorePath};
use std::path::Path;

/// Where this machine's store is, unless `$NIX_STORE_DIR` says otherwise.
const STORE_DIR: &str = "/nix/store";

/// What the service calls the path that somebody means: a full store path, or a base name.
///
/// Files of this machine mean nothing to the service of another; there `local` is false and only names count.
pub(super) fn meant(text: &str, local: bool) -> Done<String> {
    if let Some(path) = within(text) {
        return Ok(path);
    }
    if local && let Ok(hash) = text.parse::<StoreHash>() {
        return by_hash(hash);
    }
    if local && let Ok(real) = std::fs::canonicalize(text) {
        let real = real.to_string_lossy();
        return within(&real)
            .ok_or_else(|| VerbError::Usage(format!("{text}: this leads to {real}, which is not in a store")));
    }
    Err(VerbError::Usage(format!(
        "{text}: neither a store path nor a link to one; a store path looks like /nix/store/HASH-NAME"
    )))
}

/// Cuts a path below a store path to the store path.
fn within(text: &str) -> Option<String> {
    if !text.starts_with('/') {
        return text.parse::<StorePath>().ok().map(|path| path.to_string());
    }
    let mut path = String::new();
    for part in text.split('/').skip(1) {
        path.push('/');
        path.push_str(part);
        if part.parse::<StorePath>().is_ok() {
            return Some(path);
        }
    }
    None
}

/// The path in this machine's store that has a hash.
fn by_hash(hash: StoreHash) -> Done<String> {
    let dir = std::env::var("NIX_STORE_DIR").unwrap_or_else(|_| STORE_DIR.to_owned());
    let start = format!("{hash}-");
    let entries = Path::new(&dir).read_dir().map_err(|error| VerbError::other(format!("look into {dir}"), error))?;
    let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.find(|name| name.starts_with(&start) && name.parse::<StorePath>().is_ok());
    found.ok_or_else(|| VerbError::Usage(format!("{hash}: no path in {dir} has this hash; name it with its name")))
}

/// The part of a store path that people know it by.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000000000000000000000-hello-2.12";

    #[test]
    fn all_that_means_a_path() {
        let full = format!("/nix/store/{NAME}");
        assert_eq!(meant(NAME, false).unwrap(), NAME);
        assert_eq!(meant(&full, false).unwrap(), full);
        assert_eq!(meant(&format!("{full}/bin/hello"), true).unwrap(), full);
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("result");
        let below = dir.path().join(NAME);
        std::fs::create_dir(&below).unwrap();
        std::os::unix::fs::symlink(&below, &link).unwrap();
        let found = meant(link.to_str().unwrap(), true).unwrap();
        assert!(found.ends_with(NAME) && !found.ends_with("result"), "{found}");
        assert!(meant(link.to_str().unwrap(), false).is_err());
        assert!(matches!(meant("/etc/passwd", true), Err(VerbError::Usage(text)) if text.contains("not in a store")));
        assert!(meant("hello", true).is_err());
    }
}

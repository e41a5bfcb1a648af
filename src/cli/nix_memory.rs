//! Where the Nix of this machine keeps what caches answered: folders of this user, of the Nix daemon, and of who called `sudo`; and which of
//! those answers are the gateway's.

use crate::config::{Config, GATEWAY_LISTEN};
use crate::store::{NarInfoDiskCache, StoreError};
use nix::unistd::{Uid, User};
use std::env;
use std::io;
use std::path::{Path, PathBuf};

/// The folder of the Nix daemon, which is root.
const OF_ROOT: &str = "/root/.cache/nix";
/// The folder of the daemon of Lix, since 2.95.
const OF_LIX: &str = "/var/cache/nix/nix";
/// Below a home directory.
const BELOW_HOME: &str = ".cache/nix";

/// A folder that this process cannot look into.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
pub(super) struct Closed {
    pub(super) folder: PathBuf,
    pub(super) source: io::Error,
}

impl Closed {
    /// Whether root could.
    pub(super) fn is_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// The folders of this user, as Nix finds them.
fn own() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NIX_CACHE_HOME")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("nix")))
        .or_else(|| set("HOME").map(|home| home.join(BELOW_HOME)))
}

/// All files that this user may know of: its own and the Nix daemon's; and the folders that are closed to it.
pub(super) fn files() -> (Vec<NarInfoDiskCache>, Vec<Closed>) {
    files_in(own().into_iter().chain([OF_ROOT.into(), OF_LIX.into()]))
}

/// The files of this user alone.
pub(super) fn own_files() -> (Vec<NarInfoDiskCache>, Vec<Closed>) {
    files_in(own())
}

fn files_in(folders: impl IntoIterator<Item = PathBuf>) -> (Vec<NarInfoDiskCache>, Vec<Closed>) {
    let (mut files, mut closed) = (Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for folder in folders {
        if seen.contains(&folder) {
            continue;
        }
        match NarInfoDiskCache::in_folder(&folder) {
            Ok(found) => files.extend(found),
            Err(source) => closed.push(Closed { folder: folder.clone(), source }),
        }
        seen.push(folder);
    }
    (files, closed)
}

/// Who called `sudo`, if this is root by it: that user's own Nix remembers as well.
pub(super) fn caller() -> Option<User> {
    let uid: u32 = env::var("SUDO_UID").ok()?.parse().ok()?;
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    (Uid::effective().is_root() && !user.uid.is_root()).then_some(user)
}

/// Where the gateway listens by the configuration, which need not be right for this.
pub(super) fn gateways() -> Vec<String> {
    let listen = Config::load(None).map(|config| config.gateway.listen.0).unwrap_or_default();
    let mut gateways: Vec<String> = listen.iter().map(ToString::to_string).collect();
    if gateways.is_empty() {
        gateways.push(GATEWAY_LISTEN.to_owned());
    }
    gateways
}

/// Whether a URL as Nix writes it, in its settings or in its memory, is the gateway at `HOST:PORT`: with whatever settings it brings along
/// (`?priority=5&retry-attempts=8`), by address or as `localhost`.
pub(super) fn is_gateway(url: &str, gateway: &str) -> bool {
    let host = url.trim_start_matches("http://").split(['/', '?']).next().unwrap_or_default();
    host == gateway || host.replacen("localhost", "127.0.0.1", 1) == gateway
}

/// What SQLite says of a file, in words that tell what to do.
pub(super) fn told(error: &StoreError, file: &Path) -> String {
    match error {
        StoreError::Database { source, .. } => format!("{}: {source}", file.display()),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_known_by_every_form_of_its_url() {
        for url in
            ["http://127.0.0.1:7649", "http://localhost:7649/", "http://127.0.0.1:7649?retry-attempts=8&priority=5"]
        {
            assert!(is_gateway(url, "127.0.0.1:7649"), "{url}");
        }
        for url in ["http://127.0.0.1:7650", "https://127.0.0.1:7649.example.org", "https://cache.nixos.org", ""] {
            assert!(!is_gateway(url, "127.0.0.1:7649"), "{url}");
        }
    }

    #[test]
    fn a_folder_that_is_named_twice_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("binary-cache-v6.sqlite"), "").unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (files, closed) = files_in([folder.path().to_owned(), folder.path().to_owned(), file.clone()]);
        assert_eq!(files.len(), 1);
        assert!(matches!(&closed[..], [Closed { folder, .. }] if *folder == file));
    }
}

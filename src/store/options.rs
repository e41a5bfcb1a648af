//! Where the store of this machine is.

use crate::nix::StoreDir;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where a store is. The defaults are those of Nix.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The store directory as it is written in paths (`[store] dir`).
    pub dir: StoreDir,
    /// Nix's state directory, with the database in `db/` (`[store] state_dir`).
    pub state_dir: PathBuf,
    /// What both are relative to: `/`, or the root of a chroot store as in Nix's `?root=` (`[store] root`).
    pub root: PathBuf,
    /// Nix's log directory; `log/nix` beside the state directory's parent unless set (`NIX_LOG_DIR`). Not below `root`.
    pub log_dir: Option<PathBuf>,
    /// The daemon's socket; `daemon-socket/socket` in the state directory unless set (`NIX_DAEMON_SOCKET_PATH`). Not
    /// below `root`.
    pub daemon_socket: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            dir: StoreDir::default(),
            state_dir: "/nix/var/nix".into(),
            root: "/".into(),
            log_dir: None,
            daemon_socket: None,
        }
    }
}

impl StoreOptions {
    /// Takes over what Nix itself takes from its environment, `NIX_DAEMON_SOCKET_PATH` and `NIX_LOG_DIR`, by way of `get`.
    /// For a chroot store they mean nothing.
    #[must_use]
    pub fn with_environment(mut self, get: impl Fn(&str) -> Option<OsString>) -> Self {
        if self.root == Path::new("/") {
            let path = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            self.daemon_socket = self.daemon_socket.or_else(|| path("NIX_DAEMON_SOCKET_PATH"));
            self.log_dir = self.log_dir.or_else(|| path("NIX_LOG_DIR"));
        }
        self
    }
}

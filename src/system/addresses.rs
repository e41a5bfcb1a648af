//! Where a running service listens, as it tells the other programs of this machine by a file.
#![forbid(unsafe_code)]

use super::sockets::SocketError;
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The file in the runtime directory that tells where the service listens.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// Everyone on the machine may know.
const MODE: u32 = 0o644;

/// Where a running service listens; what [`ADDRESSES_FILE`] holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The gateway.
    pub gateway: Option<SocketAddr>,
    /// The share.
    pub share: Option<SocketAddr>,
    /// The plain share.
    pub plain: Option<SocketAddr>,
}

impl Addresses {
    /// Writes them into the runtime directory. Readers see the old file or the new one, never a part.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, runtime: &Path) -> Result<(), SocketError> {
        let file = runtime.join(ADDRESSES_FILE);
        let part = runtime.join(format!(".{ADDRESSES_FILE}.{}", std::process::id()));
        let text = serde_json::to_vec(self).map_err(io::Error::other);
        let written = text
            .and_then(|text| std::fs::write(&part, text))
            // The unit's UMask= keeps secrets from others; this is none.
            .and_then(|()| std::fs::set_permissions(&part, Permissions::from_mode(MODE)))
            .and_then(|()| std::fs::rename(&part, &file));
        written.map_err(|error| SocketError::Addresses(file.display().to_string(), error))
    }

    /// Takes the file away, as nobody listens any more. The runtime directory may outlive the service.
    pub fn remove(runtime: &Path) {
        // That it is not there is what was wanted; anything else is seen by who reads it.
        let _ = std::fs::remove_file(runtime.join(ADDRESSES_FILE));
    }

    /// Reads what a running service wrote; `None` if there is nothing that can be read.
    #[must_use]
    pub fn read(runtime: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(runtime.join(ADDRESSES_FILE)).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = Addresses { gateway: "127.0.0.1:7649".parse().ok(), ..Addresses::default() };
        addresses.write(dir.path()).unwrap();
        assert_eq!(Addresses::read(dir.path()), Some(addresses));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let metadata = dir.path().join(ADDRESSES_FILE).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, MODE);
        Addresses::remove(dir.path());
        assert_eq!(Addresses::read(dir.path()), None);
        Addresses::remove(dir.path());
        assert!(addresses.write(Path::new("/nonexistent")).is_err());
    }
}

//! Secrets that the manager hands to the service: files in `$CREDENTIALS_DIRECTORY`. systemd fills it when it starts the service, and
//! newer ones also when they reload it, if the unit says `RefreshOnReload=credentials`.
//!
//! Source: [systemd credentials](https://systemd.io/CREDENTIALS/). They come from `LoadCredential=` and its like in the unit, and
//! never by the command line or the environment, which others can read.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::Zeroizing;

/// A Nix secret key, for what is built on this machine.
pub const SIGNING_KEY: &str = "signing-key";
/// The secret half of a fleet key, on the machine that lets others in.
pub const FLEET_KEY: &str = "fleet-key";
/// The identity of this machine on the network.
pub const NODE_KEY: &str = "node-key";

/// What stands before the names of those that are imported from the places of the machine.
const IMPORTED: &str = "peernix.";

/// The largest credential that is read, in bytes; a key has less than 200, a client certificate with its chain some 8,000.
const SIZE_MAX: usize = 16 * 1024;

/// A credential that is there and cannot be used.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// It cannot be read.
    #[error("the credential {}: {source}; look at LoadCredential= of the unit", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large to be a key or a login.
    #[error("the credential {}: larger than {SIZE_MAX} bytes, which no key and no login is", .0.display())]
    TooLarge(PathBuf),
    /// It is not a file.
    #[error("the credential {}: not a file", .0.display())]
    NotAFile(PathBuf),
    /// The manager handed over others, but not this one.
    #[error(
        "there is no credential {}; put it into /etc/credstore/{IMPORTED}{name}, or add LoadCredential={name}:FILE to the unit, and restart it",
        path.display()
    )]
    Missing {
        /// Where it would be.
        path: PathBuf,
        /// What it is called.
        name: String,
    },
    /// There is no manager that hands over any.
    #[error(
        "there are no credentials: $CREDENTIALS_DIRECTORY, where the file '{0}' is looked for, is not set; systemd sets it for a unit \
         with LoadCredential={0}:FILE, and without systemd it may name a folder that only this user can read"
    )]
    NoDirectory(String),
}

/// Reads a credential that must be there.
///
/// # Errors
/// See [`CredentialError`]; it says where it was looked for.
pub fn require(name: &str) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    require_in(directory().as_deref(), name)
}

fn require_in(directory: Option<&Path>, name: &str) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let directory = directory.ok_or_else(|| CredentialError::NoDirectory(name.to_owned()))?;
    read_in(directory, name)?
        .ok_or_else(|| CredentialError::Missing { path: directory.join(name), name: name.to_owned() })
}

/// Where the manager put them.
fn directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|directory| directory.is_absolute())
}

/// Reads a credential by the name that the unit gives it, else by that of an imported one. `Ok(None)`: the manager handed over none of
/// this name. The memory is wiped when the value goes. Blocks, on files in memory.
///
/// # Errors
/// See [`CredentialError`]; no message repeats what is in it.
pub fn read(name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    directory().map_or(Ok(None), |directory| read_in(&directory, name))
}

fn read_in(directory: &Path, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    match read_file(directory.join(name))? {
        None => read_file(directory.join(format!("{IMPORTED}{name}"))),
        found => Ok(found),
    }
}

fn read_file(path: PathBuf) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    // Neither a link to somewhere else nor a pipe that never answers.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Io { path, source }),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(CredentialError::NotAFile(path));
    }
    // As large as it can get from the start: a vector that grows leaves copies behind which nobody wipes.
    let mut secret = Zeroizing::new(vec![0; SIZE_MAX + 1]);
    let mut length = 0;
    while length < secret.len() {
        match (&file).read(&mut secret[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(CredentialError::Io { path, source }),
        }
    }
    if length > SIZE_MAX {
        return Err(CredentialError::TooLarge(path));
    }
    secret.truncate(length);
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_bounded_and_plain() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let read = |name| read_in(directory.path(), name);
        assert!(read(SIGNING_KEY).unwrap().is_none());
        let missing = require_in(Some(directory.path()), "login").unwrap_err().to_string();
        assert!(missing.contains(&at("login").display().to_string()), "{missing}");
        assert!(missing.contains("LoadCredential=login:FILE"), "{missing}");
        let nowhere = require_in(None, "login").unwrap_err().to_string();
        assert!(nowhere.contains("$CREDENTIALS_DIRECTORY") && nowhere.contains("'login'"), "{nowhere}");
        std::fs::write(at("peernix.signing-key"), "imported-1:secret").unwrap();
        assert_eq!(read(SIGNING_KEY).unwrap().unwrap().as_slice(), b"imported-1:secret");
        std::fs::write(at(SIGNING_KEY), "host-1:secret").unwrap();
        assert_eq!(read(SIGNING_KEY).unwrap().unwrap().as_slice(), b"host-1:secret");
        std::fs::write(at("most"), vec![b'x'; SIZE_MAX]).unwrap();
        assert_eq!(read("most").unwrap().unwrap().len(), SIZE_MAX);
        std::fs::write(at("large"), vec![b'x'; SIZE_MAX + 1]).unwrap();
        assert!(matches!(read("large"), Err(CredentialError::TooLarge(_))));
        std::os::unix::fs::symlink(at(SIGNING_KEY), at("link")).unwrap();
        assert!(matches!(read("link"), Err(CredentialError::Io { .. })));
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read("pipe"), Err(CredentialError::NotAFile(_))));
        std::fs::create_dir(at("folder")).unwrap();
        let error = read("folder").unwrap_err().to_string();
        assert!(error.ends_with("folder: not a file"), "{error}");
    }
}

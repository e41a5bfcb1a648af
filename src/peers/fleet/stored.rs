//! The files of a fleet in the state directory: `fleet.json` with what this machine shows and knows, and on one machine `fleet.key`.
//!
//! ```json
//! {"version":1,"fleet":"…","membership":"…","revocations":"…"}
//! ```
//!
//! A file that cannot be read, or makes no sense, may still say who was revoked, so nothing starts without it.

use super::membership::MEMBERSHIP_MAX;
use super::revocations::TOKEN_MAX;
use super::signed::{FleetId, FleetKey, SEED_LEN};
use crate::files;
use crate::peers::error::PeersError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use zeroize::Zeroizing;

/// The name of the file.
pub(super) const FILE: &str = "fleet.json";
/// The name of the file with the secret key.
pub(super) const KEY_FILE: &str = "fleet.key";
/// The version of its format.
const VERSION: u32 = 1;
/// The largest file read, in bytes.
const SIZE_MAX: u64 = (TOKEN_MAX + MEMBERSHIP_MAX + 1024) as u64;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fleet: Option<FleetId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revocations: Option<String>,
}

impl Stored {
    pub(super) const fn new(fleet: FleetId, membership: Option<String>, revocations: Option<String>) -> Self {
        Self { version: VERSION, fleet: Some(fleet), membership, revocations }
    }

    /// Reads it. Blocks.
    pub(super) fn read(state_dir: &Path) -> Result<Self, PeersError> {
        let path = state_dir.join(FILE);
        let senseless = |problem: String| PeersError::Fleet { path: path.clone(), problem };
        let text = match files::read_text(&path, SIZE_MAX) {
            Ok(text) => text.ok_or_else(|| senseless(format!("it is larger than {SIZE_MAX} bytes")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(PeersError::file("read", &path, error)),
        };
        let stored: Self = serde_json::from_str(&text).map_err(|error| senseless(error.to_string()))?;
        if stored.version != VERSION {
            return Err(senseless(format!("its version is {}, not {VERSION}", stored.version)));
        }
        Ok(stored)
    }

    /// Writes it. Blocks.
    pub(super) fn write(&self, state_dir: &Path) -> Result<(), PeersError> {
        let path = state_dir.join(FILE);
        let written = serde_json::to_vec_pretty(self).map_err(io::Error::from).and_then(|text| {
            files::create_private_dir(state_dir)?;
            files::replace_atomically(&path, &text)
        });
        written.map_err(|error| PeersError::file("write", &path, error))
    }
}

/// The secret key, where there is one. Blocks.
pub(super) fn read_key(state_dir: &Path) -> Result<Option<FleetKey>, PeersError> {
    let path = state_dir.join(KEY_FILE);
    let secret = files::read_private(&path, SEED_LEN as u64, 0o077);
    let Some(secret) = secret.map_err(|error| PeersError::file("read", &path, error))? else { return Ok(None) };
    let key = FleetKey::from_secret(&secret);
    key.map(Some).ok_or_else(|| PeersError::KeySize { path, size: secret.len() as u64 })
}

/// Makes a secret key, where there is none. Blocks.
pub(super) fn make_key(state_dir: &Path) -> Result<FleetKey, PeersError> {
    let path = state_dir.join(KEY_FILE);
    let mut seed = Zeroizing::new([0; SEED_LEN]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| PeersError::file("make", &path, io::Error::other(error.to_string())))?;
    let made = files::create_private_dir(state_dir).and_then(|()| files::create_atomically(&path, seed.as_slice()));
    made.map_err(|error| PeersError::file("write", &path, error))?;
    Ok(FleetKey::from_seed(*seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert_eq!(Stored::read(&state).unwrap(), Stored::default());
        assert!(read_key(&state).unwrap().is_none());
        let key = make_key(&state).unwrap();
        assert_eq!(read_key(&state).unwrap().unwrap().id(), key.id());
        assert!(make_key(&state).is_err(), "there is one");
        let stored = Stored::new(key.id(), Some("a.b".into()), None);
        stored.write(&state).unwrap();
        assert_eq!(Stored::read(&state).unwrap(), stored);
    }

    #[test]
    fn nothing_starts_with_a_file_that_makes_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        for garbage in ["", "{", r#"{"version":2}"#, r#"{"version":1,"fleet":"x"}"#] {
            std::fs::write(dir.path().join(FILE), garbage).unwrap();
            let error = Stored::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("fleet.json makes no sense: "), "{error}");
        }
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::write(dir.path().join(KEY_FILE), [7; 31]).unwrap();
        assert!(read_key(dir.path()).is_err());
    }
}

//! The signing keys in the state directory: `keys/keys.json`, mode 0600, in a directory of mode 0700.
//!
//! ```json
//! {"version":1,"keys":[
//!   {"public":"tower-1:…","state":"grace","created":1789000000,"since":1790000000,"grace":2592000,"secret":"tower-1:…"},
//!   {"public":"tower-2:…","state":"active","created":1790000000,"secret":"tower-2:…"}]}
//! ```
//!
//! Times are seconds (since 1970, or long). One file, so that a rotation is one rename: after a crash there is the old
//! state or the new one. A secret is gone from it once its key signs no more.

use super::clock::Moment;
use super::error::KeysError;
use super::ring::{Grace, KEYS_MAX, Key, Ring, Stage};
use super::view::KeyState;
use crate::files;
use crate::nix::{PublicKey, SecretKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The directory in the state directory.
pub(super) const DIRECTORY: &str = "keys";
/// The file in it.
pub(super) const FILE: &str = "keys.json";
/// The version of its format.
const VERSION: u32 = 1;
/// The largest file read, in bytes: all keys, each with long names and a long reason.
const SIZE_MAX: u64 = 1024 * 1024;
/// More than one key takes in the file, in bytes.
const ENTRY_MAX: usize = 2048;
/// Permission bits that the file must not have: anything for group and others.
const FORBIDDEN_MODE: u32 = 0o077;
/// What the administrator loses with the file.
const LOST: &str = "; a new key is made then, which the other machines do not know yet";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    keys: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    public: String,
    state: KeyState,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretText>,
}

/// The text of a secret key, wiped when it is dropped.
struct SecretText(Zeroizing<String>);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Reads the keys; none where there is no file. Blocks.
///
/// # Errors
/// A file that cannot be read, that others may read, or that is not what [`save`] writes.
pub(super) fn load(path: &Path, now: Moment) -> Result<Ring, KeysError> {
    files::remove_leftovers(path).map_err(|error| KeysError::file("clean up beside", path, error))?;
    let content = files::read_private(path, SIZE_MAX, FORBIDDEN_MODE);
    let Some(content) = content.map_err(|error| KeysError::file("read", path, error))? else {
        return Ok(Ring::default());
    };
    parse(&content, now).map_err(|what| KeysError::Damaged { path: path.to_owned(), what, lost: LOST })
}

fn parse(content: &[u8], now: Moment) -> Result<Ring, String> {
    // Not the parser's own words: they quote what they found, which may be a secret.
    let index: Index = serde_json::from_slice(content)
        .map_err(|error| format!("not what was written, at line {} column {}", error.line(), error.column()))?;
    if index.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", index.version));
    }
    if index.keys.len() > KEYS_MAX {
        return Err(format!("more than {KEYS_MAX} keys"));
    }
    let (mut ring, mut names, mut publics) = (Ring::default(), HashSet::new(), HashSet::new());
    for (number, entry) in index.keys.into_iter().enumerate() {
        let key = entry.into_key(now).map_err(|what| format!("key {}: {what}", number + 1))?;
        let is_second_active = key.state() == KeyState::Active && ring.active().is_some();
        if is_second_active || !names.insert(key.public.name().to_owned()) || !publics.insert(*key.public.as_bytes()) {
            return Err(format!("key {} contradicts another one", number + 1));
        }
        ring.0.push(key);
    }
    Ok(ring)
}

impl Entry {
    fn into_key(self, now: Moment) -> Result<Key, String> {
        let public: PublicKey = self.public.parse().map_err(|error| format!("{error}"))?;
        let secret = match self.secret {
            None => None,
            Some(text) => {
                let secret: SecretKey = text.0.parse().map_err(|error| format!("{error}"))?;
                if secret.public() != public {
                    return Err("its halves do not belong together".to_owned());
                }
                Some(Arc::new(secret))
            }
        };
        let stage = match (self.state, secret, self.since, self.grace) {
            (KeyState::Active, Some(secret), None, None) => Stage::Active(secret),
            (KeyState::Grace, Some(secret), Some(since), Some(length)) => {
                Stage::Grace(secret, Grace::resume(since, length, now))
            }
            (KeyState::Retired, None, None, None) => Stage::Retired,
            (KeyState::Revoked, None, Some(since), None) => Stage::Revoked(since, self.reason.unwrap_or_default()),
            (state, ..) => return Err(format!("it has not what a key has that is {state}")),
        };
        Ok(Key { public, created: self.created, stage })
    }

    fn of(key: &Key) -> Self {
        let (since, grace, reason) = match &key.stage {
            Stage::Active(_) | Stage::Retired => (None, None, None),
            Stage::Grace(_, grace) => (Some(grace.since), Some(grace.length), None),
            Stage::Revoked(since, reason) => (Some(*since), None, Some(reason.clone())),
        };
        let secret = key.secret().map(|secret| SecretText(secret.to_file()));
        Self { public: key.public.to_string(), state: key.state(), created: key.created, since, grace, reason, secret }
    }
}

/// Writes the keys in place of those before, and makes the directory if need be. Blocks.
///
/// # Errors
/// The file cannot be written; the one before is still there then.
pub(super) fn save(path: &Path, ring: &Ring) -> Result<(), KeysError> {
    let index = Index { version: VERSION, keys: ring.0.iter().map(Entry::of).collect() };
    // All at once: a buffer that grows leaves copies of its content behind.
    let mut content = Zeroizing::new(Vec::with_capacity(ENTRY_MAX * (ring.0.len() + 1)));
    let written = serde_json::to_writer(&mut *content, &index).map_err(std::io::Error::from);
    written.map_err(|error| KeysError::file("write", path, error))?;
    if let Some(directory) = path.parent() {
        files::create_private_dir(directory).map_err(|error| KeysError::file("create", directory, error))?;
    }
    files::replace_atomically(path, &content).map_err(|error| KeysError::file("write", path, error))
}

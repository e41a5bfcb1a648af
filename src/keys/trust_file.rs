//! What the administrator decided about trust while the service ran: `trust.json` in the state directory.
//!
//! ```json
//! {"version":1,"added":[{"key":"tower-1:…","comment":"in the cellar","peer":"…","added":1789000000}],
//!  "distrusted":["cache.example.org-1:…"]}
//! ```

use super::error::KeysError;
use crate::files;
use crate::nix::PublicKey;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file.
pub(super) const FILE: &str = "trust.json";
/// The version of its format.
const VERSION: u32 = 1;
/// The most keys that may be added, and as many distrusted.
pub(super) const KEYS_MAX: usize = 1024;
/// The largest file read, in bytes: all keys with long names and comments.
const SIZE_MAX: u64 = 4 * 1024 * 1024;
/// Permission bits that the file must not have: whoever may write it decides what enters.
const FORBIDDEN_MODE: u32 = 0o022;
/// What the administrator loses with the file.
const LOST: &str = "; keys that were added are not trusted then, and those that were distrusted are trusted again";

/// The decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    pub(super) added: Vec<Added>,
    pub(super) distrusted: Vec<PublicKey>,
}

/// A key that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) key: PublicKey,
    pub(super) comment: String,
    pub(super) peer: Option<String>,
    /// Seconds since 1970.
    pub(super) at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    added: Vec<Entry>,
    distrusted: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    added: u64,
}

/// Reads the decisions; none where there is no file. Blocks.
///
/// # Errors
/// A file that cannot be read, that others may write, or that is not what [`save`] writes.
pub(super) fn load(path: &Path) -> Result<Decisions, KeysError> {
    files::remove_leftovers(path).map_err(|error| KeysError::file("clean up beside", path, error))?;
    let content = files::read_private(path, SIZE_MAX, FORBIDDEN_MODE);
    let Some(content) = content.map_err(|error| KeysError::file("read", path, error))? else {
        return Ok(Decisions::default());
    };
    parse(&content).map_err(|what| KeysError::Damaged { path: path.to_owned(), what, lost: LOST })
}

fn parse(content: &[u8]) -> Result<Decisions, String> {
    let content: Content = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", content.version));
    }
    if content.added.len() > KEYS_MAX || content.distrusted.len() > KEYS_MAX {
        return Err(format!("more than {KEYS_MAX} keys"));
    }
    let key = |text: &str| text.parse::<PublicKey>().map_err(|error| error.to_string());
    let added = content.added.into_iter().map(|entry| {
        let Entry { key: text, comment, peer, added: at } = entry;
        Ok(Added { key: key(&text)?, comment, peer, at })
    });
    let added = added.collect::<Result<_, String>>()?;
    let distrusted = content.distrusted.iter().map(|text| key(text)).collect::<Result<_, String>>()?;
    Ok(Decisions { added, distrusted })
}

/// Writes the decisions in place of those before. Blocks.
///
/// # Errors
/// The file cannot be written; the one before is still there then.
pub(super) fn save(path: &Path, decisions: &Decisions) -> Result<(), KeysError> {
    let entry = |added: &Added| Entry {
        key: added.key.to_string(),
        comment: added.comment.clone(),
        peer: added.peer.clone(),
        added: added.at,
    };
    let content = Content {
        version: VERSION,
        added: decisions.added.iter().map(entry).collect(),
        distrusted: decisions.distrusted.iter().map(ToString::to_string).collect(),
    };
    let failed = |error| KeysError::file("write", path, error);
    let bytes = serde_json::to_vec(&content).map_err(|error| failed(error.into()))?;
    if let Some(directory) = path.parent() {
        files::create_private_dir(directory).map_err(|error| KeysError::file("create", directory, error))?;
    }
    files::replace_atomically(path, &bytes).map_err(failed)
}

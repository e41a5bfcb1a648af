//! Pins on the disk: one symbolic link each, and `pins.json`, which says why.

use super::pin::{PINS_MAX, Pin, check_reason};
use crate::files;
use crate::nix::{StoreDir, StorePath};
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The name of the file.
const FILE: &str = "pins.json";
/// The largest file that is read, in bytes: [`PINS_MAX`] pins with the longest names and reasons, all of it escaped.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// The permissions that the file may not have: writing by anybody else.
const FORBIDDEN: u32 = 0o022;
/// The format of the file.
const VERSION: u32 = 1;

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    pins: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// As `hash-name`.
    path: String,
    #[serde(default)]
    reason: String,
    /// In microseconds since 1970, as the next one.
    since: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copies: Option<u32>,
}

/// The directory of the pins.
#[derive(Debug)]
pub(super) struct Directory {
    /// Without symbolic links: this is what the daemon is told.
    dir: PathBuf,
    store_dir: StoreDir,
}

impl Directory {
    /// Makes the directory `dir` if need be, and reads what is in it.
    ///
    /// Links without an entry are those of a pin that was never confirmed, or of one that was removed: they go. If the
    /// file cannot be read they are all there is to know, and each becomes a pin: rather keep too much.
    pub(super) fn open(dir: &Path, store_dir: StoreDir) -> Result<(Self, BTreeMap<StorePath, Pin>), StoreError> {
        let failed = |source| StoreError::Io { file: dir.to_owned(), source };
        files::create_private_dir(dir).map_err(failed)?;
        let this = Self { dir: dir.canonicalize().map_err(failed)?, store_dir };
        let file = this.dir.join(FILE);
        files::remove_leftovers(&file).map_err(failed)?;
        let links = this.links().map_err(failed)?;
        match this.read() {
            Ok(list) => {
                for link in links.iter().filter(|link| list.as_ref().is_some_and(|list| !list.contains_key(link))) {
                    this.unlink(link)?;
                }
                Ok((this, list.unwrap_or_default()))
            }
            Err(source) => {
                log::warn!(file:% = file.display(), reason:% = source; "the file of pins cannot be read; what the links \
                    beside it lead to is kept, without reason and end");
                let now = SystemTime::now();
                let pin = |path: StorePath| Pin { path, reason: String::new(), since: now, until: None, copies: None };
                let list = links.into_iter().take(PINS_MAX).map(|path| (path.clone(), pin(path))).collect();
                this.write(&list)?;
                Ok((this, list))
            }
        }
    }

    /// Makes the link of `path`, if it is not there, and says where it is.
    pub(super) fn link(&self, path: &StorePath) -> Result<String, StoreError> {
        let (link, target) = (self.dir.join(path.to_string()), self.store_dir.join(path));
        let failed = |source| StoreError::Io { file: link.clone(), source };
        match symlink(&target, &link) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(&target)) {
                    std::fs::remove_file(&link).map_err(failed)?;
                    symlink(&target, &link).map_err(failed)?;
                }
            }
            Err(error) => return Err(failed(error)),
        }
        text(link)
    }

    /// Removes the link of `path`, if it is there.
    pub(super) fn unlink(&self, path: &StorePath) -> Result<(), StoreError> {
        let link = self.dir.join(path.to_string());
        match std::fs::remove_file(&link) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { file: link, source }),
            _ => Ok(()),
        }
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, list: &BTreeMap<StorePath, Pin>) -> Result<(), StoreError> {
        let pins = list.values().map(|pin| Entry {
            path: pin.path.to_string(),
            reason: pin.reason.clone(),
            since: micros(pin.since),
            until: pin.until.map(micros),
            copies: pin.copies,
        });
        let file = self.dir.join(FILE);
        serde_json::to_vec_pretty(&Content { version: VERSION, pins: pins.collect() })
            .map_err(io::Error::from)
            .and_then(|content| files::replace_atomically(&file, &content))
            .map_err(|source| StoreError::Io { file, source })
    }

    fn read(&self) -> io::Result<Option<BTreeMap<StorePath, Pin>>> {
        let Some(content) = files::read_private(&self.dir.join(FILE), FILE_MAX, FORBIDDEN)? else { return Ok(None) };
        let content: Content = serde_json::from_slice(&content)?;
        if content.version != VERSION {
            return Err(io::Error::other(format!("it is of version {}, and this is {VERSION}", content.version)));
        }
        if content.pins.len() > PINS_MAX {
            return Err(io::Error::other(format!("it has more than {PINS_MAX} pins")));
        }
        let pins = content.pins.into_iter().map(|entry| {
            check_reason(&entry.reason).map_err(io::Error::other)?;
            let Entry { path, reason, since, until, copies } = entry;
            let path: StorePath = path.parse().map_err(io::Error::other)?;
            let pin = Pin { path: path.clone(), reason, since: time(since), until: until.map(time), copies };
            Ok((path, pin))
        });
        pins.collect::<io::Result<_>>().map(Some)
    }

    fn links(&self) -> io::Result<Vec<StorePath>> {
        let mut links = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                links.extend(is_link_name(Path::new(&entry.file_name())));
            }
        }
        links.sort_unstable();
        Ok(links)
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn time(micros: u64) -> SystemTime {
    // What no clock can show is as good as for ever.
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

/// What a name of a link stands for, if it is one of ours.
fn is_link_name(name: &Path) -> Option<StorePath> {
    name.to_str()?.parse().ok()
}

/// The full text of a path in the file system, which the daemon needs.
fn text(path: PathBuf) -> Result<String, StoreError> {
    path.into_os_string().into_string().map_err(|path| StoreError::Configuration {
        key: "the state directory",
        what: format!("{} is not UTF-8, and the Nix daemon's protocol needs that", path.display()),
    })
}

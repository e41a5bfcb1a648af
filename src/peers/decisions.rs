//! What the administrator decided about peers at run time, in `decisions.json` of the state directory: who was added and
//! who is blocked.
//!
//! ```json
//! {"version":1,"added":[{"address":"tower:7650"}],
//!  "blocked":[{"id":"…","reason":"…","since":1789000000}]}
//! ```
//!
//! Unlike what is merely remembered (`persistence`), none of it may be lost: every decision is on the disk before it is
//! confirmed. A file that cannot be read, or makes no sense, may still say whom to keep out, so nothing starts without it.

use super::discovery::FixedPeer;
use super::error::PeersError;
use super::identity::NodeId;
use super::record::Block;
use crate::files;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::MutexGuard;

/// The name of the file.
pub(super) const FILE: &str = "decisions.json";
/// The version of its format.
const VERSION: u32 = 1;
/// The largest file read, in bytes: all that may be in it, with room to spare.
const SIZE_MAX: u64 = 4 * 1024 * 1024;
/// The most peers that can be added.
pub(super) const ADDED_MAX: usize = 256;
/// The most peers that can be blocked; far below the size of the table, which keeps all of them.
pub(super) const BLOCKED_MAX: usize = 1024;

/// All decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) added: Vec<FixedPeer>,
    pub(super) blocked: BTreeMap<NodeId, Block>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    #[serde(default)]
    added: Vec<WrittenPeer>,
    #[serde(default)]
    blocked: Vec<WrittenBlock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenPeer {
    address: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenBlock {
    id: NodeId,
    reason: String,
    since: u64,
}

/// The decisions, in memory and on the disk.
#[derive(Default)]
pub(super) struct Decisions {
    content: RwLock<Content>,
    /// One change at a time, so that the file always tells the latest.
    changing: tokio::sync::Mutex<()>,
    /// `None` forgets them at the end.
    state_dir: Option<PathBuf>,
    /// What is in force could not be written down.
    is_unsaved: AtomicBool,
}

impl Decisions {
    /// Reads the file in `state_dir`, off the reactor.
    ///
    /// # Errors
    /// A file that cannot be read, or makes no sense.
    pub(super) async fn load(state_dir: Option<PathBuf>) -> Result<Self, PeersError> {
        let Some(dir) = state_dir.clone() else { return Ok(Self::default()) };
        let path = dir.join(FILE);
        let read = tokio::task::spawn_blocking(move || read_all(&dir.join(FILE))).await;
        let content = read.unwrap_or_else(|error| Err(PeersError::file("read", &path, io::Error::other(error))))?;
        Ok(Self { content: RwLock::new(content), state_dir, ..Self::default() })
    }

    /// All of them.
    pub(super) fn content(&self) -> Content {
        self.content.read().clone()
    }

    /// The block on `id`, if there is one. Takes nanoseconds.
    pub(super) fn block_of(&self, id: NodeId) -> Option<Block> {
        self.content.read().blocked.get(&id).cloned()
    }

    /// Whether there is a block on `id`. Takes nanoseconds.
    pub(super) fn is_blocked(&self, id: NodeId) -> bool {
        self.content.read().blocked.contains_key(&id)
    }

    /// Waits for the right to change something. It is over when what this gives is dropped: whoever shows what was decided
    /// holds it until that is done, so that nobody decides otherwise in between.
    pub(super) async fn edit(&self) -> Edit<'_> {
        Edit { decisions: self, _edit: self.changing.lock().await }
    }
}

/// The right to change the decisions.
pub(super) struct Edit<'a> {
    decisions: &'a Decisions,
    _edit: MutexGuard<'a, ()>,
}

impl Edit<'_> {
    /// Changes them, on the disk first. `change` tells whether it changed anything.
    ///
    /// # Errors
    /// What `change` refuses; the file cannot be written. Then everything is as before.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut Content) -> Result<bool, PeersError>,
    ) -> Result<bool, PeersError> {
        let mut content = self.decisions.content();
        if !change(&mut content)? {
            return Ok(false);
        }
        self.save(&content).await?;
        *self.decisions.content.write() = content;
        Ok(true)
    }

    /// Changes them at once, whatever becomes of the file: for what keeps somebody out. To repeat it writes it down, should that have failed.
    ///
    /// # Errors
    /// What `change` refuses; or, with [`PeersError::NotSaved`], the file cannot be written, and it is in force all the same.
    pub(super) async fn enforce(
        &self,
        change: impl FnOnce(&mut Content) -> Result<bool, PeersError>,
    ) -> Result<bool, PeersError> {
        let mut content = self.decisions.content();
        let is_new = change(&mut content)?;
        if is_new {
            *self.decisions.content.write() = content.clone();
        }
        if is_new || self.decisions.is_unsaved.load(Relaxed) {
            self.save(&content).await.map_err(|error| {
                self.decisions.is_unsaved.store(true, Relaxed);
                PeersError::NotSaved(Box::new(error))
            })?;
        }
        Ok(is_new)
    }

    /// Writes all of it down.
    async fn save(&self, content: &Content) -> Result<(), PeersError> {
        if let Some(dir) = self.decisions.state_dir.clone() {
            let text = render(content);
            let path = dir.join(FILE);
            let written = tokio::task::spawn_blocking(move || {
                files::create_private_dir(&dir)?;
                files::replace_atomically(&dir.join(FILE), &text?)
            });
            let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            written.map_err(|error| PeersError::file("write", &path, error))?;
        }
        self.decisions.is_unsaved.store(false, Relaxed);
        Ok(())
    }
}

fn render(content: &Content) -> io::Result<Vec<u8>> {
    let added = content.added.iter();
    let blocked = content.blocked.iter();
    let written = Written {
        version: VERSION,
        added: added.map(|one| WrittenPeer { address: one.to_string() }).collect(),
        blocked: blocked
            .map(|(id, block)| WrittenBlock { id: *id, reason: block.reason.clone(), since: block.since })
            .collect(),
    };
    Ok(serde_json::to_vec_pretty(&written)?)
}

/// The content of the file.
fn read_all(path: &Path) -> Result<Content, PeersError> {
    let Some(text) = read(path).map_err(|error| PeersError::file("read", path, error))? else {
        return Ok(Content::default());
    };
    parse(&text).map_err(|problem| PeersError::Decisions { path: path.to_owned(), problem })
}

/// The bytes of the file, and one more should it be too large; `None` where there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// What the bytes say, or what is wrong with them.
fn parse(text: &[u8]) -> Result<Content, String> {
    if text.len() as u64 > SIZE_MAX {
        return Err(format!("it is larger than {SIZE_MAX} bytes"));
    }
    let written: Written = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if written.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", written.version));
    }
    let mut content = Content::default();
    for one in written.added.into_iter().take(ADDED_MAX) {
        content.added.push(one.address.parse().map_err(|error: PeersError| error.to_string())?);
    }
    let blocked = written.blocked.into_iter().take(BLOCKED_MAX);
    content.blocked = blocked.map(|one| (one.id, Block { reason: one.reason, since: one.since })).collect();
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    fn block(content: &mut Content) -> Result<bool, PeersError> {
        let block = Block { reason: "loud".into(), since: 7 };
        Ok(content.blocked.insert(NodeKey::from_seed([1; 32]).id(), block).is_none())
    }

    #[tokio::test]
    async fn decisions_are_on_the_disk_once_they_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let decisions = Decisions::load(Some(dir.path().to_owned())).await.unwrap();
        assert_eq!(decisions.content(), Content::default());
        let add = |content: &mut Content| {
            content.added.push("tower:1".parse().unwrap());
            Ok(true)
        };
        let edit = decisions.edit().await;
        assert!(edit.change(add).await.unwrap() && edit.change(block).await.unwrap());
        assert!(!edit.change(block).await.unwrap());
        let again = Decisions::load(Some(dir.path().to_owned())).await.unwrap();
        assert_eq!(again.content(), decisions.content());
        assert!(
            again.is_blocked(NodeKey::from_seed([1; 32]).id()) && !again.is_blocked(NodeKey::from_seed([2; 32]).id())
        );
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_decided() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let decisions = Decisions::load(Some(state.clone())).await.unwrap();
        std::fs::write(&state, "a file where the directory should be").unwrap();
        let error = decisions.edit().await.change(block).await.unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(decisions.content(), Content::default());
    }

    #[tokio::test]
    async fn who_is_to_stay_out_stays_out_whatever_the_disk_does() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let decisions = Decisions::load(Some(state.clone())).await.unwrap();
        std::fs::write(&state, "a file where the directory should be").unwrap();
        let edit = decisions.edit().await;
        let error = edit.enforce(block).await.unwrap_err();
        assert!(matches!(error, PeersError::NotSaved(_)) && error.to_string().contains("in force now"), "{error}");
        let id = NodeKey::from_seed([1; 32]).id();
        assert!(decisions.is_blocked(id));
        assert!(edit.enforce(block).await.is_err(), "it is not written down yet");
        std::fs::remove_file(&state).unwrap();
        assert!(!edit.enforce(block).await.unwrap(), "it was in force already");
        assert!(Decisions::load(Some(state)).await.unwrap().is_blocked(id), "and is written down by now");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_kept_and_nothing_starts() {
        let dir = tempfile::tempdir().unwrap();
        // For root, too: what is there is a directory.
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        let error = Decisions::load(Some(dir.path().to_owned())).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot read") && dir.path().join(FILE).exists(), "{error}");
    }

    #[tokio::test]
    async fn nothing_starts_with_a_file_that_makes_no_sense() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for garbage in ["", "{", r#"{"version":2}"#, r#"{"version":1,"added":[{"address":"no port"}]}"#] {
            std::fs::write(&path, garbage).unwrap();
            let error = Decisions::load(Some(dir.path().to_owned())).await.err().unwrap().to_string();
            assert!(error.contains("decisions.json makes no sense: ") && error.contains("restore it"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);
        }
    }
}

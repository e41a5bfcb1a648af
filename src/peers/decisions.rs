//! What the administrator decided about peers at run time, in `decisions.json` of the state directory: who was added and
//! who is blocked.
//!
//! ```json
//! {"version":1,"added":[{"address":"tower:7650","name":"the big one"}],
//!  "blocked":[{"id":"…","reason":"…","since":1789000000}]}
//! ```
//!
//! Unlike what is merely remembered (`memory`), none of it may be lost: every decision is on the disk before it is
//! confirmed, and a file that cannot be read is set aside instead of being written over.

use super::discovery::FixedPeer;
use super::error::PeersError;
use super::identity::NodeId;
use super::table::Block;
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

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

/// A peer that the administrator added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddedPeer {
    pub(super) peer: FixedPeer,
    /// What the administrator calls it.
    pub(super) name: Option<String>,
}

/// All decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) added: Vec<AddedPeer>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
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
}

impl Decisions {
    /// Reads the file in `state_dir`, off the reactor.
    pub(super) async fn load(state_dir: Option<PathBuf>) -> Self {
        let Some(dir) = state_dir.clone() else { return Self::default() };
        let path = dir.join(FILE);
        let read = tokio::task::spawn_blocking(move || read(&dir.join(FILE))).await;
        let content = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(content) => content,
            Err(error) => {
                let aside = path.with_extension("json.unreadable");
                let kept = std::fs::rename(&path, &aside);
                log::error!(
                    "cannot read {}: {error}; peers that were added or blocked by hand are forgotten{}",
                    path.display(),
                    kept.map_or_else(|_| String::new(), |()| format!(" (the file is now {})", aside.display()))
                );
                Content::default()
            }
        };
        Self { content: RwLock::new(content), changing: tokio::sync::Mutex::default(), state_dir }
    }

    /// All of them.
    pub(super) fn content(&self) -> Content {
        self.content.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The block on `id`, if there is one. Takes nanoseconds.
    pub(super) fn block_of(&self, id: NodeId) -> Option<Block> {
        self.content.read().unwrap_or_else(PoisonError::into_inner).blocked.get(&id).cloned()
    }

    /// Whether there is a block on `id`. Takes nanoseconds.
    pub(super) fn is_blocked(&self, id: NodeId) -> bool {
        self.content.read().unwrap_or_else(PoisonError::into_inner).blocked.contains_key(&id)
    }

    /// Changes them, on the disk first. `change` tells whether it changed anything.
    ///
    /// # Errors
    /// What `change` refuses; the file cannot be written. Then everything is as before.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut Content) -> Result<bool, PeersError>,
    ) -> Result<bool, PeersError> {
        let _turn = self.changing.lock().await;
        let mut content = self.content();
        if !change(&mut content)? {
            return Ok(false);
        }
        if let Some(dir) = self.state_dir.clone() {
            let text = render(&content);
            let path = dir.join(FILE);
            let written = tokio::task::spawn_blocking(move || {
                files::create_private_dir(&dir)?;
                files::replace_atomically(&dir.join(FILE), &text?)
            });
            let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            written.map_err(|error| PeersError::file("write", &path, error))?;
        }
        *self.content.write().unwrap_or_else(PoisonError::into_inner) = content;
        Ok(true)
    }
}

fn render(content: &Content) -> io::Result<Vec<u8>> {
    let added = content.added.iter();
    let blocked = content.blocked.iter();
    let written = Written {
        version: VERSION,
        added: added.map(|one| WrittenPeer { address: one.peer.to_string(), name: one.name.clone() }).collect(),
        blocked: blocked
            .map(|(id, block)| WrittenBlock { id: *id, reason: block.reason.clone(), since: block.since })
            .collect(),
    };
    Ok(serde_json::to_vec_pretty(&written)?)
}

fn read(path: &Path) -> io::Result<Content> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than {SIZE_MAX} bytes")));
    }
    let written: Written = serde_json::from_slice(&text)?;
    if written.version != VERSION {
        return Err(io::Error::other(format!("its version is {}, not {VERSION}", written.version)));
    }
    let mut content = Content::default();
    for one in written.added.into_iter().take(ADDED_MAX) {
        let peer = one.address.parse().map_err(io::Error::other)?;
        content.added.push(AddedPeer { peer, name: one.name });
    }
    let blocked = written.blocked.into_iter().take(BLOCKED_MAX);
    content.blocked = blocked.map(|one| (one.id, Block { reason: one.reason, since: one.since })).collect();
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::identity::NodeKey;

    fn block(content: &mut Content) -> Result<bool, PeersError> {
        let block = Block { reason: "loud".into(), since: 7 };
        Ok(content.blocked.insert(NodeKey::from_seed([1; 32]).id(), block).is_none())
    }

    #[tokio::test]
    async fn decisions_are_on_the_disk_once_they_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let decisions = Decisions::load(Some(dir.path().to_owned())).await;
        assert_eq!(decisions.content(), Content::default());
        let add = |content: &mut Content| {
            content.added.push(AddedPeer { peer: "tower:1".parse().unwrap(), name: Some("é".into()) });
            Ok(true)
        };
        assert!(decisions.change(add).await.unwrap() && decisions.change(block).await.unwrap());
        assert!(!decisions.change(block).await.unwrap());
        let again = Decisions::load(Some(dir.path().to_owned())).await;
        assert_eq!(again.content(), decisions.content());
        assert!(
            again.is_blocked(NodeKey::from_seed([1; 32]).id()) && !again.is_blocked(NodeKey::from_seed([2; 32]).id())
        );
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_decided() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let decisions = Decisions::load(Some(blocked.join("state"))).await;
        let error = decisions.change(block).await.unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(decisions.content(), Content::default());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for garbage in ["", "{", r#"{"version":2}"#, r#"{"version":1,"added":[{"address":"no port"}]}"#] {
            std::fs::write(&path, garbage).unwrap();
            let decisions = Decisions::load(Some(dir.path().to_owned())).await;
            assert_eq!(decisions.content(), Content::default(), "{garbage}");
            assert_eq!(std::fs::read_to_string(dir.path().join("decisions.json.unreadable")).unwrap(), garbage);
            assert!(!path.exists());
        }
    }
}

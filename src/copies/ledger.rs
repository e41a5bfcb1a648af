//! What was agreed on, over restarts: `copies.json` in the state directory. Losing it costs that members which hold something are not told when
//! it is wanted no more.

use super::message::Named;
use super::plan::{Holder, Holding, Plan};
use crate::files;
use crate::nix::StorePath;
use crate::peers::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The name of the file.
const FILE: &str = "copies.json";
/// The version of its format.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes.
const SIZE_MAX: u64 = 32 * 1024 * 1024;

/// What is held here for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// For whom.
    pub(super) owners: BTreeSet<NodeId>,
    /// The size of its NAR, in bytes.
    pub(super) size: u64,
}

/// Both sides of what was agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) plan: Plan,
    pub(super) held: BTreeMap<StorePath, Held>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(default)]
    given: Vec<Given>,
    #[serde(default)]
    spare: Vec<Spare>,
    #[serde(default)]
    held: Vec<HeldEntry>,
}

/// What others hold of ours.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    path: Named,
    id: NodeId,
    /// When it was last there, in seconds since 1970.
    seen: u64,
    /// When it last said that it has it; left out before that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    held: Option<u64>,
}

/// What others may hold and need not.
#[derive(Debug, Serialize, Deserialize)]
struct Spare {
    path: Named,
    id: NodeId,
}

/// What we hold of theirs.
#[derive(Debug, Serialize, Deserialize)]
struct HeldEntry {
    path: Named,
    size: u64,
    owners: BTreeSet<NodeId>,
}

impl Ledger {
    /// Reads it; an empty one if there is none. One that cannot be read is told and begun anew.
    pub(super) fn read(state_dir: &Path) -> Self {
        let path = file(state_dir);
        match load(&path) {
            Ok(content) => Self::from(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                log::warn!(file:% = path.display(), reason:% = error; "what was agreed on about copies cannot be read: it is agreed on anew");
                Self::default()
            }
        }
    }

    /// Writes it.
    pub(super) fn write(&self, state_dir: &Path) -> io::Result<()> {
        let given = self.plan.holders.iter().flat_map(|(path, holders)| {
            holders.iter().map(|(id, holder)| Given {
                path: Named(path.clone()),
                id: *id,
                seen: holder.seen,
                held: if let Holding::Held(at) = holder.holding { Some(at) } else { None },
            })
        });
        let spare = self.plan.spare.iter();
        let content = Content {
            version: VERSION,
            given: given.collect(),
            spare: spare
                .flat_map(|(id, paths)| paths.iter().map(|path| Spare { path: Named(path.clone()), id: *id }))
                .collect(),
            held: self
                .held
                .iter()
                .map(|(path, held)| HeldEntry {
                    path: Named(path.clone()),
                    size: held.size,
                    owners: held.owners.clone(),
                })
                .collect(),
        };
        files::replace_atomically(&file(state_dir), &serde_json::to_vec(&content)?)
    }
}

impl From<Content> for Ledger {
    fn from(content: Content) -> Self {
        let mut ledger = Self::default();
        for Given { path, id, seen, held } in content.given {
            let holding = held.map_or(Holding::Asked, Holding::Held);
            ledger.plan.holders.entry(path.0).or_default().insert(id, Holder { holding, seen });
        }
        for Spare { path, id } in content.spare {
            ledger.plan.spare.entry(id).or_default().insert(path.0);
        }
        for HeldEntry { path, size, owners } in content.held {
            ledger.held.insert(path.0, Held { owners, size });
        }
        ledger
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

fn load(path: &Path) -> io::Result<Content> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it is larger than {SIZE_MAX} bytes")));
    }
    let content: Content = serde_json::from_slice(&text)?;
    if content.version != VERSION {
        return Err(io::Error::other(format!("its version is {}, not {VERSION}", content.version)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreHash;
    use crate::peers::NodeKey;

    #[test]
    fn it_is_read_as_it_was_written_and_begun_anew_if_it_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Ledger::read(dir.path()), Ledger::default());
        let path = |number| StorePath::new(StoreHash::new([number; 20]), "x").unwrap();
        let id = NodeKey::from_seed([1; 32]).id();
        let mut ledger = Ledger::default();
        for (number, holding) in [(1, Holding::Asked), (2, Holding::Held(7))] {
            ledger.plan.holders.entry(path(number)).or_default().insert(id, Holder { holding, seen: 5 });
        }
        ledger.plan.spare.entry(id).or_default().insert(path(3));
        ledger.held.insert(path(4), Held { owners: [id].into(), size: 10 });
        ledger.write(dir.path()).unwrap();
        assert_eq!(Ledger::read(dir.path()), ledger);
        for text in ["", "{\"version\":2}", "null"] {
            std::fs::write(file(dir.path()), text).unwrap();
            assert_eq!(Ledger::read(dir.path()), Ledger::default(), "{text}");
        }
    }
}

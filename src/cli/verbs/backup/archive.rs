//! The files of a state directory, as a tar archive: a list of what it is, and then plain files with short relative names. Nothing else is put
//! in, and nothing else is taken out.

use crate::system::host_name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};
use zeroize::Zeroizing;

/// The first file of each archive.
const LIST: &str = "peernix-backup.json";
/// The version of what it says.
const VERSION: u32 = 1;
/// All files together, in bytes.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// How many files there may be.
const FILES_MAX: usize = 4096;
/// How deep they lie at most, and how long their names are.
const DEPTH_MAX: usize = 3;
const NAME_MAX: usize = 200;
/// Without it there is nothing to keep.
const IDENTITY: &str = "node.key";
/// Says which machine the identity is bound to: on another disk it may be another one.
const BOUND: &str = "node.machine";

#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: u32,
    program: String,
    host: String,
}

/// What is in a backup.
pub(super) struct Archive {
    /// What the machine was called.
    pub(super) host: String,
    /// By their names, relative to the state directory.
    files: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Archive {
    /// Reads a state directory. Links, and what is being written, are left out: pins are made anew from their list.
    pub(super) fn of(state: &Path) -> io::Result<Self> {
        let mut archive = Self { host: host_name::of_kernel(), files: BTreeMap::new() };
        archive.read(state, "", 0)?;
        Ok(archive)
    }

    fn read(&mut self, dir: &Path, before: &str, depth: usize) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let name = format!("{before}{name}");
            if kind.is_dir() && depth + 1 < DEPTH_MAX {
                self.read(&entry.path(), &format!("{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.add(name, std::fs::read(entry.path())?.into())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, content: Zeroizing<Vec<u8>>) -> io::Result<()> {
        let bytes: usize = self.files.values().map(|content| content.len()).sum();
        if self.files.len() >= FILES_MAX || (bytes + content.len()) as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} files, or {} MiB", BYTES_MAX >> 20)));
        }
        self.files.insert(name, content);
        Ok(())
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is the key that says who the machine is.
    pub(super) fn has_identity(&self) -> bool {
        self.files.contains_key(IDENTITY)
    }

    /// As a tar archive.
    pub(super) fn pack(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let list = serde_json::to_vec(&List { version: VERSION, program, host: self.host.clone() })?;
        let mut tar = tar::Builder::new(Vec::new());
        let files = self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
        for (name, content) in std::iter::once((LIST, list.as_slice())).chain(files) {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            tar.append_data(&mut header, name, content)?;
        }
        tar.into_inner().map(Zeroizing::new)
    }

    /// Reads what [`Self::pack`] made; anything else is an error.
    pub(super) fn unpack(bytes: &[u8]) -> io::Result<Self> {
        let strange = |what: &str| io::Error::other(format!("this is no backup of Peernix: {what}"));
        let mut tar = tar::Archive::new(bytes);
        let mut archive: Option<Self> = None;
        for entry in tar.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(strange("there is something in it that is no plain file"));
            }
            let name = entry.path()?.to_str().map(str::to_owned).ok_or_else(|| strange("a name is no text"))?;
            let mut content = Zeroizing::new(Vec::new());
            entry.by_ref().take(BYTES_MAX + 1).read_to_end(&mut content)?;
            match &mut archive {
                None if name == LIST => {
                    let list: List = serde_json::from_slice(&content)?;
                    if list.version != VERSION {
                        return Err(strange(&format!("it has version {}, not {VERSION}", list.version)));
                    }
                    archive = Some(Self { host: list.host, files: BTreeMap::new() });
                }
                None => return Err(strange("it does not begin with its list")),
                Some(_) if !is_plain(&name) => return Err(strange("a name leads elsewhere")),
                Some(archive) => archive.add(name, content)?,
            }
        }
        archive.filter(Self::has_identity).ok_or_else(|| strange("there is no node key"))
    }

    /// Writes the files into a directory of our own, for this user alone.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        for (name, content) in self.files.iter().filter(|(name, _)| *name != BOUND) {
            let file = dir.join(name);
            if let Some(parent) = file.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

/// Whether a name stays where it is put.
fn is_plain(name: &str) -> bool {
    let path = Path::new(name);
    name.len() <= NAME_MAX
        && !name.is_empty()
        && path.components().count() <= DEPTH_MAX
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(files: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
        let list = serde_json::to_vec(&List { version: 1, program: "x".into(), host: "tower".into() }).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content, kind) in [(LIST, list.as_slice(), tar::EntryType::Regular)].iter().chain(files) {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_entry_type(*kind);
            // As somebody else would write it, who has no scruples about names.
            let field = &mut header.as_mut_bytes()[..100];
            field[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn only_plain_files_with_plain_names_are_taken() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let key: (&str, &[u8], _) = (IDENTITY, &[7; 32], Regular);
        let taken = Archive::unpack(&packed(&[key, ("keys/keys.json", b"{}", Regular)])).unwrap();
        assert_eq!((taken.host.as_str(), taken.len()), ("tower", 2));
        for bad in [
            ("../evil", Regular),
            ("/etc/evil", Regular),
            ("a/../../evil", Regular),
            ("a/b/c/d", Regular),
            ("link", Symlink),
            ("folder", Directory),
        ] {
            assert!(Archive::unpack(&packed(&[key, (bad.0, b"", bad.1)])).is_err(), "{bad:?}");
        }
        assert!(Archive::unpack(&packed(&[])).is_err_and(|error| error.to_string().contains("no node key")));
        assert!(Archive::unpack(b"").is_err());
    }

    #[test]
    fn links_and_what_is_being_written_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(IDENTITY), [7; 32]).unwrap();
        std::fs::write(dir.path().join(".half"), "").unwrap();
        std::fs::create_dir(dir.path().join("pins")).unwrap();
        std::fs::write(dir.path().join("pins/pins.json"), "[]").unwrap();
        std::os::unix::fs::symlink("/nix/store/x", dir.path().join("pins/x")).unwrap();
        let archive = Archive::of(dir.path()).unwrap();
        assert_eq!(archive.files.keys().collect::<Vec<_>>(), [IDENTITY, "pins/pins.json"]);
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert!(Archive::unpack(&bytes).is_err());
        }
    }
}

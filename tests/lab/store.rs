//! Sets of signed store paths, made once and kept in `target/lab/stores`, from which hosts get what a case wants them to have.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use peernix::nix::{NarHash, PathInfo, StoreDir, StoreHash, StorePath};
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::nar;
use crate::process::output;

/// A store without a host: a folder of path contents and what Nix has to know about them.
pub(crate) struct StoreSet {
    store: PathBuf,
    /// In an order in which every path comes after those it refers to.
    pub(crate) paths: Vec<PathInfo>,
}

impl StoreSet {
    /// The path with this name.
    pub(crate) fn named(&self, name: &str) -> Result<&PathInfo> {
        self.paths.iter().find(|info| info.path.name() == name).with_context(|| format!("no path named {name}"))
    }

    /// These paths and all that they refer to, in the order of [`Self::paths`]: a store holds whole closures.
    pub(crate) fn closure_of<'a>(&'a self, some: impl IntoIterator<Item = &'a PathInfo>) -> Vec<&'a PathInfo> {
        let mut wanted: BTreeSet<&StorePath> = some.into_iter().map(|info| &info.path).collect();
        // A path comes after those it refers to, so one walk backwards is enough.
        for info in self.paths.iter().rev() {
            if wanted.contains(&info.path) {
                wanted.extend(&info.references);
            }
        }
        self.paths.iter().filter(|info| wanted.contains(&info.path)).collect()
    }

    /// Where the content of a path lies.
    pub(crate) fn content(&self, info: &PathInfo) -> PathBuf {
        self.store.join(info.path.to_string())
    }

    /// Gives all paths to a host, signed.
    pub(crate) fn install(&self, host: &Host) -> Result<()> {
        self.install_some(host, &self.paths.iter().collect::<Vec<_>>(), Signed::Yes)
    }

    /// Gives these paths to a host. The content is hard-linked: thousands of files take a moment only.
    pub(crate) fn install_some(&self, host: &Host, paths: &[&PathInfo], signed: Signed) -> Result<()> {
        let target = host.dir.join("nix/store");
        let list = paths.iter().map(|info| info.path.to_string()).collect::<Vec<_>>();
        for names in list.chunks(500) {
            output(Command::new("cp").arg("-al").args(names).arg(&target).current_dir(&self.store))?;
        }
        let dir = StoreDir::default();
        let mut registration = String::new();
        for info in paths {
            registration += &registration_record(info, &dir);
        }
        feed(host.command("nix-store").arg("--load-db"), &registration)?;
        if signed == Signed::Yes {
            let full = list.iter().map(|name| format!("{}/{name}", dir.as_str())).collect::<Vec<_>>();
            let key = host.dir.join("tmp/key");
            std::fs::write(&key, crate::world::secret_key()?.to_file().as_bytes())?;
            for some in full.chunks(500) {
                output(host.command("nix").args(["store", "sign", "-k", "/run/host/tmp/key"]).args(some))?;
            }
            std::fs::remove_file(key)?;
        }
        Ok(())
    }
}

/// Whether installed paths carry the lab's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Yes,
    No,
}

/// A path as `nix-store --load-db` reads it: path, hash, size, deriver, number of references, references.
fn registration_record(info: &PathInfo, dir: &StoreDir) -> String {
    let hash: String = info.nar_hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = format!("{}\n{hash}\n{}\n\n{}\n", dir.join(&info.path), info.nar_size, info.references.len());
    for reference in &info.references {
        text += &dir.join(reference);
        text.push('\n');
    }
    text
}

/// Runs a command with `text` as its standard input.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    use std::io::Write;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(text.as_bytes())?;
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// Makes a [`StoreSet`], or takes the one that an earlier run made.
pub(crate) struct Builder {
    dir: PathBuf,
    store: PathBuf,
    paths: Vec<PathInfo>,
    by_name: HashMap<String, StorePath>,
}

impl Builder {
    /// The set `name` of this `version` under `stores`, made by `make` unless it is there.
    pub(crate) fn build(
        stores: &Path,
        name: &str,
        version: &str,
        make: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<StoreSet> {
        let dir = stores.join(name);
        let (stamp, list) = (dir.join("version"), dir.join("paths"));
        let store = dir.join("store");
        if std::fs::read_to_string(&stamp).is_ok_and(|found| found == version) {
            let paths = parse_list(&std::fs::read_to_string(&list)?)?;
            return Ok(StoreSet { store, paths });
        }
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&store)?;
        let mut builder = Self { dir, store, paths: Vec::new(), by_name: HashMap::new() };
        make(&mut builder)?;
        std::fs::write(&list, render_list(&builder.paths))?;
        std::fs::write(builder.dir.join("version"), version)?;
        Ok(StoreSet { store: builder.store, paths: builder.paths })
    }

    /// Adds a path whose content `make` writes to the place it is given.
    pub(crate) fn add(
        &mut self,
        name: &str,
        references: &[StorePath],
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<StorePath> {
        let digest: [u8; 32] = Sha256::digest(format!("peernix lab {name}")).into();
        let mut hash = [0; 20];
        hash.copy_from_slice(&digest[..20]);
        let path = StorePath::new(StoreHash::new(hash), name)?;
        let place = self.store.join(path.to_string());
        make(&place).with_context(|| format!("making {path}"))?;
        canonicalise(&place)?;
        let (nar_hash, nar_size) = nar::hash(&place)?;
        let mut references = references.to_vec();
        references.sort();
        references.dedup();
        self.paths.push(PathInfo {
            path: path.clone(),
            nar_hash,
            nar_size,
            references,
            deriver: None,
            signatures: vec![],
            ca: None,
        });
        self.by_name.insert(name.into(), path.clone());
        Ok(path)
    }

    /// How many paths there are so far.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The paths so far.
    pub(crate) fn added(&self) -> Vec<StorePath> {
        self.paths.iter().map(|info| info.path.clone()).collect()
    }
}

/// One line a path: base name, NAR hash, NAR size, references.
fn render_list(paths: &[PathInfo]) -> String {
    let mut text = String::new();
    for info in paths {
        let references: Vec<String> = info.references.iter().map(ToString::to_string).collect();
        text += &format!("{} {} {} {}\n", info.path, info.nar_hash, info.nar_size, references.join(" "));
    }
    text
}

fn parse_list(text: &str) -> Result<Vec<PathInfo>> {
    text.lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().context("a short line in the list of paths");
            let path = word()?.parse()?;
            let nar_hash: NarHash = word()?.parse()?;
            let nar_size = word()?.parse()?;
            let references = words.map(str::parse).collect::<Result<Vec<_>, _>>()?;
            Ok(PathInfo { path, nar_hash, nar_size, references, deriver: None, signatures: vec![], ca: None })
        })
        .collect()
}

/// Times and modes as Nix wants them in its store: one second after the epoch, read-only.
fn canonicalise(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            canonicalise(&entry?.path())?;
        }
    }
    if !meta.is_symlink() {
        let executable = meta.is_dir() || meta.permissions().mode() & 0o100 != 0;
        std::fs::set_permissions(path, PermissionsExt::from_mode(if executable { 0o555 } else { 0o444 }))?;
    }
    let time = TimeSpec::new(1, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

//! What is served: a store made by the real Nix from files that Debian's packages put onto this machine, and a flat cache of it.

use anyhow::{Context as _, ensure};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Small paths.
    pub(super) small: usize,
    /// Files of the tree.
    pub(super) files: usize,
    /// Bytes of the large file.
    pub(super) large: u64,
    /// Bytes of the largest, of which only a range is asked for; none if 0.
    pub(super) largest: u64,
}

/// Files of small paths have between these many bytes.
const SMALL: std::ops::Range<u64> = 4 * 1024..200 * 1024;
/// Where the files come from.
const SOURCES: [&str; 2] = ["/usr/lib", "/usr/share"];
/// The key that all paths are signed with. Everybody knows its secret half.
const SECRET_KEY: &str = include_str!("../../tests/golden/keys/test-1.secret");

/// A store.
pub(super) struct Content {
    /// Below it lies `nix/store`.
    pub(super) root: PathBuf,
    /// The same as a flat cache without compression.
    pub(super) flat: PathBuf,
    pub(super) small: Vec<String>,
    pub(super) tree: String,
    pub(super) large: String,
    pub(super) largest: Option<String>,
}

impl Content {
    /// Makes it below `dir`.
    pub(super) fn make(dir: &Path, sizes: Sizes) -> anyhow::Result<Self> {
        let (root, flat, files) = (dir.join("root"), dir.join("flat"), dir.join("files"));
        for dir in [&root, &files] {
            fs::create_dir_all(dir)?;
        }
        let nix = Nix { root: root.clone() };
        let (mut all, mut open) = (Vec::new(), SOURCES.map(PathBuf::from).to_vec());
        while let Some(dir) = open.pop() {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.path().symlink_metadata() else { continue };
                if metadata.is_dir() {
                    open.push(entry.path());
                } else if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
                    all.push((entry.path(), metadata.len()));
                }
            }
        }
        all.sort();
        let small = all.iter().filter(|(_, size)| SMALL.contains(size)).step_by(7).take(sizes.small);
        let mut paths = Vec::new();
        for (number, (file, _)) in small.enumerate() {
            let copy = files.join(format!("small-{number}"));
            fs::copy(file, &copy)?;
            paths.push(copy);
        }
        ensure!(paths.len() == sizes.small, "this machine has too few files below {}", SOURCES.join(" and "));
        let tree = files.join("tree");
        for (number, (file, _)) in all.iter().filter(|(_, size)| *size < SMALL.end).take(sizes.files).enumerate() {
            let dir = tree.join(format!("{}", number / 100));
            fs::create_dir_all(&dir)?;
            fs::copy(file, dir.join(number.to_string()))?;
        }
        let large = files.join("large");
        fill(&large, sizes.large, all.iter().filter(|(_, size)| *size > SMALL.end).map(|(file, _)| file))?;
        let largest = (sizes.largest > 0).then(|| files.join("largest"));
        if let Some(largest) = &largest {
            fs::File::create(largest)?.set_len(sizes.largest)?;
        }
        let small = nix.add(&paths)?;
        let tree = nix.add(&[tree])?.remove(0);
        let large = nix.add(&[large])?.remove(0);
        let largest = largest.map(|file| anyhow::Ok(nix.add(&[file])?.remove(0))).transpose()?;
        fs::remove_dir_all(&files)?;
        let key = dir.join("secret-key");
        fs::write(&key, SECRET_KEY.trim())?;
        let all: Vec<&str> = small.iter().chain([&tree, &large]).chain(&largest).map(String::as_str).collect();
        nix.run("nix", &[&["store", "sign", "--key-file", path(&key)?], &all[..]].concat())?;
        let cache = format!("file://{}?compression=none", path(&flat)?);
        nix.run("nix", &[&["copy", "--to", &cache], &all[..]].concat())?;
        Ok(Self { root, flat, small, tree, large, largest })
    }
}

/// The hash part of a path.
pub(super) fn hash_part(path: &str) -> &str {
    path.trim_start_matches("/nix/store/").get(..32).unwrap_or_default()
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{}: the name is not UTF-8", path.display()))
}

/// Makes a file of `size` bytes out of others, one after the other and again from the first.
fn fill<'a>(file: &Path, size: u64, sources: impl Iterator<Item = &'a PathBuf> + Clone) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(fs::File::create(file)?);
    let mut left = size;
    for source in sources.cycle() {
        if left == 0 {
            break;
        }
        let mut bytes = Vec::new();
        fs::File::open(source)?.take(left).read_to_end(&mut bytes)?;
        out.write_all(&bytes)?;
        left -= bytes.len() as u64;
    }
    Ok(out.flush()?)
}

/// The real Nix on a chroot store.
pub(super) struct Nix {
    pub(super) root: PathBuf,
}

impl Nix {
    /// A command of it, which asks no daemon and reads no configuration of the machine.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("NIX_REMOTE", format!("local?root={}", self.root.display()))
            .env("NIX_CONF_DIR", &self.root)
            .env(
                "NIX_CONFIG",
                "experimental-features = nix-command\nbuild-users-group =\nsandbox = false\nsubstituters =\n",
            )
            .env("HOME", &self.root)
            .env("XDG_CACHE_HOME", self.root.join("cache"));
        command
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("{program} (apt-get install nix-bin)"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program}: {stderr}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    fn add(&self, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
        let mut arguments = vec!["--add"];
        for file in files {
            arguments.push(path(file)?);
        }
        Ok(self.run("nix-store", &arguments)?.lines().map(str::to_owned).collect())
    }
}

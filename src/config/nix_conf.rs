//! nix.conf, as far as it says whose signatures this machine's Nix trusts.
//!
//! Source: the Nix manual, [nix.conf](https://nix.dev/manual/nix/stable/command-ref/conf-file): `name = value`, `#` to the
//! end of the line, `extra-` adds to a list, `include` and `!include` (which may be missing) relative to the file.

use super::sections::CACHE_NIXOS_ORG_KEY;
use crate::files;
use crate::nix::PublicKey;
use std::io;
use std::path::{Path, PathBuf};

/// The largest file read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// How deep files may include each other.
const DEPTH_MAX: usize = 8;
/// How many files are read in all.
const FILES_MAX: usize = 64;
/// How many keys are taken.
const KEYS_MAX: usize = 1024;

/// The keys that a path must be signed by to be handed to Nix, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedBy {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// Where they stand, in words: a key of our configuration, files of Nix, or Nix's own default.
    pub origin: String,
    /// What was wrong in files that are not ours and was passed over.
    pub notices: Vec<String>,
}

/// The keys that nix.conf in `dir` trusts, or the one that Nix has built in.
///
/// The file is Nix's and not ours: what is wrong in it is noted and passed over, as the keys that remain are still the only
/// ones that count.
pub(super) fn trusted_public_keys(dir: &Path) -> TrustedBy {
    let mut reader = Reader { keys: vec![CACHE_NIXOS_ORG_KEY.to_owned()], ..Reader::default() };
    reader.file(&dir.join("nix.conf"), Missing::IsFine, 0);
    let Reader { keys, sources, mut notices, .. } = reader;
    let mut trusted: Vec<PublicKey> = Vec::new();
    for text in &keys {
        match text.parse::<PublicKey>() {
            Ok(key) if !trusted.contains(&key) => trusted.push(key),
            Ok(_) => {}
            Err(error) => notices.push(format!("trusted-public-keys of nix.conf: a key is left out: {error}")),
        }
    }
    let origin = match sources.as_slice() {
        [] => "the default of Nix (nix.conf names none)".to_owned(),
        sources => sources.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
    };
    TrustedBy { keys: trusted, origin, notices }
}

/// What a file that is not there means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsFine,
    IsNoted,
}

#[derive(Default)]
struct Reader {
    /// The value of the setting so far.
    keys: Vec<String>,
    /// The files that said something about it.
    sources: Vec<PathBuf>,
    notices: Vec<String>,
    files: usize,
}

impl Reader {
    fn file(&mut self, file: &Path, missing: Missing, depth: usize) {
        let shown = file.display();
        if depth > DEPTH_MAX || self.files == FILES_MAX {
            self.notices.push(format!("{shown}: not read: too many files include each other"));
            return;
        }
        self.files += 1;
        match files::read_text(file, FILE_MAX) {
            Ok(Some(text)) => self.text(&text, file, depth),
            Ok(None) => self.notices.push(format!("{shown}: not read: larger than {FILE_MAX} bytes")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::IsFine => {}
            Err(error) => self.notices.push(format!("{shown}: not read: {error}")),
        }
    }

    fn text(&mut self, text: &str, file: &Path, depth: usize) {
        for line in text.lines() {
            let setting = line.split('#').next().unwrap_or_default();
            let mut words = setting.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some(word @ ("include" | "!include")), Some(path)) => {
                    let missing = if word == "include" { Missing::IsNoted } else { Missing::IsFine };
                    // An absolute path replaces the directory.
                    let path = file.parent().unwrap_or(Path::new("/")).join(path);
                    self.file(&path, missing, depth + 1);
                }
                (Some(name), Some("=")) => self.set(name, words, file),
                _ => {}
            }
        }
    }

    fn set<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str>, file: &Path) {
        match name.strip_prefix("extra-").unwrap_or(name) {
            "trusted-public-keys" | "binary-cache-public-keys" => {}
            _ => return,
        }
        if !name.starts_with("extra-") {
            self.keys.clear();
        }
        let room = KEYS_MAX - self.keys.len().min(KEYS_MAX);
        self.keys.extend(values.take(room).map(str::to_owned));
        if !self.sources.iter().any(|known| known == file) {
            self.sources.push(file.to_owned());
        }
    }
}

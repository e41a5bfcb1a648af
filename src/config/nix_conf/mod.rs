//! nix.conf, as far as it concerns us: whose signatures this machine's Nix trusts, where its logins are, whom its daemon lets in.
//!
//! Source: the Nix manual, [nix.conf](https://nix.dev/manual/nix/stable/command-ref/conf-file), and what Nix 2.8, 2.26 and 2.34 do
//! with such files: `name = value`, `#` to the end of the line, `extra-` adds to a list, a later plain setting replaces what was
//! added before it, `include` and `!include` (which may be missing) are read where they stand, relative to their file. Determinate
//! Nix keeps what the administrator sets in `nix.custom.conf`, which its nix.conf includes; Lix takes `~` in an `include` for the
//! home directory.
//!
//! The files are Nix's and not ours: what is wrong in them is noted and passed over.

mod reader;
mod settings;

pub use settings::{NixConf, TrustedBy};

use super::sections::CACHE_NIXOS_ORG_KEY;
use reader::Reader;
use settings::List;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Where Nix's configuration is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The folder of nix.conf.
    pub(super) dir: PathBuf,
    /// Files that count after it, the most important first.
    pub(super) more: Vec<PathBuf>,
    /// What `~` stands for.
    pub(super) home: Option<PathBuf>,
}

impl Places {
    /// Where this process is told that they are: `$NIX_CONF_DIR`, else `/etc/nix`, and `$NIX_USER_CONF_FILES` if somebody set that for
    /// the service. What users keep in their home directories is not looked for: the Nix daemon does not go by that either.
    fn from_environment() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let more = var("NIX_USER_CONF_FILES").unwrap_or_default();
        let more = more.as_bytes().split(|byte| *byte == b':').filter(|file| !file.is_empty());
        Self {
            dir: var("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from),
            more: more.map(|file| PathBuf::from(OsStr::from_bytes(file))).collect(),
            home: var("HOME").map(PathBuf::from),
        }
    }
}

impl NixConf {
    /// Reads it.
    #[must_use]
    pub fn read() -> Self {
        Self::read_at(&Places::from_environment())
    }

    pub(super) fn read_at(places: &Places) -> Self {
        let defaults = Self {
            keys: List::of(CACHE_NIXOS_ORG_KEY),
            allowed_users: List::of("*"),
            trusted_users: List::of("root"),
            netrc_file: Some(places.dir.join("netrc")),
            ..Self::default()
        };
        let mut reader = Reader::new(defaults, places.home.as_deref());
        reader.top(&places.dir.join("nix.conf"));
        // The first is the most important one, so it has the last word.
        places.more.iter().rev().for_each(|file| reader.top(file));
        reader.conf
    }
}

#[cfg(test)]
mod tests;

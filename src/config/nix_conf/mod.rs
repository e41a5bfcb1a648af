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
use ::nix::unistd::geteuid;
use reader::Reader;
use settings::List;
use std::ffi::{OsStr, OsString};
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
    /// Where the Nix daemon finds them, which runs as root.
    fn from_environment() -> Self {
        Self::of(geteuid().is_root(), |name| std::env::var_os(name))
    }

    /// `$NIX_CONF_DIR`, else `/etc/nix`; and `$NIX_USER_CONF_FILES`, else what is in the folders for the configuration of programs.
    /// The home directory is looked at by root alone: another user's is not what the daemon goes by.
    pub(super) fn of(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let var = |name| variable(name).filter(|value| !value.is_empty());
        let list = |paths: &OsStr| -> Vec<PathBuf> {
            let paths = paths.as_bytes().split(|byte| *byte == b':').filter(|path| !path.is_empty());
            paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
        };
        let home = var("HOME").map(PathBuf::from);
        let more = match var("NIX_USER_CONF_FILES") {
            Some(files) => list(&files),
            None => {
                let own = var("XDG_CONFIG_HOME").map(PathBuf::from);
                let own = own.or_else(|| home.as_ref().map(|home| home.join(".config"))).filter(|_| is_root);
                let common = list(&var("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into()));
                own.into_iter().chain(common).map(|dir| dir.join("nix/nix.conf")).collect()
            }
        };
        Self { dir: var("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from), more, home }
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

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

use super::sections::CACHE_NIXOS_ORG_KEY;
use crate::nix::PublicKey;
use ::nix::unistd::{Group, User};
use reader::Reader;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

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

/// What nix.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NixConf {
    /// `trusted-public-keys`.
    keys: List,
    /// `allowed-users`: who may talk to the daemon.
    allowed_users: List,
    /// `trusted-users`: those may as well.
    trusted_users: List,
    /// `netrc-file`, or the place where Nix looks for one; `None` if it is to look nowhere.
    pub netrc_file: Option<PathBuf>,
    /// The files that were looked for.
    pub files: Vec<PathBuf>,
    /// What was wrong and was passed over.
    pub notices: Vec<String>,
}

/// The value of a setting that is a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct List {
    values: Vec<String>,
    /// The files that said something about it.
    sources: Vec<PathBuf>,
}

impl List {
    fn of(default: &str) -> Self {
        Self { values: vec![default.to_owned()], sources: Vec::new() }
    }

    /// Where it stands, in words.
    fn origin(&self) -> String {
        match self.sources.as_slice() {
            [] => "the default of Nix (nix.conf names none)".to_owned(),
            sources => sources.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }
}

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

    /// The keys that it trusts, or the one that Nix has built in.
    ///
    /// A key that cannot be read is left out: those that remain are still the only ones that count.
    #[must_use]
    pub fn trusted_keys(&self) -> TrustedBy {
        let mut trusted: Vec<PublicKey> = Vec::new();
        let mut notices = self.notices.clone();
        for text in &self.keys.values {
            match text.parse::<PublicKey>() {
                Ok(key) if !trusted.contains(&key) => trusted.push(key),
                Ok(_) => {}
                Err(error) => notices.push(format!("trusted-public-keys of nix.conf: a key is left out: {error}")),
            }
        }
        TrustedBy { keys: trusted, origin: self.keys.origin(), notices }
    }

    /// Why the Nix daemon hangs up on a user, if its settings say that it does.
    #[must_use]
    pub fn shuts_out(&self, user: &str) -> Option<String> {
        let primary = User::from_name(user).ok().flatten().map(|user| user.gid);
        let is_member = |group: &str| {
            let group = Group::from_name(group).ok().flatten();
            group.is_some_and(|group| Some(group.gid) == primary || group.mem.iter().any(|member| member == user))
        };
        self.shuts_out_unless(user, is_member)
    }

    /// [`Self::shuts_out`], told who is a member of which group.
    fn shuts_out_unless(&self, user: &str, is_member: impl Fn(&str) -> bool) -> Option<String> {
        let names = |entry: &String| match entry.strip_prefix('@') {
            Some(group) => is_member(group),
            None => entry == "*" || entry == user,
        };
        let listed = |list: &List| list.values.iter().any(names);
        (!listed(&self.allowed_users) && !listed(&self.trusted_users)).then(|| {
            let (list, origin) = (self.allowed_users.values.join(" "), self.allowed_users.origin());
            format!("`allowed-users = {list}` ({origin}) does not let the user {user} ask the Nix daemon")
        })
    }

    /// The folders of the files that were looked for.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().chain(&self.netrc_file).filter_map(|file| file.parent())
    }
}

#[cfg(test)]
mod tests;

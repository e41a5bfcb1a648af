//! What nix.conf says, and what that means.

use crate::nix::PublicKey;
use ::nix::unistd::{Group, User};
use std::path::{Path, PathBuf};

/// What nix.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NixConf {
    /// `trusted-public-keys`.
    pub(super) keys: List,
    /// `allowed-users`: who may talk to the daemon.
    pub(super) allowed_users: List,
    /// `trusted-users`: those may as well.
    pub(super) trusted_users: List,
    /// `netrc-file`, or the place where Nix looks for one; `None` if it is to look nowhere.
    pub netrc_file: Option<PathBuf>,
    /// The files that were looked for.
    pub files: Vec<PathBuf>,
    /// What was wrong and was passed over.
    pub notices: Vec<String>,
}

/// The value of a setting that is a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List {
    pub(super) values: Vec<String>,
    /// The files that said something about it.
    pub(super) sources: Vec<PathBuf>,
}

impl List {
    pub(super) fn of(default: &str) -> Self {
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
    pub(super) fn shuts_out_unless(&self, user: &str, is_member: impl Fn(&str) -> bool) -> Option<String> {
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

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
    /// Those of them that were read.
    pub(super) read: Vec<PathBuf>,
    /// Why files that are there could not be read, although they count: what Nix trusts is not known then.
    pub(super) unreadable: Vec<String>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedBy {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// Where they stand, in words: a key of our configuration, files of Nix, or Nix's own default.
    pub origin: String,
    /// What was wrong in files that are not ours and was passed over.
    pub notices: Vec<String>,
    /// Why it is not known whom Nix trusts. There are no keys then: those that Nix has built in may be the ones that its
    /// configuration takes away.
    pub unknown: Option<String>,
    /// Files of Nix that were read for this, and all that were looked for.
    read: Vec<PathBuf>,
    looked_for: Vec<PathBuf>,
}

impl TrustedBy {
    /// Those of our own configuration, whatever Nix says.
    pub(crate) fn configured(keys: Vec<PublicKey>) -> Self {
        Self { keys, origin: "[trust] public_keys".to_owned(), ..Self::default() }
    }

    /// A file that was read `before`, is still named, and is not there any more.
    #[must_use]
    pub fn gone_since<'a>(&self, before: &'a Self) -> Option<&'a Path> {
        let is_gone = |file: &&PathBuf| self.looked_for.contains(file) && !self.read.contains(file);
        before.read.iter().find(is_gone).map(PathBuf::as_path)
    }
}

impl NixConf {
    /// The keys that it trusts, or the one that Nix has built in.
    ///
    /// A key that cannot be read is left out: those that remain are still the only ones that count.
    #[must_use]
    pub fn trusted_keys(&self) -> TrustedBy {
        let mut trusted: Vec<PublicKey> = Vec::new();
        let mut notices = self.notices.clone();
        let (read, looked_for) = (self.read.clone(), self.files.clone());
        if let Some(why) = self.unreadable.first() {
            let (origin, unknown) = ("nix.conf, which cannot be read".to_owned(), Some(why.clone()));
            return TrustedBy { keys: trusted, origin, notices, unknown, read, looked_for };
        }
        for text in &self.keys.values {
            match text.parse::<PublicKey>() {
                Ok(key) if trusted.contains(&key) => {}
                Ok(key) => {
                    if trusted.iter().any(|other| other.name() == key.name()) {
                        let name = key.name();
                        notices.push(format!(
                            "trusted-public-keys of nix.conf: two keys are called {name}, and Nix goes by the first"
                        ));
                    }
                    trusted.push(key);
                }
                Err(error) => notices.push(format!("trusted-public-keys of nix.conf: a key is left out: {error}")),
            }
        }
        TrustedBy { keys: trusted, origin: self.keys.origin(), notices, unknown: None, read, looked_for }
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

    /// The folders of the files that were looked for, and of those behind them where they are links.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.files.iter().chain(&self.netrc_file);
        // What a link leads to may appear later.
        let target = |file: &PathBuf| Some(file.parent()?.join(file.read_link().ok()?));
        let with_targets = files
            .flat_map(move |file| [Some(file.clone()), file.canonicalize().ok().or_else(|| target(file))])
            .flatten();
        with_targets.filter_map(|file| file.parent().map(Path::to_owned))
    }
}

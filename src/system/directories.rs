//! Where the service keeps its files: the directories that systemd gives it, else the system's, else the user's.
//!
//! Source: [systemd.exec](https://www.freedesktop.org/software/systemd/man/systemd.exec.html#RuntimeDirectory=) for the
//! variables, the [XDG base directories](https://specifications.freedesktop.org/basedir-spec/latest/) for users.
#![forbid(unsafe_code)]

use nix::unistd::{AccessFlags, User, access, geteuid};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The name of our directory inside those of the system or the user.
const NAME: &str = "peernix";
/// The state holds the node key: for the service alone.
const STATE_MODE: u32 = 0o700;
/// The cache tells what this machine fetches: for the service and its group.
const CACHE_MODE: u32 = 0o750;
/// What everyone on the machine may look up, such as the addresses.
const RUNTIME_MODE: u32 = 0o755;
/// How deep it is looked whether this user may use what is in its directories, and at how many entries of each: what the service
/// itself puts there is less.
const DEPTH_MAX: usize = 3;
const ENTRIES_MAX: usize = 1000;
/// The permission bits that let others change a directory.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory that cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Neither systemd nor the environment says where it should be.
    #[error("no place for the {0} directory: set ${1}, or $HOME to an absolute path")]
    NoPlace(&'static str, &'static str),
    /// It could not be made.
    #[error("{}: cannot be made: {source}; make it for this user, or set ${variable}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The variable that names another.
        variable: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something in it is somebody else's, as when it was restored, or the program was run once as root.
    #[error("{}: belongs to the user id {owner}, and this one ({user}) may not use it; run `chown --recursive {user}: {}`", path.display(), root.display())]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// The user who runs.
        user: String,
        /// The directory that all of it should be of.
        root: PathBuf,
    },
    /// It is another user's, and what is made there now could not be used by that one.
    #[error("{}: belongs to {owner}; do this as that user: `runuser -u {owner} -- …`", path.display())]
    Theirs {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// Others may change it, and with it who this machine is.
    #[error("{0}: others may write here, and it holds the node key; run `chmod go-w {0}`")]
    Open(PathBuf),
}

/// The three directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// What must survive: the node key, the peers.
    pub state: PathBuf,
    /// What may be lost.
    pub cache: PathBuf,
    /// What is gone with the process.
    pub runtime: PathBuf,
}

/// One of the directories: its name in messages, the variable of systemd, the place for root, and the one for users.
struct Kind {
    what: &'static str,
    systemd: &'static str,
    root: &'static str,
    xdg: &'static str,
    below_home: &'static str,
}

const STATE: Kind = Kind {
    what: "state",
    systemd: "STATE_DIRECTORY",
    root: "/var/lib",
    xdg: "XDG_STATE_HOME",
    below_home: ".local/state",
};
const CACHE: Kind =
    Kind { what: "cache", systemd: "CACHE_DIRECTORY", root: "/var/cache", xdg: "XDG_CACHE_HOME", below_home: ".cache" };
const RUNTIME: Kind = Kind {
    what: "runtime",
    systemd: "RUNTIME_DIRECTORY",
    root: "/run",
    xdg: "XDG_RUNTIME_DIR",
    // Where no session manager made a runtime directory the state directory serves: unlike /tmp it is the user's own.
    below_home: ".local/state/peernix/run",
};

impl Directories {
    /// Finds the directories of this process; nothing is made.
    ///
    /// # Errors
    /// A user without `$HOME`.
    pub fn find() -> Result<Self, DirectoryError> {
        Self::find_with(nix::unistd::Uid::effective().is_root(), |name| std::env::var_os(name))
    }

    /// The runtime directories in which a running service may have left its addresses, the most likely one first.
    #[must_use]
    pub fn runtime_candidates() -> Vec<PathBuf> {
        let environment = |name: &str| std::env::var_os(name);
        let user = RUNTIME.place(false, &environment).ok();
        let system = Path::new(RUNTIME.root).join(NAME);
        user.into_iter().chain([system]).collect()
    }

    /// For who may make files in the state directory without being the service: that they will be the service's.
    ///
    /// # Errors
    /// It belongs to another user, as for root when the service has its own.
    pub fn is_own(&self) -> Result<(), DirectoryError> {
        let Ok(about) = std::fs::metadata(&self.state) else { return Ok(()) };
        if about.uid() == geteuid().as_raw() {
            return Ok(());
        }
        let owner = User::from_uid(about.uid().into()).ok().flatten();
        let owner = owner.map_or_else(|| about.uid().to_string(), |owner| owner.name);
        Err(DirectoryError::Theirs { path: self.state.clone(), owner })
    }

    fn find_with(root: bool, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self, DirectoryError> {
        Ok(Self {
            state: STATE.place(root, &environment)?,
            cache: CACHE.place(root, &environment)?,
            runtime: RUNTIME.place(root, &environment)?,
        })
    }

    /// Makes those that are missing and looks at the one that holds secrets.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn create(&self) -> Result<(), DirectoryError> {
        for (path, mode, variable) in [
            (&self.state, STATE_MODE, STATE.systemd),
            (&self.cache, CACHE_MODE, CACHE.systemd),
            (&self.runtime, RUNTIME_MODE, RUNTIME.systemd),
        ] {
            let create = DirBuilder::new().recursive(true).mode(mode).create(path);
            create.map_err(|source| DirectoryError::Create { path: path.clone(), variable, source })?;
        }
        let state = std::fs::metadata(&self.state).map_err(|source| DirectoryError::Create {
            path: self.state.clone(),
            variable: STATE.systemd,
            source,
        })?;
        if state.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(DirectoryError::Open(self.state.clone()));
        }
        [&self.state, &self.cache].into_iter().try_for_each(|root| usable(root, root, 0))
    }
}

/// Whether this user may use all that is in a directory of its own.
fn usable(root: &Path, path: &Path, depth: usize) -> Result<(), DirectoryError> {
    // What vanishes meanwhile is no trouble.
    let Ok(about) = path.symlink_metadata() else { return Ok(()) };
    let needed =
        if about.is_dir() { AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK } else { AccessFlags::R_OK };
    if about.uid() != geteuid().as_raw() && access(path, needed).is_err() {
        let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |user| user.name);
        return Err(DirectoryError::Foreign { path: path.to_owned(), owner: about.uid(), user, root: root.to_owned() });
    }
    if !about.is_dir() || depth == DEPTH_MAX {
        return Ok(());
    }
    let entries = path.read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.map(|entry| entry.path()).try_for_each(|entry| usable(root, &entry, depth + 1))
}

impl Kind {
    fn place(&self, root: bool, environment: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, DirectoryError> {
        let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // systemd lists several directories with colons; ours is the first.
        let given = environment(self.systemd).and_then(|list| std::env::split_paths(&list).next());
        if let Some(path) = given.filter(|path| path.is_absolute()) {
            return Ok(path);
        }
        if root {
            return Ok(Path::new(self.root).join(NAME));
        }
        if let Some(path) = absolute(self.xdg) {
            return Ok(path.join(NAME));
        }
        let home = absolute("HOME").ok_or(DirectoryError::NoPlace(self.what, self.systemd))?;
        let below = home.join(self.below_home);
        Ok(if self.below_home.contains(NAME) { below } else { below.join(NAME) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn found(root: bool, variables: &[(&str, &str)]) -> Result<[String; 3], DirectoryError> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let Directories { state, cache, runtime } = Directories::find_with(root, variable)?;
        Ok([state, cache, runtime].map(|path| path.display().to_string()))
    }

    #[test]
    fn systemd_then_system_then_user() {
        let given = [("STATE_DIRECTORY", "/s/a:/s/b"), ("CACHE_DIRECTORY", "/c"), ("RUNTIME_DIRECTORY", "/r")];
        assert_eq!(found(true, &given).unwrap(), ["/s/a", "/c", "/r"]);
        assert_eq!(found(true, &[]).unwrap(), ["/var/lib/peernix", "/var/cache/peernix", "/run/peernix"]);
        let xdg = [("XDG_STATE_HOME", "/x/s"), ("XDG_RUNTIME_DIR", "/run/user/1"), ("HOME", "/h")];
        assert_eq!(found(false, &xdg).unwrap(), ["/x/s/peernix", "/h/.cache/peernix", "/run/user/1/peernix"]);
        let home = [("HOME", "/h"), ("XDG_CACHE_HOME", "relative")];
        assert_eq!(
            found(false, &home).unwrap(),
            ["/h/.local/state/peernix", "/h/.cache/peernix", "/h/.local/state/peernix/run"]
        );
        assert!(found(false, &[]).unwrap_err().to_string().contains("$STATE_DIRECTORY"));
    }

    #[test]
    fn made_with_the_right_modes_and_refused_when_open() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let directories = Directories { state: at("a/state"), cache: at("cache"), runtime: at("runtime") };
        directories.create().unwrap();
        directories.create().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        let modes = [&directories.state, &directories.cache, &directories.runtime].map(|path| mode(path));
        // The process's umask may take more away.
        assert_eq!(modes.map(|mode| mode & !0o755), [0, 0, 0]);
        assert_eq!(modes[0], STATE_MODE);
        std::fs::set_permissions(&directories.state, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(directories.create(), Err(DirectoryError::Open(_))));
        assert!(directories.is_own().is_ok());
        let theirs = Directories { state: "/proc/1".into(), ..directories.clone() };
        // Root is who owns everything in a container.
        assert!(theirs.is_own().is_ok() == geteuid().is_root());
        let blocked = Directories { state: at("file/state"), ..directories };
        std::fs::write(at("file"), "").unwrap();
        assert!(matches!(blocked.create(), Err(DirectoryError::Create { .. })));
    }
}

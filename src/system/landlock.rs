//! The sandbox that the service builds around itself: files it will never need are out of its reach from then on.
//!
//! Source: [Landlock](https://docs.kernel.org/userspace-api/landlock.html). It works without systemd and without root, in
//! addition to what the unit forbids. Best effort: an old kernel does what it can, and how much that is is logged.
//!
//! Connections are not restricted: upstreams and peers are anywhere, and so are the sockets of the bus, the journal and the
//! Nix daemon.
#![forbid(unsafe_code)]

use super::message_ids;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What every program on this host reads at some time: libraries and their settings, certificates, name resolution (which
/// other programs rewrite below `/run`), the number of processors.
const HOST: [&str; 13] = [
    "/etc",
    // Certificates, on openSUSE.
    "/var/lib/ca-certificates",
    "/usr",
    "/lib",
    "/lib64",
    "/run",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/urandom",
    // On NixOS the libraries and most of /etc are here.
    "/nix/store",
    "/run/current-system",
];
/// Where a user may have certificates elsewhere; each names a file or a folder.
const CERTIFICATES: [&str; 3] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE"];
/// What everyone may write to.
const SINKS: [&str; 1] = ["/dev/null"];
/// The rights on files that are asked for. Version 5 is the last that adds one which is about files and not sockets.
const FILES: ABI = ABI::V5;

/// What the service needs, besides what every program does.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Read, with all below: the store, Nix's logs, the folder of the configuration. For what does not exist yet, as the store
    /// before Nix first ran, it is the folder where it will appear; the root folder is left out.
    pub read: Vec<PathBuf>,
    /// Nix's database folder: read, and written if this user may do so anyway, as SQLite wants to share its memory with Nix.
    pub database: Option<PathBuf>,
    /// Read and written, with all below: the directories of the service.
    pub write: Vec<PathBuf>,
}

/// How far the kernel went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// All that was asked for, on this version of Landlock.
    Full(String),
    /// What the kernel knows of it.
    Partial(String),
    /// Nothing, and why.
    None(String),
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(version) => write!(f, "full ({version})"),
            Self::Partial(version) => write!(f, "partial ({version})"),
            Self::None(reason) => write!(f, "none ({reason})"),
        }
    }
}

impl Level {
    /// Writes it to the journal.
    pub fn log(&self) {
        let level = self.to_string();
        log::info!(message_id = message_ids::SANDBOX, level = level.as_str(); "sandbox by Landlock: {level}");
    }
}

/// Gives up access to everything but `places`, for this thread and all that it starts. There is no way back.
///
/// To be called after the sockets are open, before the first other thread, and so before the runtime.
#[must_use]
pub fn enter(places: &Places) -> Level {
    match restrict(places) {
        Ok(status) => {
            let version = match status.landlock {
                LandlockStatus::Available { effective_abi, .. } => {
                    format!("Landlock ABI {}", format!("{effective_abi:?}").trim_start_matches('V'))
                }
                LandlockStatus::NotEnabled => "the kernel has Landlock switched off".to_owned(),
                // The two cannot be told apart from here.
                LandlockStatus::NotImplemented if is_filtered() => {
                    "a filter of system calls, which a container or the unit put up, forbids Landlock, or the kernel has none".to_owned()
                }
                LandlockStatus::NotImplemented => "the kernel has no Landlock".to_owned(),
            };
            match status.ruleset {
                RulesetStatus::FullyEnforced => Level::Full(version),
                RulesetStatus::PartiallyEnforced => Level::Partial(version),
                RulesetStatus::NotEnforced => Level::None(version),
            }
        }
        Err(error) => Level::None(error.to_string()),
    }
}

/// Whether system calls of this process are filtered (seccomp).
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() != "0"))
}

fn restrict(places: &Places) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(FILES);
    // Nothing is executed: no place gets that right. Devices are neither made nor steered.
    let write = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let database: BitFlags<AccessFs> = if places.database.as_deref().is_some_and(may_write) { write } else { read };
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        // No port is bound any more: the sockets are open already.
        .handle_access(AccessNet::BindTcp)?
        // Other processes of the same user cannot be killed from here.
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(HOST, read))?
        .add_rules(path_beneath_rules(certificates(|name| std::env::var_os(name)), read))?
        .add_rules(path_beneath_rules(SINKS, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(places.read.iter().filter_map(|path| existing(path)), read))?
        .add_rules(path_beneath_rules(&places.database, database))?
        .add_rules(path_beneath_rules(&places.write, write))?
        .restrict_self()
}

/// `path`, or the nearest folder above it that exists, below the root.
fn existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists()).filter(|path| path.parent().is_some())
}

/// Where the variables of [`CERTIFICATES`] point: of a file the folder, because such files are replaced, and that of the file
/// behind it where it is a link. The root folder is left out.
fn certificates(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let named = CERTIFICATES.into_iter().filter_map(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let with_targets = named.flat_map(|path| [path.canonicalize().ok(), Some(path)]).flatten();
    let folder = |path: PathBuf| if path.is_dir() { Some(path) } else { path.parent().map(Path::to_owned) };
    with_targets.filter_map(folder).filter(|path| path.parent().is_some()).collect()
}

/// Whether the user of this process may write here, for all that Landlock knows.
fn may_write(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

#[cfg(test)]
#[allow(clippy::print_stderr, clippy::print_stdout, reason = "a test that is skipped says so")]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::net::TcpListener;

    #[test]
    fn only_what_was_asked_for_stays_within_reach() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["store", "state", "secret"] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("file"), folder).unwrap();
        }
        let places = Places {
            read: vec![at("store"), PathBuf::from("/peernix-test/not there")],
            write: vec![at("state")],
            ..Places::default()
        };
        // It holds for a thread and its children: the others of the tests go on.
        let checked = std::thread::spawn({
            let root = dir.path().to_owned();
            move || {
                let level = enter(&places);
                if let Level::None(reason) = level {
                    return Err(reason);
                }
                let at = |name: &str| root.join(name);
                assert_eq!(fs::read_to_string(at("store/file")).unwrap(), "store");
                assert!(fs::read_dir(at("store")).unwrap().count() == 1);
                fs::write(at("state/new"), "x").unwrap();
                fs::rename(at("state/new"), at("state/file")).unwrap();
                fs::read_to_string("/etc/passwd").unwrap();
                let refused = |outcome: std::io::Result<()>| {
                    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
                };
                refused(fs::write(at("store/file"), "x"));
                refused(fs::read(at("secret/file")).map(drop));
                refused(fs::read_dir(&root).map(drop));
                refused(fs::write("/etc/peernix-test", "x"));
                refused(std::process::Command::new("/bin/sh").arg("-c").arg(":").status().map(drop));
                Ok(level)
            }
        });
        match checked.join().unwrap() {
            Ok(level) => println!("{level}"),
            Err(reason) => eprintln!("SKIPPED: Landlock: {reason}"),
        }
        assert_eq!(fs::read_to_string(at("secret/file")).unwrap(), "secret", "this thread is free");
    }

    #[test]
    fn certificates_elsewhere_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["linked", "real", "many"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::write(root.join("real/bundle.pem"), "").unwrap();
        std::os::unix::fs::symlink(root.join("real/bundle.pem"), root.join("linked/bundle.pem")).unwrap();
        let found = certificates(|name| match name {
            "SSL_CERT_FILE" => Some(root.join("linked/bundle.pem").into()),
            "SSL_CERT_DIR" => Some(root.join("many").into()),
            _ => Some("/bundle.pem".into()),
        });
        let mut found: Vec<_> = found.iter().map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap()).collect();
        found.dedup();
        assert_eq!(found, ["real", "linked", "many"]);
    }

    #[test]
    fn what_appears_later_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (nix, secret) = (dir.path().join("nix"), dir.path().join("secret"));
        fs::create_dir(&nix).unwrap();
        fs::write(&secret, "secret").unwrap();
        let store = nix.join("store");
        let (entered, wait_for_entry) = std::sync::mpsc::channel();
        let (made, wait_for_store) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn({
            let store = store.clone();
            move || {
                let level = enter(&Places { read: vec![store.clone()], ..Places::default() });
                entered.send(level).unwrap();
                wait_for_store.recv().unwrap();
                (fs::read_to_string(store.join("file")), fs::read(secret))
            }
        });
        let level = wait_for_entry.recv().unwrap();
        fs::create_dir(&store).unwrap();
        fs::write(store.join("file"), "store").unwrap();
        made.send(()).unwrap();
        let (file, secret) = reader.join().unwrap();
        assert_eq!(file.unwrap(), "store");
        match level {
            Level::None(reason) => eprintln!("SKIPPED: Landlock: {reason}"),
            _ => assert_eq!(secret.unwrap_err().kind(), ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn what_listens_already_is_reached_and_no_other_port_is_bound() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome = std::thread::spawn(move || {
            let Level::Full(_) = enter(&Places::default()) else { return None };
            let connected = std::net::TcpStream::connect(open.local_addr().unwrap());
            Some((TcpListener::bind("127.0.0.1:0").map(drop), connected))
        });
        match outcome.join().unwrap() {
            Some((bound, connected)) => {
                assert_eq!(bound.unwrap_err().kind(), ErrorKind::PermissionDenied);
                connected.unwrap();
            }
            None => eprintln!("SKIPPED: this kernel's Landlock knows no TCP ports"),
        }
    }

    #[test]
    fn a_level_reads_well() {
        assert_eq!(Level::Full("Landlock ABI 5".into()).to_string(), "full (Landlock ABI 5)");
        assert_eq!(Level::None("no kernel".into()).to_string(), "none (no kernel)");
    }
}

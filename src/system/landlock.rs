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
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::unistd::{AccessFlags, access};
use std::fmt;
use std::path::{Path, PathBuf};

/// What every program on this host reads at some time: libraries and their settings, certificates, name resolution (which
/// other programs rewrite below `/run`), the number of processors.
const HOST: [&str; 12] = [
    "/etc",
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
/// What everyone may write to.
const SINKS: [&str; 1] = ["/dev/null"];
/// The rights on files that are asked for. Version 5 is the last that adds one which is about files and not sockets.
const FILES: ABI = ABI::V5;

/// What the service needs, besides what every program does.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Read, with all below: the store, Nix's logs, the folder of the configuration. What does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Nix's database folder: read, and written if this user may do so anyway, as SQLite wants to share its memory with Nix.
    pub database: Option<PathBuf>,
    /// Read and written, with all below: the directories of the service.
    pub write: Vec<PathBuf>,
    /// TCP ports that may still be bound; the sockets that are open already are not concerned.
    pub ports: Vec<u16>,
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

fn restrict(places: &Places) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let all = AccessFs::from_all(FILES);
    // Nothing is executed: no place gets that right. Devices are neither made nor steered.
    let write = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let database: BitFlags<AccessFs> = if places.database.as_deref().is_some_and(may_write) { write } else { read };
    let ports = places.ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::BindTcp)));
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::BindTcp)?
        // Other processes of the same user cannot be killed from here.
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(HOST, read))?
        .add_rules(path_beneath_rules(SINKS, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(&places.read, read))?
        .add_rules(path_beneath_rules(&places.database, database))?
        .add_rules(path_beneath_rules(&places.write, write))?
        .add_rules(ports)?
        .restrict_self()
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
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let places = Places {
            read: vec![at("store"), at("not there")],
            write: vec![at("state")],
            ports: vec![port],
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
                refused(std::process::Command::new("/bin/true").status().map(drop));
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
    fn ports_that_were_not_named_cannot_be_bound() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let (named, other) = (free.local_addr().unwrap().port(), TcpListener::bind("127.0.0.1:0").unwrap());
        drop(free);
        let outcome = std::thread::spawn(move || {
            let Level::Full(_) = enter(&Places { ports: vec![named], ..Places::default() }) else { return None };
            let to_other = std::net::TcpStream::connect(other.local_addr().unwrap());
            Some((
                TcpListener::bind(("127.0.0.1", named)).map(drop),
                TcpListener::bind("127.0.0.1:0").map(drop),
                to_other,
            ))
        });
        match outcome.join().unwrap() {
            Some((named, other, connected)) => {
                named.unwrap();
                assert_eq!(other.unwrap_err().kind(), ErrorKind::PermissionDenied);
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

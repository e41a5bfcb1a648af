//! `peernixctl backup` and `restore`: identity, keys and decisions of this machine, encrypted, and back.

mod archive;
mod seal;

use crate::cli::error::{Done, VerbError};
use crate::cli::output::{Screen, count, size};
use crate::files;
use crate::system::directories::Directories;
use archive::Archive;
use nix::unistd::{Gid, Uid, User, chown, geteuid};
use seal::{Lock, Opener};
use serde_json::json;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The largest backup read, in bytes: what an archive may have, and what encryption adds.
const FILE_MAX: u64 = archive::BYTES_MAX + (8 << 20);
/// Whose the state is where the service runs as one of the system.
const USER: &str = "peernix";
/// What the state that was there is called after a restoration.
const ASIDE: &str = "before-restore";

/// The arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// Where to; a file that is there is replaced
    file: PathBuf,
    /// Encrypt for this key of age (age1...) instead of with a passphrase; may be given several times
    #[arg(long, short, value_name = "KEY")]
    recipient: Vec<String>,
    /// The passphrase is the first line of this file; else it is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    passphrase_file: Option<PathBuf>,
}

/// The arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// Where from
    file: PathBuf,
    /// Decrypt with the keys of age in this file instead of a passphrase
    #[arg(long, short, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The passphrase is the first line of this file; else it is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    passphrase_file: Option<PathBuf>,
}

/// Makes a backup of this machine's state. The service may run.
pub(crate) fn backup(args: &Backup, screen: &Screen) -> Done<()> {
    const DOING: &str = "make a backup";
    let failed = |error: String| VerbError::other(DOING, error);
    let state = state()?;
    let archive = Archive::of(&state).map_err(|error| failed(format!("{}: {error}", state.display())))?;
    if !archive.has_identity() {
        return Err(failed(format!(
            "{} has no node key: there is nothing to keep (is this root, on the right machine?)",
            state.display()
        )));
    }
    let lock = if args.recipient.is_empty() {
        Lock::Passphrase(seal::passphrase(args.passphrase_file.as_deref(), true).map_err(failed)?)
    } else {
        Lock::Recipients(args.recipient.clone())
    };
    let sealed = seal::seal(&archive.pack().map_err(|error| failed(error.to_string()))?, lock).map_err(failed)?;
    files::replace_atomically(&args.file, &sealed)
        .map_err(|error| failed(format!("{}: {error}", args.file.display())))?;
    let (kept, bytes) = (archive.len() as u64, sealed.len() as u64);
    screen.show(&json!({ "file": args.file, "files": kept, "bytes": bytes }), || {
        format!("{} of {} are in {}, {}.\n", count(kept, "file"), state.display(), args.file.display(), size(bytes))
    })
}

/// Puts a backup in the place of this machine's state, which is kept beside it. `running`: the service is.
pub(crate) fn restore(args: &Restore, running: bool, screen: &Screen) -> Done<()> {
    const DOING: &str = "restore a backup";
    let failed = |error: String| VerbError::other(DOING, error);
    if running {
        return Err(failed("the service runs and would write over it: `systemctl stop peernix` first".to_owned()));
    }
    let state = state()?;
    let sealed = read(&args.file).map_err(failed)?;
    let opener = match &args.identity {
        Some(file) => Opener::Identities(file.clone()),
        None => Opener::Passphrase(seal::passphrase(args.passphrase_file.as_deref(), false).map_err(failed)?),
    };
    let opened = seal::open(&sealed, opener, archive::BYTES_MAX).map_err(failed)?;
    let archive = Archive::unpack(&opened).map_err(|error| failed(format!("{}: {error}", args.file.display())))?;
    let aside = put(&archive, &state).map_err(failed)?;
    let (kept, host) = (archive.len() as u64, archive.host.clone());
    screen.show(&json!({ "directory": state, "files": kept, "host": host, "before": aside }), || {
        let before =
            aside.as_ref().map_or_else(String::new, |aside| format!(" What was there is in {}.", aside.display()));
        let host = crate::cli::output::tame(&host);
        format!("{} of {host} are in {}.{before}\n", count(kept, "file"), state.display())
    })
}

/// Where the service keeps its state, as this user would have it.
fn state() -> Done<PathBuf> {
    Directories::find().map(|directories| directories.state).map_err(|error| VerbError::Usage(error.to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    if std::fs::metadata(file).map_err(named)?.len() > FILE_MAX {
        return Err(format!("{}: it is larger than any backup", file.display()));
    }
    std::fs::read(file).map_err(named)
}

/// Writes all of it beside the state, and then puts it in its place in one step; where what was there is now.
fn put(archive: &Archive, state: &Path) -> Result<Option<PathBuf>, String> {
    let (Some(parent), Some(name)) = (state.parent(), state.file_name().and_then(|name| name.to_str())) else {
        return Err(format!("{} is no directory of a service", state.display()));
    };
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let aside = parent.join(format!("{name}.{ASIDE}"));
    if aside.exists() {
        return Err(format!("{} is there from before: look into it, and take it away first", aside.display()));
    }
    std::fs::create_dir_all(parent).map_err(named(parent))?;
    let owner = owner(state);
    let new = tempfile::Builder::new()
        .prefix(".peernix-restore.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(named(parent))?;
    archive.write(new.path()).map_err(named(new.path()))?;
    if let Some((user, group)) = owner {
        give(new.path(), user, group).map_err(named(new.path()))?;
    }
    let was_there = state.exists();
    if was_there {
        std::fs::rename(state, &aside).map_err(named(state))?;
    }
    let new = new.keep();
    if let Err(error) = std::fs::rename(&new, state) {
        // As it was.
        let _ = was_there.then(|| std::fs::rename(&aside, state));
        let _ = std::fs::remove_dir_all(&new);
        return Err(named(state)(error));
    }
    Ok(was_there.then_some(aside))
}

/// Whose the state is, or should be; nothing where only this user's own can be.
fn owner(state: &Path) -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    if let Ok(there) = std::fs::metadata(state) {
        return Some((Uid::from_raw(there.uid()), Gid::from_raw(there.gid())));
    }
    User::from_name(USER).ok().flatten().map(|user| (user.uid, user.gid))
}

/// Gives a directory of ours, with all that is in it, to somebody.
fn give(path: &Path, user: Uid, group: Gid) -> std::io::Result<()> {
    chown(path, Some(user), Some(group))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), user, group)?;
        } else {
            chown(&entry.path(), Some(user), Some(group))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_kept_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("peernix");
        std::fs::create_dir_all(state.join("keys")).unwrap();
        std::fs::write(state.join("node.key"), [7; 32]).unwrap();
        std::fs::write(state.join("node.machine"), "that one").unwrap();
        std::fs::write(state.join("keys/keys.json"), "{}").unwrap();
        let archive = Archive::unpack(&Archive::of(&state).unwrap().pack().unwrap()).unwrap();
        std::fs::write(state.join("node.key"), [8; 32]).unwrap();
        let aside = put(&archive, &state).unwrap().unwrap();
        assert_eq!(std::fs::read(aside.join("node.key")).unwrap(), [8; 32]);
        assert_eq!(std::fs::read(state.join("node.key")).unwrap(), [7; 32]);
        assert_eq!(std::fs::read_to_string(state.join("keys/keys.json")).unwrap(), "{}");
        assert!(!state.join("node.machine").exists(), "the key is that of the machine that it is restored on");
        assert_eq!(std::fs::metadata(state.join("node.key")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        // Not over what somebody may still need.
        assert!(put(&archive, &state).unwrap_err().contains("is there from before"));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn nobody_restores_under_a_service_that_runs() {
        let (screen, _) = crate::cli::tests::kept(crate::cli::output::JsonForm::Off);
        let args = Restore { file: "/nowhere".into(), identity: None, passphrase_file: None };
        let VerbError::Other { reason, .. } = restore(&args, true, &screen).unwrap_err() else { panic!() };
        assert!(reason.contains("systemctl stop"), "{reason}");
    }
}

//! Privileges of a service that root starts by hand: once everything is open that needs them, it has none any more.
//!
//! systemd does this by `User=` before the program begins; there is nothing left to do then. See
//! [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
#![forbid(unsafe_code)]

use caps::{CapSet, Capability, CapsHashSet};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, User, fchown, fchownat, geteuid, initgroups, setresgid, setresuid};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Whose the service is where root does not start it through systemd.
pub const USER: &str = "peernix";
/// The process that systemd has started itself, and not one of its children: [systemd.exec(5)].
///
/// [systemd.exec(5)]: https://www.freedesktop.org/software/systemd/man/systemd.exec.html
const UNDER_SYSTEMD: &str = "SYSTEMD_EXEC_PID";

/// A directory itself, and not what a link leads to.
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// There was nothing to give up, or systemd sees to it.
    Nothing,
    /// It is still root, without any capability: there is no user `peernix`, or this root may not become it.
    Capabilities,
    /// It is the user `peernix` from now on.
    User,
}

/// Privileges could not be given up, so that nothing goes on with them.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Capabilities.
    #[error("cannot give up the capabilities of root: {0}")]
    Capabilities(String),
    /// The user.
    #[error("cannot become the user {USER}: {0}")]
    User(nix::Error),
    /// A directory of the service.
    #[error("cannot give {} to the user {USER}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// They came back.
    #[error("the kernel did not take the privileges of root away")]
    Kept,
}

/// Gives up what root has, if this is root and no service of systemd: becomes the user `peernix` where there is one, to whom `directories`
/// belong from then on, and has no capability left either way.
///
/// To be called after the sockets are open, and before the first other thread.
///
/// # Errors
/// Something could not be given up.
pub fn drop(directories: &[&Path]) -> Result<Dropped, PrivilegeError> {
    let is_started_by_systemd = std::env::var(UNDER_SYSTEMD).is_ok_and(|pid| pid == std::process::id().to_string());
    if !geteuid().is_root() || is_started_by_systemd {
        return Ok(Dropped::Nothing);
    }
    // The root of a container may be so little that it cannot become anybody else.
    let may = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let may_change = [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_CHOWN].into_iter().all(may);
    let user = User::from_name(USER).map_err(PrivilegeError::User)?.filter(|_| may_change);
    // First of all what no child could have again, for which it takes a capability itself.
    if may(Capability::CAP_SETPCAP) {
        clear(CapSet::Bounding)?;
    }
    if let Some(user) = &user {
        for directory in directories {
            give(directory, user.uid, user.gid)
                .map_err(|error| PrivilegeError::Directory { path: directory.to_path_buf(), source: error.into() })?;
        }
        become_user(user).map_err(PrivilegeError::User)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        clear(set)?;
    }
    let left = |set| caps::read(None, set).map_or(true, |left: CapsHashSet| !left.is_empty());
    if left(CapSet::Permitted) || left(CapSet::Effective) || user.as_ref().is_some_and(|_| geteuid().is_root()) {
        return Err(PrivilegeError::Kept);
    }
    Ok(if user.is_some() { Dropped::User } else { Dropped::Capabilities })
}

fn clear(set: CapSet) -> Result<(), PrivilegeError> {
    caps::clear(None, set).map_err(|error| PrivilegeError::Capabilities(error.to_string()))
}

fn become_user(user: &User) -> nix::Result<()> {
    let name = CString::new(USER).map_err(|_| Errno::EINVAL)?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)
}

/// Gives a directory with all that is in it and that is root's away. From the second start on another user could have put things there:
/// no link is followed, nothing is given away that has another name elsewhere, and no file system is left. Sockets keep their group.
fn give(path: &Path, uid: Uid, gid: Gid) -> nix::Result<()> {
    // It may be kept elsewhere, where whoever owns what leads to it said so.
    let path = path.canonicalize().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
    let directory = Dir::open(&path, DIRECTORY, Mode::empty())?;
    let device = fstat(&directory)?.st_dev;
    give_all(directory, device, uid, gid)
}

fn give_all(mut directory: Dir, device: dev_t, uid: Uid, gid: Gid) -> nix::Result<()> {
    fchown(&directory, Some(uid), Some(gid))?;
    let names: Vec<CString> = directory.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_owned())).collect();
    for name in names.iter().filter(|name| !matches!(name.as_bytes(), b"." | b"..")) {
        let Ok(stat) = fstatat(&directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                give_all(Dir::openat(&directory, name.as_c_str(), DIRECTORY, Mode::empty())?, device, uid, gid)?;
            }
            kind @ (SFlag::S_IFREG | SFlag::S_IFSOCK) if stat.st_uid == 0 && stat.st_nlink == 1 => {
                let group = (kind == SFlag::S_IFREG).then_some(gid);
                fchownat(&directory, name.as_c_str(), Some(uid), group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    Ok(())
}

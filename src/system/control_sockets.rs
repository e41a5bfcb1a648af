//! The two Unix sockets for control over Varlink, where systemd does not hand them over.
//!
//! The kernel decides who may connect, by the mode and the group of the socket; the service asks only which of the two a
//! connection came in by. That holds inside user namespaces as well, where callers cannot be told apart.
#![forbid(unsafe_code)]

use super::socket_error::SocketError;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Group, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The group whose members may change things.
pub const ADMIN_GROUP: &str = "peernix-admin";

/// How many connections wait in the kernel until they are accepted; the kernel bounds it by `net.core.somaxconn`.
pub(super) const BACKLOG: i32 = 4096;

/// One of the two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// For everyone; nothing can be changed.
    Public,
    /// For the service's user and the group [`ADMIN_GROUP`]; everything.
    Admin,
}

impl Control {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Public, Self::Admin];

    /// Its `FileDescriptorName=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "varlink",
            Self::Admin => "varlink-admin",
        }
    }

    /// Its file in the runtime directory.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Public => "org.peernix",
            Self::Admin => "org.peernix.admin",
        }
    }
}

/// The file of a socket, which goes when this value does, unless another has taken its place.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens; the socket of a service that died is replaced.
pub(super) fn listen(control: Control, runtime: &Path) -> Result<(UnixListener, BoundPath), SocketError> {
    let path = runtime.join(control.file());
    bind(control, runtime, &path).map_err(|source| SocketError::Control { path, source })
}

fn bind(control: Control, runtime: &Path, path: &Path) -> io::Result<(UnixListener, BoundPath)> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if somebody_listens(path) => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // For nobody else until the group is right: the file takes the mode that the socket has when it is bound.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Under another name until it is complete. A long path fails here as well as later.
    let part = runtime.join(format!(".{}.{}", control.name(), std::process::id()));
    SockAddr::unix(path).and_then(|_| SockAddr::unix(&part)).and_then(|address| {
        let _ = fs::remove_file(&part);
        socket.bind(&address)
    })?;
    let complete = || {
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(&part, Permissions::from_mode(open_to(control, &part)))?;
        let identity = identity(&part)?;
        fs::rename(&part, path)?;
        Ok(identity)
    };
    match complete() {
        Ok(identity) => Ok((socket.into(), BoundPath { path: path.to_owned(), identity })),
        Err(error) => {
            let _ = fs::remove_file(&part);
            Err(error)
        }
    }
}

/// Whether a service has this socket. One that is too busy to take another connection is there as well.
fn somebody_listens(path: &Path) -> bool {
    let connected = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
        .and_then(|socket| SockAddr::unix(path).and_then(|address| socket.connect(&address)));
    connected.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true)
}

/// The mode of a socket, whose group is set if there is one.
fn open_to(control: Control, path: &Path) -> u32 {
    match control {
        Control::Public => 0o666,
        Control::Admin => match Group::from_name(ADMIN_GROUP) {
            // Only root may give it to any group, and others to those that they are in.
            Ok(Some(group)) if chown(path, None, Some(group.gid)).is_ok() => 0o660,
            _ => 0o600,
        },
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// A program that another test of this process starts holds all sockets between its fork and its exec: they end a moment
    /// after they are dropped here.
    fn until_nobody_listens(path: &Path) {
        let begun = std::time::Instant::now();
        while UnixStream::connect(path).is_ok() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{} is still listened to", path.display());
            std::thread::yield_now();
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn bound_with_the_right_modes_and_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let (public, admin) = (dir.path().join("org.peernix"), dir.path().join("org.peernix.admin"));
        let both = Control::ALL.map(|control| listen(control, dir.path()).unwrap());
        assert_eq!(mode(&public), 0o666);
        let group = Group::from_name(ADMIN_GROUP).unwrap();
        let expected = if group.is_some() && nix::unistd::Uid::effective().is_root() { 0o660 } else { 0o600 };
        assert_eq!(mode(&admin) & !0o060, expected & !0o060);
        assert_eq!(mode(&admin), expected);
        UnixStream::connect(&public).unwrap();
        UnixStream::connect(&admin).unwrap();
        assert!(both[0].0.accept().is_ok(), "it is listening");
        assert_eq!(both[0].0.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);

        let error = listen(Control::Public, dir.path()).unwrap_err().to_string();
        assert!(error.contains("org.peernix: ") && error.contains("another peernixd runs"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
        drop(both);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_socket_of_the_dead_is_replaced_and_only_the_own_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(Control::Public.file());
        drop(UnixListener::bind(&path).unwrap());
        until_nobody_listens(&path);
        assert!(path.exists());
        let (listener, bound) = listen(Control::Public, dir.path()).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(listener);
        until_nobody_listens(&path);
        // The next service is quicker than the end of the last.
        let next = listen(Control::Public, dir.path()).unwrap();
        drop(bound);
        UnixStream::connect(&path).unwrap();
        drop(next);

        fs::write(&path, "").unwrap();
        let error = listen(Control::Public, dir.path()).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        let long = dir.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        let error = listen(Control::Admin, &long).unwrap_err().to_string();
        assert!(error.contains("at most 107 bytes"), "{error}");
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
    }
}

//! What is remembered over a restart: a sealed piece of memory that the manager keeps for the next process of the service.
//!
//! Source: [the file descriptor store](https://systemd.io/FILE_DESCRIPTOR_STORE/) and memfd_create(2). The memory is sealed, so
//! that nobody changes it on the way; what it holds is the caller's matter, who puts a version into it. Nothing here is needed
//! for the service to work: without a manager, or with one that forgets, it starts cold.
#![forbid(unsafe_code)]

use super::notify::Notifier;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use thiserror::Error;

/// The name under which the manager keeps what this service remembers.
pub const STATE: &str = "peernix-state";
/// The most that is remembered, in bytes: it counts as memory of the service as long as it exists.
pub const STATE_MAX: usize = 4 * 1024 * 1024;
/// How many versions of it are looked at: as many descriptors as the unit lets the manager keep (`FileDescriptorStoreMax=`).
const VERSIONS_MAX: usize = 4;

/// What keeps something from being remembered, or from being read again.
#[derive(Debug, Error)]
pub enum FdStoreError {
    /// There is too much.
    #[error("{0} bytes are more than the {STATE_MAX} that are remembered over a restart")]
    TooLarge(u64),
    /// What came back is not what this service stores: it is not sealed, and may change while it is read.
    #[error("the file descriptor '{STATE}' from systemd is not a sealed memory file; it is not read")]
    NotSealed,
    /// The kernel refused something.
    #[error("the state for the next start cannot be {0}: {1}")]
    Io(&'static str, io::Error),
}

/// What the manager kept for this process, until it is read.
#[derive(Debug, Default)]
pub struct Kept {
    /// One as a rule; more when the manager did not remove the one before.
    states: Vec<OwnedFd>,
    /// Names of descriptors that say nothing to this version of the service.
    unknown: Vec<String>,
}

impl Kept {
    /// Whether this is a name of the store and not of a socket.
    #[must_use]
    pub fn is_ours(name: &str) -> bool {
        name == STATE
    }

    /// Takes a descriptor of that name. In which order they come says nothing: systemd 252 to 262 hand over the newest first, and
    /// turn the order round with each daemon-reload.
    pub fn put(&mut self, fd: OwnedFd) {
        if self.states.len() < VERSIONS_MAX {
            self.states.push(fd);
        }
    }

    /// Remembers that a descriptor of this name was closed.
    pub fn forget(&mut self, name: String) {
        self.unknown.push(name);
    }

    /// Reads what processes of the service stored before, and has the manager close what nobody knows. Nothing, as after a boot; or
    /// one version; or several in no order, of which the caller takes the one whose content is the newest.
    ///
    /// What is read stays in the store, so that a process that dies before it stores something new leaves the old.
    ///
    /// # Errors
    /// For each version, see [`FdStoreError`].
    pub fn read(self, notifier: &Notifier) -> Vec<Result<Vec<u8>, FdStoreError>> {
        for name in &self.unknown {
            notifier.unstore(name);
        }
        self.states.into_iter().map(unseal).collect()
    }
}

/// Has the manager keep these bytes instead of those before, for the next process of the service.
///
/// To be called on changes and when the service stops, not oftener than every few seconds; it copies, and sends two messages.
/// Between these two the manager has neither version.
///
/// # Errors
/// See [`FdStoreError`]; that there is no manager is none.
pub fn keep(notifier: &Notifier, bytes: &[u8]) -> Result<(), FdStoreError> {
    let memory = seal(bytes)?;
    notifier.unstore(STATE);
    match notifier.store(STATE, memory.as_fd()) {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        other => other.map_err(|error| FdStoreError::Io("handed to systemd", error)),
    }
}

/// The seals without which the memory could change or shrink under its reader.
fn seals() -> SealFlag {
    SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW
}

fn seal(bytes: &[u8]) -> Result<OwnedFd, FdStoreError> {
    if bytes.len() > STATE_MAX {
        return Err(FdStoreError::TooLarge(bytes.len() as u64));
    }
    let failed = |error: io::Error| FdStoreError::Io("written", error);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(STATE, flags).map_err(|error| failed(error.into()))?);
    file.write_all(bytes).map_err(failed)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals() | SealFlag::F_SEAL_SEAL)).map_err(|error| failed(error.into()))?;
    Ok(file.into())
}

fn unseal(fd: OwnedFd) -> Result<Vec<u8>, FdStoreError> {
    let present = fcntl(&fd, FcntlArg::F_GET_SEALS).map_err(|_| FdStoreError::NotSealed)?;
    if !SealFlag::from_bits_truncate(present).contains(seals()) {
        return Err(FdStoreError::NotSealed);
    }
    let file = File::from(fd);
    let failed = |error| FdStoreError::Io("read", error);
    let size = file.metadata().map_err(failed)?.len();
    let length = usize::try_from(size).ok().filter(|length| *length <= STATE_MAX);
    let mut bytes = vec![0; length.ok_or(FdStoreError::TooLarge(size))?];
    // The descriptor's own position is shared with every process that had it, and says nothing.
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::notify::tests::{manager, received};
    use super::*;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixDatagram;

    /// A message with the inodes of the descriptors that came with it, as far as they are files.
    fn received_with_fds(socket: &UnixDatagram) -> (String, usize) {
        let (mut buffer, mut space) = ([0; 512], nix::cmsg_space!([std::os::fd::RawFd; 4]));
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let fds = message.cmsgs().unwrap().map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.len(),
            _ => 0,
        });
        let (fds, length) = (fds.sum(), message.bytes);
        (String::from_utf8(buffer[..length].to_vec()).unwrap(), fds)
    }

    /// Something as the manager keeps it.
    pub(crate) fn sealed(bytes: &[u8]) -> OwnedFd {
        seal(bytes).unwrap()
    }

    #[test]
    fn what_is_sealed_comes_back() {
        for bytes in [&b""[..], b"{\"version\":1}", &vec![7; STATE_MAX]] {
            let memory = seal(bytes).unwrap();
            assert!(File::from(memory.try_clone().unwrap()).write_at(b"x", 0).is_err(), "nobody can write");
            let kept = Kept { states: vec![memory], ..Kept::default() };
            let read: Vec<_> = kept.read(&Notifier::default()).into_iter().map(Result::unwrap).collect();
            assert_eq!(read, [bytes]);
        }
        assert!(Kept::default().read(&Notifier::default()).is_empty());
    }

    #[test]
    fn too_much_and_too_open() {
        assert!(matches!(seal(&vec![0; STATE_MAX + 1]), Err(FdStoreError::TooLarge(_))));
        let read = |file: OwnedFd| {
            let kept = Kept { states: vec![file], ..Kept::default() };
            kept.read(&Notifier::default()).pop().unwrap()
        };
        let open = memfd_create(c"open", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(matches!(read(open), Err(FdStoreError::NotSealed)));
        assert!(matches!(read(File::open("/dev/null").unwrap().into()), Err(FdStoreError::NotSealed)));
        let large = File::from(memfd_create(c"large", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        large.set_len(1 << 40).unwrap();
        fcntl(&large, FcntlArg::F_ADD_SEALS(seals())).unwrap();
        assert!(matches!(read(large.into()), Err(FdStoreError::TooLarge(_))));
    }

    #[test]
    fn the_manager_gets_name_and_descriptor_in_one_message() {
        let (_dir, socket, notifier) = manager();
        keep(&notifier, b"state").unwrap();
        assert_eq!(received_with_fds(&socket), ("FDSTOREREMOVE=1\nFDNAME=peernix-state\n".to_owned(), 0));
        assert_eq!(received_with_fds(&socket), ("FDSTORE=1\nFDNAME=peernix-state\n".to_owned(), 1));
        keep(&Notifier::default(), b"nobody keeps it").unwrap();
    }

    #[test]
    fn what_nobody_knows_is_removed() {
        let (_dir, socket, notifier) = manager();
        let mut kept = Kept::default();
        kept.forget("older".to_owned());
        assert!(kept.read(&notifier).is_empty());
        assert_eq!(received(&socket).unwrap(), "FDSTOREREMOVE=1\nFDNAME=older\n");
        assert!(Kept::is_ours(STATE) && !Kept::is_ours("share"));
    }
}

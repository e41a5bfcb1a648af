//! The secret half of a machine's identity: an ed25519 key made on first start, or handed over as a credential.
//!
//! The key in the state directory belongs to one machine, whose id is written down beside it: a copy of the whole disk that
//! starts on another machine gets a key of its own.

use super::error::PeersError;
use super::identity::NodeId;
use crate::files;
use ed25519_dalek::{Signer as _, SigningKey};
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// The name of the key file in the state directory.
pub const KEY_FILE: &str = "node.key";
/// Whose key it is, as a name for the machine that says nothing about it, in the state directory.
const MACHINE_FILE: &str = "node.machine";
/// The key that was another machine's.
pub const OLD_KEY_FILE: &str = "node.key.old";
/// The most that is read of [`MACHINE_FILE`], in bytes.
const MACHINE_MAX: u64 = 256;
/// The size of the key file in bytes: the seed of RFC 8032 and nothing else.
const SEED_LEN: usize = 32;
/// Permission bits that no key file may have: anything for group and others.
const FORBIDDEN_MODE: u32 = 0o077;

/// DER of a PKCS #8 `OneAsymmetricKey` for ed25519 up to its 32 bytes of seed (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A machine's secret half. Its bytes are wiped when it is dropped and never printed.
pub struct NodeKey {
    key: SigningKey,
    id: NodeId,
}

impl NodeKey {
    /// The key that a credential holds: the same 32 bytes as in [`KEY_FILE`].
    ///
    /// # Errors
    /// Not exactly 32 bytes.
    pub fn from_credential(secret: &[u8]) -> Result<Self, PeersError> {
        let seed: Zeroizing<[u8; SEED_LEN]> =
            Zeroizing::new(secret.try_into().map_err(|_| PeersError::CredentialSize(secret.len()))?);
        Ok(Self::from_seed(*seed))
    }

    /// Reads the key in `state_dir`, or makes one on first use, for the machine that is called `machine`. If the key there is
    /// another machine's it is set aside, and its public half is given as well. Blocks.
    ///
    /// A key of which nobody wrote down whose it is is this machine's from now on.
    ///
    /// # Errors
    /// As [`Self::load_or_create`]; the name of the machine cannot be read or written.
    pub fn of_machine(state_dir: &Path, machine: &str) -> Result<(Self, Option<NodeId>), PeersError> {
        let file = |action| move |error| PeersError::file(action, state_dir, error);
        files::create_private_dir(state_dir).map_err(file("create"))?;
        // Two of our programs that start at the same moment must not both find the same key to be another machine's.
        let directory = std::fs::File::open(state_dir).map_err(file("open"))?;
        let _lock = Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, errno)| file("lock")(errno.into()))?;
        let (key, whose) = (state_dir.join(KEY_FILE), state_dir.join(MACHINE_FILE));
        let before = match files::read_text(&whose, MACHINE_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // One that is too long is no machine's, so not this one's.
            text => Some(text.map_err(|error| PeersError::file("read", &whose, error))?.unwrap_or_default()),
        };
        let mut replaced = None;
        if before.as_deref().is_some_and(|before| before.trim() != machine)
            && let Some(other) = Self::load(&key)?
        {
            let aside = state_dir.join(OLD_KEY_FILE);
            std::fs::rename(&key, &aside).map_err(|error| PeersError::file("set aside", &key, error))?;
            replaced = Some(other.id);
        }
        if before.as_deref().map(str::trim) != Some(machine) {
            // Before the key is made: a key without the right name beside it would be replaced once more.
            let written = files::replace_atomically(&whose, format!("{machine}\n").as_bytes());
            written.map_err(|error| PeersError::file("write", &whose, error))?;
        }
        Ok((Self::load_or_create(state_dir)?, replaced))
    }

    /// Reads the key in `state_dir`, or makes one (and the directory) on first use. Blocks.
    ///
    /// # Errors
    /// A key file that cannot be read or written, that others may read, or that is not exactly 32 bytes.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, PeersError> {
        let path = state_dir.join(KEY_FILE);
        if let Some(key) = Self::load(&path)? {
            return Ok(key);
        }
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        getrandom::fill(seed.as_mut_slice())
            .map_err(|error| PeersError::file("make", &path, std::io::Error::other(error.to_string())))?;
        files::create_private_dir(state_dir).map_err(|error| PeersError::file("create", state_dir, error))?;
        match files::create_atomically(&path, seed.as_slice()) {
            Ok(()) => Ok(Self::from_seed(*seed)),
            // Another program of ours was first (`--print-node-id` beside the daemon): its key is the machine's.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Self::load(&path)?.ok_or_else(|| PeersError::file("read", &path, ErrorKind::NotFound.into()))
            }
            Err(error) => Err(PeersError::file("write", &path, error)),
        }
    }

    /// The key of a 32-byte seed.
    #[must_use]
    pub fn from_seed(mut seed: [u8; SEED_LEN]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        let id = NodeId::of(&key.verifying_key());
        Self { key, id }
    }

    /// The public half.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The signature of a message that begins with what it is for, so that it means nothing elsewhere; see `sites::envelope`.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The key as PKCS #8, for the TLS library.
    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut der = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + SEED_LEN));
        der.extend_from_slice(&PKCS8_PREFIX);
        der.extend_from_slice(self.key.as_bytes());
        der
    }

    /// The key at `path`, or `None` where there is no file.
    fn load(path: &Path) -> Result<Option<Self>, PeersError> {
        let unreadable = |error| PeersError::file("read", path, error);
        // A link in place of the key could make us read another file with our rights.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let mut file = match std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(std::io::Error::other("not a regular file")));
        }
        if metadata.mode() & FORBIDDEN_MODE != 0 {
            return Err(PeersError::KeyMode { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        if metadata.size() != SEED_LEN as u64 {
            return Err(PeersError::KeySize { path: path.to_owned(), size: metadata.size() });
        }
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        file.read_exact(seed.as_mut_slice()).map_err(unreadable)?;
        Ok(Some(Self::from_seed(*seed)))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("not/yet");
        let made = NodeKey::load_or_create(&state).unwrap();
        assert_eq!(NodeKey::load_or_create(&state).unwrap().id(), made.id());
        assert_ne!(NodeKey::load_or_create(dir.path()).unwrap().id(), made.id());
        let metadata = state.join(KEY_FILE).metadata().unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.size()), (0o600, 32));
        // Nothing is left of the temporary file.
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_copied_disk_gets_a_key_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let of = |machine| NodeKey::of_machine(dir.path(), machine).unwrap();
        let (first, replaced) = of("one");
        assert!(replaced.is_none());
        assert_eq!((of("one").0.id(), of("one").1), (first.id(), None), "the same machine keeps it");
        // The same files on another machine.
        let (second, replaced) = of("other");
        assert_ne!(second.id(), first.id());
        assert_eq!(replaced, Some(first.id()));
        assert_eq!((of("other").0.id(), of("other").1), (second.id(), None));
        let aside = dir.path().join(OLD_KEY_FILE);
        assert_eq!(NodeKey::load(&aside).unwrap().unwrap().id(), first.id());
        // What the catalog says to do about it.
        std::fs::rename(&aside, dir.path().join(KEY_FILE)).unwrap();
        std::fs::remove_file(dir.path().join(MACHINE_FILE)).unwrap();
        assert_eq!((of("other").0.id(), of("other").1), (first.id(), None));
    }

    #[test]
    fn a_key_from_before_is_kept_and_bound() {
        let dir = tempfile::tempdir().unwrap();
        let before = NodeKey::load_or_create(dir.path()).unwrap().id();
        assert_eq!(NodeKey::of_machine(dir.path(), "one").unwrap().0.id(), before);
        let (after, replaced) = NodeKey::of_machine(dir.path(), "other").unwrap();
        assert!(after.id() != before && replaced == Some(before));
    }

    #[test]
    fn a_copy_that_starts_twice_at_once_has_one_key() {
        let dir = tempfile::tempdir().unwrap();
        NodeKey::of_machine(dir.path(), "one").unwrap();
        let ids: Vec<NodeId> = std::thread::scope(|scope| {
            let start = || NodeKey::of_machine(dir.path(), "other").unwrap().0.id();
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(ids, [ids[0]; 8]);
    }

    #[test]
    fn starts_at_the_same_moment_agree() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<NodeId> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| NodeKey::load_or_create(dir.path()).unwrap().id())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(ids, [ids[0]; 8]);
    }

    #[test]
    fn bad_files_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        write(&path, [7; 31]).unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = NodeKey::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, PeersError::KeySize { size: 31, .. }), "{error}");
        write(&path, [7; 32]).unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = NodeKey::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, PeersError::KeyMode { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), [7; 32]);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(NodeKey::load_or_create(dir.path()).is_err());
    }

    #[test]
    fn a_credential_is_the_same_32_bytes() {
        assert_eq!(NodeKey::from_credential(&[7; 32]).unwrap().id(), NodeKey::from_seed([7; 32]).id());
        for size in [0, 31, 33] {
            let error = NodeKey::from_credential(&vec![7; size]).unwrap_err();
            assert!(matches!(error, PeersError::CredentialSize(found) if found == size), "{error}");
        }
    }

    #[test]
    fn text_and_der_forms() {
        // RFC 8032 section 7.1, test 1.
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let key = NodeKey::from_seed(seed.try_into().unwrap());
        let public = data_encoding::HEXLOWER.encode(key.id().as_bytes());
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let text = key.id().to_string();
        assert_eq!((text.len(), text.parse::<NodeId>().unwrap()), (NodeId::TEXT_LEN, key.id()));
        assert_eq!(serde_json::to_string(&key.id()).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&format!("\"{text}\"")).unwrap(), key.id());
        assert_eq!(NodeId::from_spki(&key.id().to_spki()).unwrap(), key.id());
        assert_eq!(key.to_pkcs8().len(), 48);
        assert!(!format!("{key:?}").contains("9d61b1"));
    }
}

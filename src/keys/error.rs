//! What can go wrong with keys, said so that the administrator knows what to do.

use super::limits::{COMMENT_MAX, GRACE_MAX, NAME_MAX};
use crate::nix::FormatError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why something could not be done with a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// None of ours.
    #[error(
        "this machine has no signing key '{0}' (name the fingerprint or the key's name, as `peernixctl keys list` shows them)"
    )]
    NoSuchKey(String),
    /// None that is trusted.
    #[error("no trusted key is '{0}' (name the whole key, or its name as `peernixctl trust list` shows it)")]
    NoSuchTrusted(String),
    /// The active key cannot be revoked.
    #[error("the key {0} is in use: rotate first (`peernixctl keys rotate`), then revoke it")]
    KeyInUse(String),
    /// The key is a credential.
    #[error(
        "the key {0} is the credential \"signing-key\" of the service: to replace it, change what it is made of (/etc/credstore/peernix.signing-key, or what LoadCredential= of peernix.service names), then `systemctl reload peernix.service`, or restart it where systemd is older than 260; to have keys managed here, set [keys] signing = \"state\""
    )]
    ManagedExternally(String),
    /// Not a public key.
    #[error("not a public key: {0}; it is one line such as cache.example.org-1:BASE64")]
    InvalidPublicKey(FormatError),
    /// Two keys with one name: Nix would not know which one a signature means.
    #[error(
        "another key is trusted under the name {0} already: remove that one first, or have its owner choose another name"
    )]
    NameTaken(String),
    /// A longer grace than allowed.
    #[error("a key may go on signing for {} at most", humantime::format_duration(GRACE_MAX))]
    Grace,
    /// A comment, reason or peer.
    #[error("a comment, a reason or a peer's name has up to {} bytes and no control characters", COMMENT_MAX)]
    Comment,
    /// The name of a key to be made.
    #[error("'{0}' cannot be the name of a key: up to {max} printable ASCII characters without blanks and colons ([keys] name)", max = NAME_MAX)]
    Name(String),
    /// Too many keys of a kind.
    #[error("there are {count} {what} already; {remedy}")]
    TooMany {
        /// How many.
        count: usize,
        /// Of what.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The credential is no key.
    #[error(
        "the credential \"signing-key\" is not a secret key: {0}; it is a file as `nix key generate-secret` writes it"
    )]
    Credential(FormatError),
    /// A file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is not what we wrote. It is left alone.
    #[error("{} is damaged ({what}) and was left as it is: restore it from a backup, or move it away to begin anew{lost}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without its content.
        what: String,
        /// What beginning anew means.
        lost: &'static str,
    },
    /// What was decided is in force, but will be forgotten.
    #[error("this is in force now, but will be forgotten at the next start: {0}; repeat it once that is put right")]
    NotSaved(Box<Self>),
    /// No random numbers for a new key.
    #[error("no random numbers for a new key: {0}")]
    Random(String),
    /// The service is being stopped.
    #[error("the service is stopping")]
    Stopping,
}

impl KeysError {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// Checks a text that people wrote for people: a comment, a reason.
pub(super) fn check_comment(text: &str) -> Result<(), KeysError> {
    let fits = text.len() <= COMMENT_MAX && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(KeysError::Comment) }
}

//! How a verb can fail, what is said then, and with which code the program ends.

use super::{exit, output};
use crate::control::{ControlError, ErrorKind, Job, Outcome};
use crate::system::user_namespace;
use std::fmt;
use std::io;

/// What comes out of a verb.
pub(super) type Done<T> = Result<T, VerbError>;

/// A verb that failed.
#[derive(Debug)]
pub(super) enum VerbError {
    /// The service refused, or could not be asked.
    Control {
        /// What was to be done, after "Failed to".
        doing: String,
        /// Why it was not.
        error: ControlError,
    },
    /// Something on this side.
    Other {
        /// What was to be done, after "Failed to".
        doing: String,
        /// Why it was not.
        reason: String,
    },
    /// An argument makes no sense.
    Usage(String),
    /// A job ended, and not well.
    Job {
        /// What it was about, after "Failed to".
        doing: &'static str,
        /// Why it failed.
        message: String,
        /// How it ended.
        job: Box<Job>,
    },
    /// The result cannot be written.
    Output(io::Error),
    /// Who read the result has had enough: no failure at all.
    Closed,
    /// All is said; the program ends with this code.
    Ended(u8),
}

impl VerbError {
    /// Something on this side that did not work.
    pub(super) fn other(doing: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Other { doing: doing.into(), reason: reason.to_string() }
    }

    /// Tells it on stderr and returns the exit code.
    pub(super) fn tell(&self) -> u8 {
        let (text, hint, code) = match self {
            Self::Control { doing, error } => {
                let code = exit::of_kind(error.kind);
                (format!("Failed to {doing}: {}", output::tame_lines(&error.to_string())), hint(error.kind), code)
            }
            Self::Other { doing, reason } => (format!("Failed to {doing}: {reason}"), None, exit::FAILURE),
            Self::Usage(text) => (text.clone(), None, exit::CTL_USAGE),
            Self::Job { doing, message, .. } => {
                (format!("Failed to {doing}: {}", output::tame_lines(message)), None, exit::FAILURE)
            }
            Self::Output(error) => (format!("Failed to write the result: {error}"), None, exit::FAILURE),
            Self::Closed => return 0,
            Self::Ended(code) => return *code,
        };
        output::complain(&text);
        // The service may have said itself which command helps.
        if let Some(hint) = hint.filter(|_| !text.contains("peernixctl")) {
            output::complain(hint);
        }
        code
    }
}

/// Says what was being done when the service refused.
pub(super) trait Doing<T> {
    /// `doing` comes after "Failed to".
    fn doing(self, doing: impl Into<String>) -> Done<T>;
}

impl<T> Doing<T> for Outcome<T> {
    fn doing(self, doing: impl Into<String>) -> Done<T> {
        self.map_err(|error| VerbError::Control { doing: doing.into(), error })
    }
}

/// What to do about an error, where its own message cannot know.
fn hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NotRunning => {
            "Start it with `systemctl start peernix`; `journalctl -u peernix -e` tells why it is down. `peernixctl status` has more."
        }
        ErrorKind::AccessDenied | ErrorKind::InteractiveAuthorizationRequired if user_namespace::is_inside() => {
            "Run it outside of this container: in a user namespace, as here, root and groups are not those of the machine."
        }
        ErrorKind::AccessDenied | ErrorKind::InteractiveAuthorizationRequired => {
            "Run it as root (sudo), as a member of the group peernix-admin, or let polkit allow it to this user."
        }
        ErrorKind::NoSuchPeer => "`peernixctl peers` lists the peers.",
        ErrorKind::AmbiguousPeer => "Name it by more of its id, as `peernixctl peers --full` lists it.",
        ErrorKind::PeerUnreachable => "`peernixctl peers show` tells where it was and when it was last seen.",
        ErrorKind::NoSuchPath => "`peernixctl query` tells who has a path; `peernixctl fetch` gets it.",
        ErrorKind::InvalidStorePath => {
            "A store path looks like /nix/store/HASH-NAME; HASH-NAME, or a link to one such as ./result, will do."
        }
        ErrorKind::NoSuchPin => "`peernixctl pins` lists what is pinned.",
        ErrorKind::StoreUnavailable => "`peernixctl doctor` looks at what the service needs.",
        ErrorKind::NoSuchJob => "`peernixctl jobs` lists the jobs of late.",
        ErrorKind::NoSuchKey => {
            "`peernixctl keys` lists the keys that sign, `peernixctl trust` those that are trusted."
        }
        ErrorKind::NoFleetKey => "`peernixctl fleet` tells on each machine whether it has the key.",
        ErrorKind::PairingFailed => {
            "`peernixctl fleet invite` on the machine with the fleet key prints a new code, which is good for a minute."
        }
        ErrorKind::KeyInUse => "`peernixctl keys rotate` makes another one.",
        ErrorKind::KeyManagedExternally => "Change the credential `signing-key` of peernix.service and restart it.",
        ErrorKind::ConfigInvalid => "`peernixd --check-config` tries the file; `man peernix.toml` has every key.",
        ErrorKind::Draining => "`peernixctl undrain` lets it take work again.",
        ErrorKind::Busy => "`peernixctl jobs` lists what is going on.",
        ErrorKind::InvalidUri
        | ErrorKind::PinLimit
        | ErrorKind::InvalidPublicKey
        | ErrorKind::KeyNameTaken
        | ErrorKind::OtherFleet
        | ErrorKind::InvalidArgument
        | ErrorKind::LimitExceeded
        | ErrorKind::NotSupported
        | ErrorKind::Failed => return None,
    })
}

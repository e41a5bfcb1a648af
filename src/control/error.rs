//! Why something could not be done, in a form that both front ends carry to the other side and back.

use std::fmt;

/// Declares the kinds and their names from one table, so that the front ends, the files that describe them and the clients
/// cannot differ.
macro_rules! kinds {
    ($($kind:ident: $help:literal;)*) => {
        /// The kinds of errors. Their names are part of both interfaces.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind {
            $(#[doc = $help] $kind,)*
        }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name: the last part of an error name of D-Bus or Varlink.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind),)* }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$kind => $help,)* }
            }
        }
    };
}

kinds! {
    NoSuchPeer: "No peer has this id or name.";
    AmbiguousPeer: "Several peers have this name, or ids that begin like this.";
    InvalidUri: "This is not HOST:PORT or NODEID@HOST:PORT.";
    PeerUnreachable: "The peer does not answer.";
    NoSuchPath: "This path is not valid in the store.";
    InvalidStorePath: "This is not a store path.";
    NoSuchPin: "This path is not pinned.";
    PinLimit: "There are as many pins as there may be.";
    StoreUnavailable: "The store or the Nix daemon cannot do it.";
    NoSuchJob: "There is no such job, or it ended too long ago.";
    NoSuchKey: "No key has this fingerprint or name.";
    InvalidPublicKey: "This is not a public key as NAME:BASE64.";
    KeyNameTaken: "Another key has this name.";
    KeyInUse: "The key signs at the moment: rotate first.";
    KeyManagedExternally: "The keys come from a credential, which the service cannot change.";
    NoFleetKey: "This machine does not have the fleet key.";
    OtherFleet: "This machine belongs to another fleet, or to one already.";
    PairingFailed: "The code is wrong or too old, or nobody invites by it.";
    ConfigInvalid: "The configuration is wrong; the one before stays in force.";
    Draining: "The service takes no new work.";
    Busy: "The same is being done already.";
    InvalidArgument: "An argument makes no sense.";
    LimitExceeded: "More was asked for than is allowed at once.";
    AccessDenied: "The caller may not do this.";
    InteractiveAuthorizationRequired: "The caller may do this once somebody has authenticated, and did not allow that.";
    NotSupported: "This service cannot do that.";
    NotRunning: "The service does not run, or cannot be reached.";
    Failed: "It did not work.";
}

impl ErrorKind {
    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Something that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlError {
    /// What kind of error it is.
    pub kind: ErrorKind,
    /// What, where, and what to do about it.
    pub message: String,
}

impl ControlError {
    /// An error of a kind, told in words.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.message.is_empty() { self.kind.help() } else { &self.message })
    }
}

impl std::error::Error for ControlError {}

/// What comes out of most of what an administrator asks for.
pub type Outcome<T> = Result<T, ControlError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_their_names() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_name(kind.name()), Some(*kind));
            assert!(kind.help().ends_with('.'));
        }
        assert_eq!(ErrorKind::from_name("nosuchpeer"), None);
        assert_eq!(ControlError::new(ErrorKind::Busy, "").to_string(), ErrorKind::Busy.help());
    }
}

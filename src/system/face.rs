//! What a listening socket is for.
#![forbid(unsafe_code)]

use std::fmt;

/// What a listening socket is for. Its name is the `FileDescriptorName=` of its socket unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// The gateway: Nix on this machine.
    Gateway,
    /// The share: peers, over TLS.
    Share,
    /// The plain share: any Nix.
    Plain,
}

impl Face {
    pub(super) const ALL: [Self; 3] = [Self::Gateway, Self::Share, Self::Plain];

    /// The name of the file descriptor.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Share => "share",
            Self::Plain => "plain",
        }
    }

    /// The key of the configuration that says where it listens.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Gateway => "[gateway] listen",
            Self::Share => "[share] listen",
            Self::Plain => "[share] plain_listen",
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

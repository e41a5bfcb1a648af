//! The front end over Varlink: JSON objects over a stream socket, one interface for each part of the service.
//!
//! Source: [the protocol](https://varlink.org/Method-Call), and the style of
//! [systemd's interfaces](https://github.com/systemd/systemd/blob/main/docs/VARLINK.md). The interfaces are described in
//! the files of `varlink/`, which is also what the service answers when it is asked for them.
//!
//! There are two sockets, [`READ_ONLY_SOCKET`] for everybody and [`ADMIN_SOCKET`] for root and a group. The kernel decides
//! who may connect to which; the service only looks at which one a connection came to. So it works the same in a user
//! namespace, where the ids of callers are not to be seen.

mod client;
mod connection;
mod interfaces;
mod limits;
mod protocol;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Stream};
pub use interfaces::{DESCRIPTIONS, METHODS};
pub use limits::Limits;
pub use protocol::{Call, Decoder, Parameters, Refusal};
pub use server::{Server, serve};

/// The socket on which everybody may ask, in the runtime directory.
pub const READ_ONLY_SOCKET: &str = "org.peernix";

/// The socket on which its group may do everything, in the runtime directory.
pub const ADMIN_SOCKET: &str = "org.peernix.admin";

/// The group of the admin socket.
pub const ADMIN_GROUP: &str = "peernix-admin";

/// The longest call on the admin socket, in bytes: prefetching some thousand paths.
pub const CALL_MAX: usize = 1 << 20;

/// The longest call on the socket for everybody, in bytes: a filter, or one path.
pub const CALL_MAX_READ_ONLY: usize = 64 << 10;

/// What a connection may do; decided by the socket that it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only ask.
    ReadOnly,
    /// Everything.
    Admin,
}

impl Access {
    /// The longest call, in bytes.
    #[must_use]
    pub const fn call_max(self) -> usize {
        match self {
            Self::ReadOnly => CALL_MAX_READ_ONLY,
            Self::Admin => CALL_MAX,
        }
    }
}

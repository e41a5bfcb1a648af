//! The two sockets, and what each is for.

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

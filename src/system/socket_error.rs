//! Why a socket cannot be had, and what to do about it.
#![forbid(unsafe_code)]

use super::face::Face;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// A socket that the service cannot have.
#[derive(Debug, Error)]
pub enum SocketError {
    /// It cannot listen there.
    #[error("{face}: cannot listen on {address}: {source}; {}", remedy(.source, *.address, *.face))]
    Listen {
        /// What for.
        face: Face,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It cannot listen for Varlink.
    #[error("{}: cannot listen for Varlink: {source}; {}", path.display(), control_remedy(.source))]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd handed over something that cannot be used.
    #[error("the file descriptor '{name}' from systemd {what}; look at the socket unit")]
    HandedOver {
        /// Its `FileDescriptorName=`.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// `$LISTEN_FDS` and its companions contradict each other.
    #[error("the sockets from systemd cannot be taken: {0}; check $LISTEN_FDS and $LISTEN_FDNAMES")]
    Protocol(io::Error),
    /// The addresses could not be written down.
    #[error("{0}: cannot be written: {1}")]
    Addresses(String, io::Error),
}

/// What to do about a socket that cannot listen.
fn remedy(error: &io::Error, address: SocketAddr, face: Face) -> String {
    let key = face.key();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has this port (`ss -ltnp 'sport = :{}'` shows which): stop it, or set {key}",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need CAP_NET_BIND_SERVICE: take a higher one in {key}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("no interface has this address (`ip address` shows them): set {key}")
        }
        _ => format!("set {key}"),
    }
}

/// What to do about a socket for Varlink that cannot be had.
fn control_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another peernixd runs with this runtime directory: stop it, or set $RUNTIME_DIRECTORY"
        }
        io::ErrorKind::InvalidInput => "a socket's path has at most 107 bytes: set $RUNTIME_DIRECTORY to a shorter one",
        io::ErrorKind::AlreadyExists => "something that is not a socket has this name: remove it",
        _ => "the runtime directory must be writable for this user",
    }
}

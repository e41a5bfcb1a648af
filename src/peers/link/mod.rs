//! Connections between peers: HTTP/1.1 over TLS 1.3, where both sides prove their node key.
//!
//! [`Acceptor`] is the server's half, for the share. The client's half is a `Dialler`, which makes connections, and for
//! each peer a `Pool`, which keeps them.

mod connection;
mod dial;
mod pool;
mod tls;

#[cfg(test)]
mod tests;

pub(super) use connection::Connection;
pub(super) use dial::{Dialler, Target};
#[cfg(test)]
use pool::CONNECTIONS_MAX;
pub(super) use pool::Pool;
pub use tls::{Acceptor, peer_id, server_config};

use std::time::Duration;

/// The protocol's name in ALPN; its number changes when old and new machines cannot understand each other.
pub const ALPN: &[u8] = b"peernix/1";

/// How long a TLS handshake may take, on either side. On a LAN it takes milliseconds; the rest is for busy machines.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// How long a TCP connection may take: the kernel repeats one lost SYN after a second.
pub const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// How long the head of a response may take once the request is sent. Whoever waits for one hedges long before.
pub const RESPONSE_LIMIT: Duration = Duration::from_secs(10);

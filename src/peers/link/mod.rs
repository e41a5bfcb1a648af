//! Connections between peers: HTTP/2 and HTTP/1.1 over TLS 1.3, where both sides prove their node key.
//!
//! [`Acceptor`] is the server's half, for the share; a [`Guard`] keeps an eye on those who come in. The client's half is a
//! `Dialler`, which makes connections, and for each peer a `Transport`, which is a `Pool` of them: one over HTTP/2 for everything small,
//! and others over HTTP/1.1 for NARs, so that no NAR holds up another and each can fail by itself.

mod connection;
mod dial;
mod guard;
mod heard;
mod pool;
mod tls;
mod transport;

#[cfg(test)]
mod tests;

pub(super) use connection::{Call, Connection};
pub(super) use dial::{ADDRESSES_MAX, Dialler, RETRY_PAUSES, Target};
pub use guard::{Guard, Visitor};
pub(super) use pool::Pool;
pub(crate) use pool::{MEASURE, PARTIAL, PATCH};
pub use tls::{ALPN, ALPN_MULTIPLEXED, Acceptor, is_multiplexed};
#[cfg(test)]
pub(super) use transport::Pending;
pub(super) use transport::Transport;

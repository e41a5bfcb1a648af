//! The front end over Varlink: JSON objects over a stream socket, one interface for each part of the service.
//!
//! Source: [the protocol](https://varlink.org/Method-Call), and the style of
//! [systemd's interfaces](https://github.com/systemd/systemd/blob/main/docs/VARLINK.md). The interfaces are described in
//! the files of `varlink/`, which is also what the service answers when it is asked for them.
//!
//! There are two sockets, [`READ_ONLY_SOCKET`] for everybody and [`ADMIN_SOCKET`] for root and a group. The kernel decides
//! who may connect to which; the service only looks at which one a connection came to. So it works the same in a user
//! namespace, where the ids of callers are not to be seen.
//!
//! A file uses those before it only: `sockets`, `limits`, `protocol`, `interfaces`, `connection`, `server`, `client`.

mod client;
mod connection;
mod interfaces;
mod limits;
mod protocol;
mod server;
mod sockets;
#[cfg(test)]
mod tests;

pub use client::{Client, Stream};
pub use interfaces::{DESCRIPTIONS, METHODS};
pub use limits::Limits;
pub use protocol::{Call, Decoder, Parameters, Refusal};
pub use server::{Server, serve};
pub use sockets::{ADMIN_GROUP, ADMIN_SOCKET, Access, CALL_MAX, CALL_MAX_READ_ONLY, READ_ONLY_SOCKET};

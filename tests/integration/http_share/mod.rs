//! The HTTP server and the share, over real sockets: limits and time, hostile requests, a real store, a real Nix.

mod busy;
mod doubt;
mod index;
mod limits;
mod malformed;
mod many;
mod multiplexed;
mod requests;
mod rules;
mod share;
mod substitute;
mod tls;
mod two;

//! The HTTP server and the share, over real sockets: limits and time, hostile requests, a real store, a real Nix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::large_futures, missing_docs, unreachable_pub)]

mod limits;
mod malformed;
mod requests;
mod rules;
mod share;
mod substitute;
mod support;
mod tls;

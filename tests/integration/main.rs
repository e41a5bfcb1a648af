//! Integration tests: the rooms together, over real sockets. One binary, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may")]

mod fetch;
mod internet;
mod watching;
mod units;

//! Integration tests: the rooms together, over real sockets. One binary, so that it is linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::large_futures,
    reason = "tests may"
)]

mod control;
mod desktop;
mod fetch;
mod http_share;
mod lookups;
mod monitoring;
mod page;
mod programs;
mod support;
mod units;
mod upstreams;
mod watching;

//! The programs: what `peernixd` and `peernixctl` do before and around the library's work.
#![forbid(unsafe_code)]

mod client;
mod demo;
pub mod exit;
mod output;
pub mod peernixctl;
pub mod peernixd;
mod peers;
mod status;

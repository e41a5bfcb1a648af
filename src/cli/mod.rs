//! The programs: what `peernixd` and `peernixctl` do before and around the library's work.
#![forbid(unsafe_code)]

mod agent;
mod args;
mod client;
mod completion;
mod connect;
mod error;
pub mod exit;
mod nix_memory;
mod output;
pub mod peernixctl;
pub mod peernixd;
mod store_path;
mod systemd;
mod verbs;

#[cfg(test)]
mod tests;

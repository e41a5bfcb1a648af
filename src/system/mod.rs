//! The host: network changes, for now.

pub mod network;

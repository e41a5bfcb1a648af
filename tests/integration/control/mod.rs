//! The ways in for administrators.

mod daemon;
mod varlink;

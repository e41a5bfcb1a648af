//! The programs as the system sees them: command lines, exit codes, sockets and messages of systemd, signals, and the
//! demonstration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests may")]

mod command_line;
mod demonstration;
mod running;
mod service;
mod tool;

//! The programs as the system sees them: command lines, exit codes, sockets and messages of systemd, signals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests may")]

mod command_line;
mod running;
mod service;
mod tool;

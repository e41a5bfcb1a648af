//! The programs as the system sees them: command lines, exit codes, sockets and messages of systemd, signals.

mod command_line;
mod service;
mod tool;

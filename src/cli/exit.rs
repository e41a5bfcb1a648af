//! Exit codes. Those of `peernixd` are of `sysexits.h`, as systemd knows them; those of `peernixctl` are of systemd's tools.

use crate::config::ConfigError;
use crate::system::directories::DirectoryError;
use crate::system::sockets::SocketError;
use std::process::ExitCode;

/// The command line makes no sense (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Something that the service needs is taken or missing, such as its port (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A mistake in the program, or the kernel refused something (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// A directory cannot be made (`EX_CANTCREAT`).
pub const CANNOT_CREATE: u8 = 73;
/// The configuration is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// `peernixctl`: it did not work.
pub const FAILURE: u8 = 1;
/// `peernixctl`: the command line makes no sense.
pub const CTL_USAGE: u8 = 2;
/// `peernixctl`: `peernixd` does not run.
pub const NOT_RUNNING: u8 = 3;
/// `peernixctl`: stopped by a signal, as shells count (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// The exit code of `peernixd` for an error.
#[must_use]
pub fn of(error: &anyhow::Error) -> ExitCode {
    let code = if error.is::<ConfigError>() {
        CONFIG
    } else if error.is::<SocketError>() {
        UNAVAILABLE
    } else if error.is::<DirectoryError>() {
        CANNOT_CREATE
    } else {
        SOFTWARE
    };
    code.into()
}

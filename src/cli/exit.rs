//! Exit codes. Those of `peernixd` are of `sysexits.h`, as systemd knows them; those of `peernixctl` are of systemd's tools.

use crate::config::ConfigError;
use crate::control::ErrorKind;
use crate::system::directories::DirectoryError;
use crate::system::sockets::SocketError;
use clap::Parser;
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
/// `peernixctl`: the command line, or something in it, makes no sense.
pub const CTL_USAGE: u8 = 2;
/// `peernixctl`: `peernixd` does not run, or a peer is offline.
pub const NOT_RUNNING: u8 = 3;
/// `peernixctl`: there is no such peer, path, pin, job or key.
pub const NO_SUCH: u8 = 4;
/// `peernixctl`: this user may not do that.
pub const DENIED: u8 = 5;
/// `peernixctl`: stopped by a signal, as shells count (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// The exit codes of `peernixctl` with what they mean: what its help, its man page and `docs/operations.md` say.
pub const CTL_CODES: [(u8, &str); 7] = [
    (0, "done"),
    (FAILURE, "it did not work"),
    (CTL_USAGE, "usage: an argument makes no sense"),
    (NOT_RUNNING, "peernixd does not run, or the peer is offline"),
    (NO_SUCH, "there is no such peer, path, pin, job or key"),
    (DENIED, "this user may not do that"),
    (INTERRUPTED, "interrupted"),
];

/// The command line of this process, or the code to end with once help, version or what is wrong has been printed.
pub(super) fn arguments<T: Parser>(usage: u8) -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        // Help and version come this way too, on stdout.
        let _ = error.print();
        if error.use_stderr() { usage.into() } else { ExitCode::SUCCESS }
    })
}

/// The exit code of `peernixctl` for an error of the service.
#[must_use]
pub const fn of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidUri
        | ErrorKind::InvalidStorePath
        | ErrorKind::InvalidPublicKey
        | ErrorKind::InvalidArgument
        | ErrorKind::AmbiguousPeer => CTL_USAGE,
        ErrorKind::NotRunning | ErrorKind::PeerUnreachable => NOT_RUNNING,
        ErrorKind::NoSuchPeer
        | ErrorKind::NoSuchPath
        | ErrorKind::NoSuchPin
        | ErrorKind::NoSuchJob
        | ErrorKind::NoSuchKey => NO_SUCH,
        ErrorKind::AccessDenied | ErrorKind::InteractiveAuthorizationRequired => DENIED,
        ErrorKind::PinLimit
        | ErrorKind::StoreUnavailable
        | ErrorKind::KeyNameTaken
        | ErrorKind::KeyInUse
        | ErrorKind::KeyManagedExternally
        | ErrorKind::ConfigInvalid
        | ErrorKind::Draining
        | ErrorKind::Busy
        | ErrorKind::LimitExceeded
        | ErrorKind::NotSupported
        | ErrorKind::Failed => FAILURE,
    }
}

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

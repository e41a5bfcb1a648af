//! Exit codes. Those of `peernixd` are of `sysexits.h`, as systemd knows them; those of `peernixctl` are of systemd's tools.

use crate::config::ConfigError;
use crate::control::ErrorKind;
use crate::peers::PeersError;
use crate::system::directories::DirectoryError;
use crate::system::sockets::SocketError;
use clap::Parser;
use std::io;
use std::process::ExitCode;

/// The command line makes no sense (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Something that the service needs is taken or missing, such as its port (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A mistake in the program, or the kernel refused something (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// A directory cannot be made (`EX_CANTCREAT`).
pub const CANNOT_CREATE: u8 = 73;
/// A file of the service cannot be used by its user (`EX_NOPERM`): somebody has to put that right.
pub const PERMISSION: u8 = 77;
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
        | ErrorKind::NoFleetKey
        | ErrorKind::OtherFleet
        | ErrorKind::PairingFailed
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
    code_of(error).into()
}

/// The faults that stay until somebody does something about them: the unit has them in `RestartPreventExitStatus=`.
#[must_use]
pub fn is_permanent(error: &anyhow::Error) -> bool {
    matches!(code_of(error), PERMISSION | CONFIG)
}

fn code_of(error: &anyhow::Error) -> u8 {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
    };
    if error.is::<ConfigError>() || matches!(error.downcast_ref(), Some(PeersError::Decisions { .. })) {
        CONFIG
    } else if error.is::<SocketError>() {
        UNAVAILABLE
    } else if matches!(error.downcast_ref(), Some(DirectoryError::Open(_) | DirectoryError::Foreign { .. }))
        || matches!(error.downcast_ref(), Some(PeersError::KeyMode { .. } | PeersError::KeySize { .. }))
        || error.chain().any(refused)
    {
        PERMISSION
    } else if error.is::<DirectoryError>() {
        CANNOT_CREATE
    } else {
        SOFTWARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_nobody_but_an_administrator_can_help_is_told_from_what_passes() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let create =
            |kind| DirectoryError::Create { path: PathBuf::from("/s"), variable: "S", source: io(kind) }.into();
        let key = |kind| PeersError::File { action: "read", path: PathBuf::from("/k"), source: io(kind) }.into();
        for (error, code, permanent) in [
            (create(io::ErrorKind::StorageFull), CANNOT_CREATE, false),
            (create(io::ErrorKind::PermissionDenied), PERMISSION, true),
            (DirectoryError::Open(PathBuf::from("/s")).into(), PERMISSION, true),
            (key(io::ErrorKind::PermissionDenied), PERMISSION, true),
            (key(io::ErrorKind::Interrupted), SOFTWARE, false),
            (PeersError::KeyMode { path: PathBuf::from("/k"), mode: 0o644 }.into(), PERMISSION, true),
            (ConfigError::Gone(PathBuf::from("/c")).into(), CONFIG, true),
        ] {
            let error: anyhow::Error = error;
            assert_eq!((code_of(&error), is_permanent(&error)), (code, permanent), "{error}");
        }
    }
}

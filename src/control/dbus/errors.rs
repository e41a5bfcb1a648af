//! Errors on their way over the bus and back: each kind has one name, so that both sides mean the same.

use crate::control::{ControlError, ErrorKind};
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

/// What the service's own errors begin with.
pub(super) const PREFIX: &str = "org.peernix.Peernix1.Error.";

/// The kinds for which D-Bus has names of its own.
const STANDARD: &[(ErrorKind, &str)] = &[
    (ErrorKind::AccessDenied, "org.freedesktop.DBus.Error.AccessDenied"),
    (ErrorKind::InvalidArgument, "org.freedesktop.DBus.Error.InvalidArgs"),
    (ErrorKind::LimitExceeded, "org.freedesktop.DBus.Error.LimitsExceeded"),
    (ErrorKind::NotSupported, "org.freedesktop.DBus.Error.NotSupported"),
    (ErrorKind::InteractiveAuthorizationRequired, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"),
];

/// What the bus says when nobody is there.
const ABSENT: &[&str] = &[
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
];

/// What is said then.
pub(super) const NOBODY: &str = "peernixd does not run (nobody has its name on the system bus)";

/// The name of a kind of error on the bus.
fn error_name(kind: ErrorKind) -> String {
    let standard = STANDARD.iter().find(|(standard, _)| *standard == kind);
    standard.map_or_else(|| format!("{PREFIX}{}", kind.name()), |(_, name)| (*name).to_owned())
}

/// Whether an error says that the other side is not there at all.
pub(super) fn is_absent(error: &zbus::Error) -> bool {
    name_of(error).is_some_and(|(name, _)| ABSENT.contains(&name.as_str()))
}

/// The name and the words of an error that came over the bus.
pub(super) fn name_of(error: &zbus::Error) -> Option<(String, String)> {
    match error {
        zbus::Error::MethodError(name, text, _) => Some((name.to_string(), text.clone().unwrap_or_default())),
        zbus::Error::FDO(error) => {
            let error: &dyn zbus::DBusError = error;
            Some((error.name().to_string(), error.description().unwrap_or_default().to_owned()))
        }
        _ => None,
    }
}

/// An error that came over the bus, in our own words.
pub(super) fn received(error: &zbus::Error) -> ControlError {
    let Some((name, text)) = name_of(error) else {
        // Whatever else goes wrong is between us and the bus.
        return ControlError::new(ErrorKind::NotRunning, format!("the system bus does not answer: {error}"));
    };
    let kind = name
        .strip_prefix(PREFIX)
        .and_then(ErrorKind::from_name)
        .or_else(|| STANDARD.iter().find(|(_, standard)| *standard == name).map(|(kind, _)| *kind));
    match kind {
        Some(kind) => ControlError::new(kind, text),
        None if ABSENT.contains(&name.as_str()) => ControlError::new(ErrorKind::NotRunning, NOBODY),
        None => ControlError::new(ErrorKind::Failed, format!("{text} ({name})")),
    }
}

/// An error on its way to a caller.
#[derive(Debug)]
pub(super) struct CallError(pub(super) ControlError);

impl CallError {
    pub(super) fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self(ControlError::new(kind, message))
    }
}

impl From<ControlError> for CallError {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        Self(ControlError::new(ErrorKind::Failed, error))
    }
}

impl zbus::DBusError for CallError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&(super::dict::text(&self.0.to_string()),))
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::try_from(error_name(self.0.kind))
            .unwrap_or(ErrorName::from_static_str_unchecked("org.freedesktop.DBus.Error.Failed"))
    }

    fn description(&self) -> Option<&str> {
        Some(if self.0.message.is_empty() { self.0.kind.help() } else { &self.0.message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::DBusError as _;

    #[test]
    fn every_kind_has_a_name_that_leads_back() {
        for kind in ErrorKind::ALL {
            let failure = CallError::new(*kind, "what");
            assert_eq!(failure.name().as_str(), error_name(*kind));
            let call = Message::method_call("/x", "M").sender(":1.1").build(&()).unwrap();
            let reply = failure.create_reply(&call.header()).unwrap();
            let back = received(&zbus::Error::from(reply));
            assert_eq!((back.kind, back.message.as_str()), (*kind, "what"));
        }
    }
}

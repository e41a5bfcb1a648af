//! Why something cannot be used as a login.

use thiserror::Error;

/// What cannot be used as a login. No message repeats any of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// It is not in the form in which it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// A file of logins that has none for the host.
    #[error("it has no entry `machine {0}` with a password")]
    NoEntry(String),
    /// The certificate and its key do not belong together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}")]
    Certificate(String),
}

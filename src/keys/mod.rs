//! The keys that sign what was built here, and the keys that may sign what enters; both change while the service runs.
//!
//! [`SigningKeys`] has this machine's own keys and their way through life: a key is *active* and signs; once it is
//! replaced it is in *grace* and signs beside its successor, so that machines that know only one of the two find a
//! signature that counts; then it is *retired*: its secret half is destroyed, its public half still tells what was built
//! here. A key that is *revoked* signs nothing and vouches for nothing any more. [`TrustList`] has everybody else's keys.
//!
//! Keys are told apart by their [`fingerprint()`]. Files are private, written whole or not at all, and one that is damaged
//! is reported and left as it is.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod fingerprint;
mod limits;
mod ring;
mod signing;
mod stored;
mod trust;
mod trust_file;
mod view;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

pub use error::KeysError;
pub use fingerprint::{FINGERPRINT_LEN, fingerprint};
pub use limits::{COMMENT_MAX, GRACE_MAX, NAME_MAX};
pub use signing::{KeySource, Rotated, Signing, SigningKeys, SigningOptions};
pub use trust::TrustList;
pub use view::{KeyState, KeyView, Managed, Origin, TrustedView};

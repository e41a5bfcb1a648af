//! One pin, and what it may be.

use crate::nix::StorePath;
use crate::store::StoreError;
use std::time::SystemTime;

/// How many pins there may be.
pub const PINS_MAX: usize = 4096;
/// How long a reason may be, in characters.
pub const PIN_REASON_MAX: usize = 256;

/// A path that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which.
    pub path: StorePath,
    /// Why, for people. May be empty.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
    /// Until when; for ever if unset.
    pub until: Option<SystemTime>,
    /// On how many machines it shall be, this one included; if unset as the configuration says.
    pub copies: Option<u32>,
}

/// On how many machines a path may be wanted.
pub const PIN_COPIES_MAX: u32 = 64;

/// Refuses a reason that is too long, or that would be more than one line.
pub(super) fn check_reason(reason: &str) -> Result<(), StoreError> {
    if reason.chars().count() > PIN_REASON_MAX {
        return Err(StoreError::Argument(format!("a reason may have at most {PIN_REASON_MAX} characters")));
    }
    if reason.chars().any(char::is_control) {
        return Err(StoreError::Argument(
            "a reason may not contain line breaks or other control characters".to_owned(),
        ));
    }
    Ok(())
}

//! How long what is said of keys may be, and a grace.

use std::time::Duration;

/// The longest time that a replaced key may go on signing.
pub const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest name of a key of our own, in bytes: a host's name has up to 64, and there is room for a number.
pub const NAME_MAX: usize = 200;
/// The longest comment or reason, in bytes.
pub const COMMENT_MAX: usize = 256;

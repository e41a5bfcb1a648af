//! What can be wrong with a NAR.

use super::{DEPTH_MAX, NAME_MAX, TARGET_MAX};
use thiserror::Error;

/// Where and why a stream of bytes is no NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a NAR: at byte {offset}, {reason}")]
pub struct NarError {
    /// Where, in bytes from the start: the string that should not be there, or the very byte.
    pub offset: u64,
    /// Why.
    pub reason: NarReason,
}

/// Why a stream of bytes is no NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NarReason {
    /// Another keyword than may stand there.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A name that is empty, `.` or `..`, too long, or holds a slash or NUL.
    #[error("a directory entry has an impossible name (1 to {NAME_MAX} bytes without '/' and NUL, not '.' or '..')")]
    Name,
    /// A name that is not greater than the one before it.
    #[error("the entries of a directory are not in strictly ascending order")]
    Order,
    /// A target that is empty, too long, or holds NUL.
    #[error("a symbolic link has an impossible target (1 to {TARGET_MAX} bytes without NUL)")]
    Target,
    /// Too many levels.
    #[error("it is nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// Padding with something in it.
    #[error("padding is not zero")]
    Padding,
    /// More bytes than the caller allowed, or contents that announce as much.
    #[error("it is larger than the {0} bytes allowed")]
    TooLarge(u64),
    /// Something after the end.
    #[error("bytes follow its end")]
    Trailing,
    /// The end came too early.
    #[error("it is cut off")]
    Truncated,
    /// [`Reader::skip`](super::Reader::skip) went beyond contents.
    #[error("only contents can be passed over")]
    Skip,
}

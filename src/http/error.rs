//! What can end an answer after its head has been sent.

use thiserror::Error;

/// Why a body could not be sent to its end. The connection is cut then: a short answer must never look like a whole one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Where the bytes came from failed.
    #[error("the source of the answer failed: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// [`super::Body::announced`] was given to something other than the answer to a HEAD.
    #[error("{0} bytes were announced in an answer that has none")]
    Announced(u64),
    /// The administrator blocked the one who reads it.
    #[error("the reader is blocked by now")]
    Blocked,
}

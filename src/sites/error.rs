//! What can go wrong between sites.

use crate::index::IndexError;
use crate::peers::fleet::Refusal;
use crate::peers::narinfo_batch::BatchError;

/// Something is wrong with what came over NATS, or with NATS itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// A message that does not have the form of one.
    #[error("a message that is none: {0}")]
    Malformed(&'static str),
    /// A message whose signature is not that of who it says it is from, or that was written for another place.
    #[error("a message that is not signed by who it says it is from")]
    Signature,
    /// Its sender may not take part.
    #[error("a message of a machine that is not let in")]
    NotAdmitted,
    /// Its sender is no member of the fleet.
    #[error("a message of a machine that is not let in: {0}")]
    NoMember(Refusal),
    /// What a site says that it has makes no sense.
    #[error("the index of a site: {0}")]
    Index(#[from] IndexError),
    /// An answer that does not have the form of one.
    #[error("an answer that is none: {0}")]
    Batch(#[from] BatchError),
    /// Nobody speaks for the site at the moment.
    #[error("nobody speaks for the site")]
    Offline,
    /// The site did not answer in time.
    #[error("the site did not answer in time")]
    Silent,
    /// It does not send the NAR over NATS, or not any more.
    #[error("the site does not relay it")]
    NotRelayed,
    /// NATS said no, or could not be reached.
    #[error("NATS: {0}")]
    Nats(String),
}

impl SiteError {
    pub(super) fn nats(error: &dyn std::fmt::Display) -> Self {
        Self::Nats(error.to_string())
    }
}

//! What can be wrong with an index that a peer sends.

/// Why an answer of a peer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// It has more entries than are taken.
    #[error("{0} entries, of which {1} are taken at most")]
    TooMany(usize, usize),
    /// An entry beyond 48 bits.
    #[error("an entry of more than 48 bits")]
    Range,
    /// What should be zero is not, or there is something after the end.
    #[error("something that does not belong there, after the end")]
    Padding,
    /// A kind of answer that is not known.
    #[error("an answer of a kind that is not known: {0}")]
    Kind(u8),
    /// A delta to another state than that which was asked for.
    #[error("changes to another state than was named")]
    State,
    /// Longer than is read.
    #[error("more than {0} bytes")]
    TooLong(usize),
    /// It could not be had.
    #[error("{0}")]
    Link(String),
}

//! Why a source could not be used, and why a transfer ended without its NAR.

use crate::nix::FormatError;
use crate::peers::Failure;
use crate::peers::narinfo_batch::BatchError;
use std::time::Duration;
use thiserror::Error;

/// Why one source could not give what it was asked for. Says nothing about other sources.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It could not even be asked, for a reason on our side.
    #[error("{0}")]
    Unavailable(String),
    /// It sent damaged content of this path before.
    #[error("its copy of the path is damaged")]
    Barred,
    /// The connection could not be made or broke.
    #[error("{0}")]
    Connection(String),
    /// Nothing, or next to nothing, came for too long.
    #[error("sent next to nothing for {}", humantime::format_duration(*.0))]
    Stalled(Duration),
    /// It has too much to do at the moment, and says so: ask another, or again in a moment.
    #[error("is busy")]
    Busy,
    /// The answer had a status that the request does not allow.
    #[error("answered with status {0}")]
    Status(u16),
    /// The body ended before its time.
    #[error("ended after {0} of {1} bytes")]
    Truncated(u64, u64),
    /// What was to be continued is another file by now.
    #[error("the file changed")]
    Changed,
    /// A redirection that is not followed.
    #[error("redirects to {0}, which is not followed")]
    Redirect(String),
    /// An encoding that nobody asked for, and that nobody here can undo.
    #[error("sent the content encoding '{0}', which is not known here")]
    Encoding(String),
    /// A compressed NAR that does not decode, or not within the limits.
    #[error("its NAR does not decode: {0}")]
    Decode(#[source] std::io::Error),
    /// A document larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// What it said is provably wrong: nobody honest sends this.
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl SourceError {
    /// The same for somebody else who waited for the same answer.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unavailable(reason) => Self::Unavailable(reason.clone()),
            Self::Stalled(time) => Self::Stalled(*time),
            Self::Busy => Self::Busy,
            Self::Barred => Self::Barred,
            Self::Status(status) => Self::Status(*status),
            Self::TooLarge(limit) => Self::TooLarge(*limit),
            Self::Violation(violation) => Self::Violation(violation.clone()),
            other => Self::Connection(other.to_string()),
        }
    }

    /// What the peer table calls it.
    /// `None` where it is not the peer's fault: that it could not be asked, or that a path is gone by now.
    pub(crate) const fn as_failure(&self) -> Option<Failure> {
        Some(match self {
            Self::Unavailable(_) | Self::Busy | Self::Barred | Self::Status(404) => return None,
            Self::Connection(_) | Self::Redirect(_) | Self::Changed => Failure::Link,
            Self::Stalled(_) => Failure::Stalled,
            Self::Truncated(..) => Failure::Broken,
            Self::Status(status) => Failure::Status(*status),
            Self::Encoding(_) | Self::Decode(_) | Self::TooLarge(_) | Self::Violation(_) => Failure::Malformed,
        })
    }

    /// Whether the same question would bring the same again: there is no use in asking twice. A server that fails, or has too many
    /// requests (5xx, 408, 429), may be better in a moment, as may a connection.
    pub(crate) const fn is_final(&self) -> bool {
        match self {
            Self::Status(status) => !matches!(*status, 408 | 429 | 500..),
            Self::Barred | Self::Redirect(_) | Self::Encoding(_) => true,
            Self::Decode(_) | Self::TooLarge(_) | Self::Violation(_) => true,
            Self::Unavailable(_) | Self::Connection(_) | Self::Stalled(_) | Self::Busy => false,
            Self::Truncated(..) | Self::Changed => false,
        }
    }
}

/// A kind of trouble with a source: two of one kind are worth one line in the log. Nothing that a source may choose at will is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It cannot be reached.
    Unreachable,
    /// It is silent, or stops in the middle.
    Silent,
    /// It answers with this status.
    Status(u16),
    /// It redirects to where nobody goes.
    Redirect,
    /// What it sends is not what it should be.
    Malformed,
    /// No signature that counts.
    Signature,
    /// A compression that is not known here.
    Compression,
    /// A name that the administrator does not want from it.
    Name,
}

impl SourceError {
    /// Which kind of trouble it is.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Unavailable(_) | Self::Busy | Self::Barred | Self::Connection(_) => Kind::Unreachable,
            Self::Stalled(_) | Self::Truncated(..) => Kind::Silent,
            Self::Status(status) => Kind::Status(*status),
            Self::Redirect(_) => Kind::Redirect,
            Self::Violation(Violation::Unsigned | Violation::Forged(_)) => Kind::Signature,
            Self::Changed | Self::Encoding(_) | Self::Decode(_) | Self::TooLarge(_) | Self::Violation(_) => {
                Kind::Malformed
            }
        }
    }
}

/// How long a peer is banned that sent wrong content, or what the protocol leaves no room for.
const BAN: Duration = Duration::from_secs(24 * 60 * 60);
/// Of how many paths a peer may send damaged content within a day before it is banned: a disk that goes bad damages some.
pub(crate) const DAMAGED_PATHS_MAX: usize = 2;
/// How long a peer is banned for a signature that is missing or of which it lied: it may have been misled itself.
const BAN_FOR_SIGNATURE: Duration = Duration::from_secs(10 * 60);

/// A statement that no honest, healthy source makes. Peers are banned for it, for damaged content only when it is of several
/// paths.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Not a narinfo.
    #[error("sent a malformed narinfo: {0}")]
    Narinfo(#[from] FormatError),
    /// No answer to a question for several narinfos.
    #[error("sent malformed narinfos: {0}")]
    Batch(#[from] BatchError),
    /// The narinfo of another path.
    #[error("sent the narinfo of another path ({0})")]
    OtherPath(String),
    /// A narinfo without a signature by any of the keys that the request named as trusted.
    #[error("sent a narinfo without a signature by a key that we trust")]
    Unsigned,
    /// Said that it verified a signature by a trusted key, and there is none.
    #[error("sent a narinfo as signed by our key '{0}', whose signature does not verify")]
    Forged(String),
    /// A NAR URL that is not the one the protocol fixes.
    #[error("sent a narinfo whose URL points elsewhere ({0})")]
    Url(String),
    /// A NAR of another length than was signed.
    #[error("sent a NAR of {0} bytes where {1} are signed")]
    Size(u64, u64),
    /// An answer to a range request that starts elsewhere.
    #[error("answered a range request with another range")]
    Range,
    /// A part of a NAR that is not what the right content has there.
    #[error("sent wrong content in bytes {0} to {1} of a NAR")]
    Segment(u64, u64),
    /// A table of the pieces of a NAR that is not the one of the right content.
    #[error("told a wrong table of the pieces of a NAR")]
    Table,
    /// A NAR whose SHA-256 is not the signed one.
    #[error("sent a NAR with hash {0}, which is not the signed one")]
    NarHash(String),
}

/// What kind of thing a [`Violation`] is, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViolationKind {
    /// Nothing that could be read.
    Malformed,
    /// A signature that is missing or wrong.
    Signature,
    /// Something else than was asked for.
    Protocol,
    /// Content that is not what was signed.
    Content,
}

impl Violation {
    /// What kind of thing it is.
    pub(crate) const fn kind(&self) -> ViolationKind {
        match self {
            Self::Narinfo(_) | Self::Batch(_) => ViolationKind::Malformed,
            Self::Unsigned | Self::Forged(_) => ViolationKind::Signature,
            Self::OtherPath(_) | Self::Url(_) | Self::Range => ViolationKind::Protocol,
            Self::Size(..) | Self::Segment(..) | Self::Table | Self::NarHash(_) => ViolationKind::Content,
        }
    }

    /// Whether a damaged file on an honest machine looks like this as well.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(self, Self::Size(..) | Self::Segment(..) | Self::NarHash(_))
    }

    /// How long a peer is banned for it.
    pub(crate) const fn ban(&self) -> Duration {
        match self {
            Self::Unsigned | Self::Forged(_) => BAN_FOR_SIGNATURE,
            _ => BAN,
        }
    }
}

/// Why a transfer ended without giving the whole NAR.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferError {
    /// Every source was tried and failed; the text tells the last failure.
    #[error("no source is left: {0}")]
    NoSource(String),
    /// The content was wrong and the sources that sent it cannot be told apart, or bytes of it were already read.
    #[error("the content does not match its signature: {0}")]
    Corrupt(String),
    /// A reader was so slow that it held up the others.
    #[error("the reader fell too far behind the others")]
    Lagging,
    /// Nobody wanted it any more, or the daemon stops.
    #[error("the transfer was given up")]
    Abandoned,
}

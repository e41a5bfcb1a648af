//! What the scheduler of a transfer hears and says.

use crate::fetch::claims::directory::Loss;
use crate::fetch::error::{SourceError, TransferError};
use crate::nix::NarHash;
use std::ops::Range;
use std::time::Duration;

/// A source by its place among all that the transfer has heard of.
pub(crate) type Key = usize;

/// A part of the NAR and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from: Key,
    pub(crate) range: Range<u64>,
}

/// A source that has the NAR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// It can begin in the middle.
    pub(crate) begins_anywhere: bool,
    /// How often it had a part in wrong content of this NAR of which nobody knows who sent it.
    pub(crate) suspicion: u32,
    /// It said that it has this path before, and did not give it.
    pub(crate) broke_promise: bool,
    /// It is on the Internet: who downloads from there is agreed on with the other machines.
    pub(crate) is_far: bool,
    /// It is fetching the NAR itself, and vouches for nothing before its end.
    pub(crate) is_partial: bool,
    /// It is asked once: where it fails, others go on.
    pub(crate) is_once: bool,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// More sources have it: each only once, with the keys that follow on those before.
    Found(Vec<Candidate>),
    /// Everybody was asked again, and those have answered who do so at once; whom that brought was told before.
    Searched,
    /// Nobody is left who was asked again and could still answer.
    HeardAll,
    /// This machine may download the NAR: for all, or for itself.
    MayDownload,
    /// The NAR is to be streamed from this source, which fetches it itself. What it failed before is over.
    Follow(Key),
    /// Other machines were followed for as long as that may take: what is missing is downloaded.
    FollowedLongEnough,
    /// The source that was asked sent so many bytes, which were taken in. Never more than are missing.
    Received(u64),
    /// The source that was asked failed, or stalled.
    Failed(SourceError),
    /// The source that was asked has too much to do at the moment.
    Busy,
    /// The pause is over.
    Tick,
    /// All bytes are there, and this is their hash.
    PieceDone(NarHash),
    /// These parts of what was set aside are not what the right content has there.
    Compared(Vec<Part>),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Have this source send from byte `from` on.
    Request {
        /// The source.
        key: Key,
        /// The first byte.
        from: u64,
    },
    /// Tell of a [`Event::Tick`] after so long, unless something else is to be done before.
    Pause(Duration),
    /// The same, and it is because all who have it are busy.
    Wait(Duration),
    /// Ask everybody who has it.
    Search,
    /// Only those on the Internet are left: ask what the other machines do.
    Claim,
    /// This one, which fetches the NAR itself, is of no use any more.
    Lost(Key, Loss),
    /// Throw away what came, or set it aside for [`Action::Compare`].
    StartOver {
        /// Whether it is set aside.
        set_aside: bool,
    },
    /// All bytes are there: say what their hash is.
    Verify,
    /// Say which of these parts of what was set aside are wrong.
    Compare(Vec<Part>),
    /// This one is responsible for that.
    Blame(Key, SourceError),
    /// These had a part in wrong content, and nobody knows whose was wrong.
    Suspect(Vec<Key>),
    /// It is over. Where no source is left, the last failure says more.
    Finish(Result<(), TransferError>),
}

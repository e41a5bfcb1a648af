//! The plain types of [`Control`](super::Control): what is asked for, and what comes back.
//!
//! Their JSON form is what Varlink carries and what `peernixctl --json` prints: names in camelCase, times in microseconds
//! since 1970 (`…Timestamp`) or as durations in microseconds (`…USec`), sizes in bytes, words in lower case. What is not
//! known is left out.

mod events;
mod findings;
mod fleet;
mod keys;
mod peers;
mod service;
mod store;
mod time;
mod words;

pub use crate::metrics::Day;
pub use events::{Event, EventFilter, EventItem, EventKind};
pub use findings::Finding;
pub use fleet::{Enrolment, FleetStatus, Invitation, Member, Revoked};
pub use keys::{Key, KeyState, Managed, Rotation, TrustOrigin, TrustedKey};
pub use peers::{Blocked, Measurement, Peer, PeerFilter};
pub use service::{
    ClaimCounts, Face, IndexCounts, Listen, LogLevel, Lookups, OtherSite, OwnSite, PieceCounts, Reload, Resources,
    ServiceState, SourceBytes, Statistics, Status, TransferCounts,
};
pub use store::{
    CopyHolder, GarbageOptions, Job, JobKind, JobPath, JobState, PathReport, PathSource, PathTransfer, Pin, PinRequest,
    Sharing, SourceKind, Transfer,
};
pub use time::{microseconds, per_second, timestamp};

//! What a garbage collection is asked, and what it answers.

use crate::nix::StorePath;
use std::time::Duration;

/// How many paths a caller may protect at once.
pub const PROTECTED_MAX: usize = 1 << 16;

/// What to collect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbageOptions {
    /// Only name it.
    pub dry_run: bool,
    /// Stop after so many bytes. A dry run counts the sizes of NARs; a run goes on when those freed less on the disk.
    pub max_freed: Option<u64>,
    /// Only what came into the store longer ago than this, and nothing that something younger refers to.
    pub older_than: Option<Duration>,
    /// What stays with its closure although nothing else keeps it, for as long as this collection goes on: what was
    /// promised to somebody lately. At most [`PROTECTED_MAX`].
    pub protected: Vec<StorePath>,
}

/// A path that would go, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GarbagePath {
    /// Which.
    pub path: StorePath,
    /// The size of its NAR in bytes; unknown for the remains of something interrupted.
    pub size: Option<u64>,
}

/// What happens while garbage is collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GarbageProgress {
    /// It is known what will go, at least: what dies meanwhile may go too, and what comes alive stays.
    Planned {
        /// How many paths.
        paths: u64,
        /// The sum of their NARs' sizes.
        bytes: u64,
    },
    /// This path is being deleted.
    Deleted(GarbagePath),
}

/// What a collection came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// What would go, or is gone.
    pub paths: Vec<GarbagePath>,
    /// Of a dry run: the sum of the NARs' sizes. Else the bytes that Nix says it freed on the disk; where a request was
    /// ended before its answer, the sizes of the NARs stand in.
    pub bytes: u64,
    /// Whether it was ended before its time. The last path may be left behind half deleted, no longer valid, as remains
    /// that the next collection clears away.
    pub cancelled: bool,
}

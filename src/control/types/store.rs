//! Paths, pins, and the jobs that take their time.

use super::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// What kind of source something comes from.
    SourceKind {
        /// Another machine with Peernix.
        Peer = "peer",
        /// A binary cache on the Internet.
        Upstream = "upstream",
    }
}

/// What is known about a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathReport {
    /// The full store path; of one that nobody has, the path that was asked for.
    pub path: String,
    /// Whether it is valid in this machine's store.
    pub valid: bool,
    /// The hash of its NAR.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nar_hash: Option<String>,
    /// The size of its NAR.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nar_size: Option<u64>,
    /// The full store paths that it refers to.
    pub references: Vec<String>,
    /// The names of the keys that signed it here.
    pub signed_by: Vec<String>,
    /// Whether it was built here.
    pub built_here: bool,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether it would be served, for each audience.
    pub sharing: Vec<Sharing>,
    /// Who has it, as asked just now: those whose word was verified, the fastest first.
    pub sources: Vec<PathSource>,
    /// How many peers were asked, or are known not to have it.
    #[serde(default)]
    pub peers_asked: u32,
    /// How many upstreams and other sites were asked.
    #[serde(default)]
    pub upstreams_asked: u32,
    /// On how many machines it is wanted, this one included; left out when nobody asked for copies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copies: Option<u32>,
    /// Who else holds it, or was asked to.
    #[serde(default)]
    pub holders: Vec<CopyHolder>,
    /// The ids of the members for whom it is held here.
    #[serde(default)]
    pub held_for: Vec<String>,
    /// How it is being fetched now; left out if it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fetching: Option<Transfer>,
    /// The last time that it was fetched by this service, if it remembers; left out if not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transfer: Option<PathTransfer>,
}

/// How a path was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathTransfer {
    /// When that ended.
    pub timestamp: u64,
    /// How long it took.
    #[serde(rename = "durationUSec")]
    pub duration_usec: u64,
    /// How many bytes of the NAR came.
    pub bytes: u64,
    /// Who gave something, in the order of their first part.
    pub from: Vec<String>,
    /// Why it did not come; left out if it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// A transfer under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Its number, which no other transfer of this run has.
    pub id: u64,
    /// The full store path that is fetched.
    pub path: String,
    /// How many bytes its NAR has.
    pub size: u64,
    /// How many of them are there.
    pub bytes: u64,
    /// Who gave something, in the order of their first part: names or ids of peers, and hosts of upstreams.
    pub from: Vec<String>,
    /// When it began.
    pub start_timestamp: u64,
    /// Whether it waits or waited, because all who have the path were busy.
    pub waiting: bool,
}

/// A member that holds a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyHolder {
    /// Its id.
    pub id: String,
    /// Its name for itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// `asked`, `coming` (it fetches it) or `held`.
    pub state: String,
    /// When it was last there.
    pub seen_timestamp: u64,
}

/// Whether somebody would be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sharing {
    /// `anyone` or `enrolled`.
    pub audience: String,
    /// Whether it would be served.
    pub served: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// Somebody who has a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathSource {
    /// What it is.
    pub kind: SourceKind,
    /// The id of the peer, or the address of the upstream.
    pub source: String,
    /// The peer's name for itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// How long it takes to answer.
    #[serde(rename = "latencyUSec", skip_serializing_if = "Option::is_none", default)]
    pub latency_usec: Option<u64>,
    /// How it has the NAR: `none`, `xz`, `zstd` …
    pub compression: String,
    /// The size of that file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file_size: Option<u64>,
}

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinRequest {
    /// Which path.
    pub path: String,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Until when; left out for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_timestamp: Option<u64>,
    /// On how many machines it shall be, this one included; left out as the configuration says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copies: Option<u32>,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The full store path.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since_timestamp: u64,
    /// Until when; left out for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_timestamp: Option<u64>,
    /// On how many machines it shall be, this one included; left out as the configuration says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copies: Option<u32>,
}

/// What to collect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageOptions {
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Stop after so many bytes were freed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_freed: Option<u64>,
    /// Only paths that came into the store longer ago than this.
    #[serde(rename = "olderThanUSec", skip_serializing_if = "Option::is_none", default)]
    pub older_than_usec: Option<u64>,
}

words! {
    /// What a job is about.
    JobKind {
        /// [`Control::collect_garbage`](crate::control::Control::collect_garbage).
        GarbageCollection = "garbage-collection",
        /// [`Control::prefetch`](crate::control::Control::prefetch).
        Prefetch = "prefetch",
    }
}

words! {
    /// Where a job stands.
    JobState {
        /// It goes on.
        Running = "running",
        /// It ended well.
        Done = "done",
        /// It ended, and not everything worked.
        Failed = "failed",
        /// Somebody ended it before its time.
        Cancelled = "cancelled",
    }
}

/// Something that takes its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its number; never used again while the service runs.
    pub id: u64,
    /// What it is about.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// Whether it only says what it would do.
    pub dry_run: bool,
    /// How much of it is done, 0 to 1.
    pub progress: f64,
    /// What it is doing, or came to, in words.
    pub message: String,
    /// The paths that it dealt with so far.
    pub paths: u64,
    /// The bytes that it freed or fetched so far.
    pub bytes: u64,
    /// When it began.
    pub start_timestamp: u64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_timestamp: Option<u64>,
}

/// A path that a job dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobPath {
    /// The full store path.
    pub path: String,
    /// The size of its NAR.
    pub size: u64,
    /// What became of it: `dead` (would go), `deleted`, `present`, `fetched`, `failed`.
    pub result: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

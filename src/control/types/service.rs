//! The service as a whole.

use super::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// What the service is doing.
    ServiceState {
        /// Not everything is there yet.
        Starting = "starting",
        /// All is well.
        Running = "running",
        /// It runs, and something that it needs is missing; [`Status::problems`] says what.
        Degraded = "degraded",
        /// It takes no new work.
        Draining = "draining",
        /// It reads its configuration.
        Reloading = "reloading",
        /// It is about to end.
        Stopping = "stopping",
    }
}

words! {
    /// The least important messages that are logged.
    LogLevel {
        /// What somebody has to do something about.
        Error = "error",
        /// What may become that.
        Warning = "warning",
        /// What an administrator wants to know.
        Info = "info",
        /// Every request.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its version.
    pub version: String,
    /// What this build can do, in words.
    pub features: Vec<String>,
    /// The identity of this machine.
    pub node_id: String,
    /// The name of this machine.
    pub host_name: String,
    /// The store directory.
    pub store_dir: String,
    /// What it is doing.
    pub state: ServiceState,
    /// What is missing, one sentence each.
    pub problems: Vec<String>,
    /// What each of them is called, in the same order: see [`super::Finding`].
    #[serde(default)]
    pub problem_codes: Vec<String>,
    /// Whether nobody is asked for anything.
    #[serde(default)]
    pub offline: bool,
    /// When it started.
    pub start_timestamp: u64,
    /// Where it listens.
    pub listen: Listen,
    /// The peers that are known.
    pub peers_known: u32,
    /// The peers that can be asked.
    pub peers_online: u32,
    /// Transfers under way.
    pub transfers: u32,
    /// Jobs that run.
    pub jobs_running: u32,
    /// What is shared: `off`, `signed` or `signed+own`.
    pub share_policy: String,
    /// Why nothing is sent to other machines at the moment; left out when it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uploads_paused: Option<String>,
    /// The site that this machine is of, and the others; left out when it is of none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<OwnSite>,
    /// The fingerprint of the key that signs what is built here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_key: Option<String>,
    /// The configuration file in force; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub configuration: Option<String>,
    /// The last time that the configuration was read again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_reload: Option<Reload>,
    /// What is logged.
    pub log_level: LogLevel,
    /// How far the service has locked itself in, in words.
    pub sandbox: String,
}

/// The site that a machine is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnSite {
    /// Its name.
    pub name: String,
    /// Whether this machine speaks for it.
    pub gateway: bool,
    /// What is wrong with the connection to NATS; left out when nothing is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// The other sites that are known.
    pub others: Vec<OtherSite>,
}

/// Another site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherSite {
    /// Its name.
    pub name: String,
    /// The machine that speaks for it.
    pub gateway: String,
    /// What that machine is called.
    pub gateway_name: String,
    /// `online`, `offline`, or `ignored`: it did not have what it said.
    pub state: String,
    /// How many machines it has.
    pub machines: u64,
    /// How many paths it has.
    pub paths: u64,
    /// How often it did not have what it said.
    pub wrong_claims: u64,
    /// How long ago it was last heard of.
    #[serde(rename = "ageUSec")]
    pub age_usec: u64,
    /// How long it takes to answer; left out before it was asked.
    #[serde(rename = "latencyUSec", skip_serializing_if = "Option::is_none", default)]
    pub latency_usec: Option<u64>,
}

/// Where the service listens; what is left out is off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listen {
    /// The gateway, for the Nix of this machine: its URL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<String>,
    /// The share, for peers: address and port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub share: Option<String>,
    /// The plain share, for any Nix: its URL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plain: Option<String>,
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// When.
    pub timestamp: u64,
    /// Whether the new configuration is in force.
    pub success: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// The sections with changes that need a restart.
    pub restart_needed: Vec<String>,
}

/// What the service did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Since when this is counted.
    pub since_timestamp: u64,
    /// What each face did.
    pub faces: Vec<Face>,
    /// What lookups came to.
    pub lookups: Lookups,
    /// The share of lookups that a peer could answer among those that anybody could, 0 to 1; left out before the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hit_rate: Option<f64>,
    /// Transfers of NARs.
    pub transfers: TransferCounts,
    /// What peers tell of what they have; an older service says nothing of it.
    #[serde(default)]
    pub index: IndexCounts,
    /// NARs that no peer had; an older service says nothing of it.
    #[serde(default)]
    pub claims: ClaimCounts,
    /// Pieces of NARs that came from several peers at once; an older service says nothing of it.
    #[serde(default)]
    pub pieces: PieceCounts,
    /// Bytes that came from peers, which is what the Internet was spared.
    pub bytes_from_peers: u64,
    /// Bytes of NARs that those were, which are more where they came compressed; an older service says nothing of it.
    #[serde(default)]
    pub nar_bytes_from_peers: u64,
    /// Bytes that came from the Internet.
    pub bytes_from_upstreams: u64,
    /// Where bytes came from, the most first; not more than some hundred.
    pub sources: Vec<SourceBytes>,
    /// NARs whose content was not what was signed.
    pub verification_failures: u64,
    /// Bans pronounced on peers that lied.
    pub peers_banned: u64,
    /// What the service takes of the machine now; an older one says nothing of it.
    #[serde(default)]
    pub resources: Resources,
}

/// What the service takes of the machine now; what is left out is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
    /// What is free on the disk of the store, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk_free_bytes: Option<u64>,
    /// How large that disk is, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk_bytes: Option<u64>,
}

/// What one face did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Face {
    /// `gateway` or `share`.
    pub name: String,
    /// Requests answered.
    pub requests: u64,
    /// Bytes of answers given to the network.
    pub bytes_served: u64,
    /// Connections open now.
    pub connections: u64,
}

/// What lookups came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookups {
    /// A peer had it.
    pub peer: u64,
    /// An upstream had it.
    pub upstream: u64,
    /// Nobody had it.
    pub absent: u64,
    /// Somebody did not answer in time.
    pub unknown: u64,
    /// It was remembered.
    pub remembered: u64,
}

/// Transfers of NARs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferCounts {
    /// Begun.
    pub started: u64,
    /// Ended with the whole NAR.
    pub completed: u64,
    /// Ended without.
    pub failed: u64,
    /// Requests that joined one under way.
    pub joined: u64,
    /// Went on from another source.
    pub failed_over: u64,
}

/// What peers tell of what they have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexCounts {
    /// Peers whose index is known now.
    pub peers: u64,
    /// Entries in them now, all together.
    pub entries: u64,
    /// Paths that peers are told of this machine now.
    pub offered: u64,
    /// When a peer last told anything; left out before the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub updated_timestamp: Option<u64>,
    /// How often peers told what they have, or what changed.
    pub updates: u64,
    /// Requests to peers that were not made, because they do not have the path.
    pub saved_requests: u64,
    /// Times a peer did not have what its index says.
    pub wrong_claims: u64,
}

/// NARs that no peer had, by what became of them; and what the machines downloaded that this one is the directory of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimCounts {
    /// This machine downloaded them for all.
    pub granted: u64,
    /// The same, after the one was lost that did.
    pub taken_over: u64,
    /// They were streamed from a machine that fetched them.
    pub followed: u64,
    /// Nobody could say anything.
    pub alone: u64,
    /// Bytes of NARs that machines downloaded, as they say, of those that this machine is the directory of.
    pub site_downloaded_bytes: u64,
    /// The same, each NAR once.
    pub site_unique_bytes: u64,
}

/// Pieces of NARs that came from several peers at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PieceCounts {
    /// Proved and used.
    pub right: u64,
    /// Sent by two.
    pub twice: u64,
    /// Not what was signed.
    pub wrong: u64,
}

/// Bytes from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceBytes {
    /// `peer` or `upstream`.
    pub kind: super::store::SourceKind,
    /// The id of the peer, or the address of the upstream.
    pub source: String,
    /// The peer's name for itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Bytes of NARs.
    pub bytes: u64,
}

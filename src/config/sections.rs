//! The configuration and its sections: one struct each, every key with its meaning and its default.
//!
//! `docs/config.example.toml` says the same to administrators; a test keeps the two in step.

use super::nats::Nats;
use super::upstream::{Upstream, UpstreamUrl};
use super::value::{self, Addresses, Proxy, TimeOfDay};
use crate::nix::{PublicKey, StoreDir};
use crate::peers::fleet::FleetId;
use crate::peers::{FixedPeer, NodeId};
use log::LevelFilter;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Where the gateway listens.
pub const GATEWAY_LISTEN: &str = "127.0.0.1:7649";
/// The priority that the gateway's `nix-cache-info` names; cache.nixos.org has 40, lower is asked first.
pub const GATEWAY_PRIORITY: i32 = 10;
/// The binary cache on the Internet.
pub const UPSTREAM: &str = "https://cache.nixos.org";
/// How long a lookup may take, in milliseconds.
pub const BUDGET_MS: u64 = 300;
/// Where the share listens for peers.
pub const SHARE_LISTEN: &str = "[::]:7650";
/// The key of cache.nixos.org, as every Nix has it built in.
pub const CACHE_NIXOS_ORG_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// How many connections the share holds at once.
pub const SHARE_MAX_CONNECTIONS: usize = 1024;
/// Nix's state directory.
pub const NIX_STATE_DIR: &str = "/nix/var/nix";
/// The root of the file system that holds the store.
pub const STORE_ROOT: &str = "/";
/// How long the head of a request may take.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection or a transfer may make no progress.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many connections one address may hold at once.
pub const PER_ADDRESS: usize = 128;
/// How much memory NARs may take that are verified whole, in bytes.
pub const MEMORY: u64 = 64 * 1024 * 1024;
/// How much NARs may take that are kept for others while they are fetched, in bytes.
pub const CACHE_SIZE: u64 = 4 * 1024 * 1024 * 1024;
/// From how many machines one NAR comes at once, at most…
pub const MAX_SOURCES: u32 = 4;
/// … and how many that can be.
pub const MAX_SOURCES_MOST: u32 = 16;
/// How long they are kept.
pub const CACHE_KEEP: Duration = Duration::from_secs(15 * 60);
/// How long a signing key that was replaced still signs.
pub const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much of its battery a machine keeps for itself, in percent.
pub const BATTERY_MIN: u8 = 20;
/// What is logged.
pub const LOG_LEVEL: LevelFilter = LevelFilter::Info;

/// A whole configuration. [`Config::default`] is what an empty file means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The face towards Nix.
    pub gateway: Gateway,
    /// The face towards other machines.
    pub share: Share,
    /// This machine's store.
    pub store: Store,
    /// What may enter.
    pub trust: Trust,
    /// What is signed with.
    pub keys: Keys,
    /// How others are found.
    pub discovery: Discovery,
    /// Who is admitted.
    pub fleet: Fleet,
    /// What machines do together.
    pub swarm: Swarm,
    /// The sites that this machine's is joined with.
    pub nats: Nats,
    /// What several machines hold.
    pub replicate: Replicate,
    /// What is kept for others while it is fetched.
    pub cache: Cache,
    /// What one client may take.
    pub limits: Limits,
    /// What is logged.
    pub log: Log,
    /// The file it was read from; `None` when there was no file.
    #[serde(skip)]
    pub origin: Option<PathBuf>,
    /// Whose that file was, as a user id.
    #[serde(skip)]
    pub owner: Option<u32>,
}

/// `[gateway]`: the face towards this machine's Nix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Addresses of the binary cache for the local Nix. Loopback only: whoever reaches it can make this machine download.
    pub listen: Addresses,
    /// The `Priority` of its `nix-cache-info`; Nix asks lower numbers first.
    pub priority: i32,
    /// The binary caches to ask when no peer has a path, best first.
    pub upstreams: Vec<Upstream>,
    /// How long a lookup waits for peers, in milliseconds. An upstream that works is waited for longer while nobody has said yes,
    /// and so is a peer that is said to have it.
    pub budget_ms: u64,
    /// Whether the small NARs of a closure are fetched before Nix asks for them, once it has asked for the first.
    pub read_ahead: bool,
    /// How much of a NAR is verified before Nix sees its first byte.
    pub verify: Verify,
    /// The most bytes a second that come for NARs, of all sources together; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub download_limit: u64,
    /// Of each of them; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub download_limit_per_peer: u64,
    /// The proxy on the way to upstreams; empty: none. `None`: what the environment says, as for Nix.
    pub proxy: Option<Proxy>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: Addresses::from_default(GATEWAY_LISTEN),
            priority: GATEWAY_PRIORITY,
            upstreams: UPSTREAM.parse::<UpstreamUrl>().map(Upstream::from).into_iter().collect(),
            budget_ms: BUDGET_MS,
            read_ahead: true,
            verify: Verify::default(),
            download_limit: 0,
            download_limit_per_peer: 0,
            proxy: None,
        }
    }
}

/// `[share]`: the face towards other machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Share {
    /// In one word, with whom this machine shares; `None`: as the other keys say.
    pub profile: Option<Profile>,
    /// Addresses for peers (TLS with node keys); empty: not at all.
    pub listen: Addresses,
    /// Addresses of an ordinary HTTP binary cache for any Nix; empty: not at all.
    pub plain_listen: Addresses,
    /// Whether peers are told which paths are offered, so that they need not ask for others.
    pub index: bool,
    /// Whether this machine relays where there are more than 128, if it is on mains and on a wire: it knows what all have.
    pub relay: bool,
    /// Which paths are offered.
    pub policy: Policy,
    /// The keys of which a path must carry a valid signature to be offered. Apart from the keys trusted for what comes in.
    #[serde(deserialize_with = "value::list")]
    pub public_keys: Vec<PublicKey>,
    /// Patterns over path names (`*` and `?`) that are never offered.
    #[serde(deserialize_with = "value::list")]
    pub deny: Vec<String>,
    /// Whether NARs are compressed on the way between peers, given and asked for.
    pub compression: Compression,
    /// How NARs are sent to an ordinary Nix.
    pub plain_compression: PlainCompression,
    /// How many bytes a second are sent at most, all peers together; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub upload_limit: u64,
    /// How many of them to one peer; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub upload_limit_per_peer: u64,
    /// Times of the day with another limit than `upload_limit`; the first that fits counts.
    pub upload_schedule: Vec<UploadWindow>,
    /// What is done on a connection that costs by the byte.
    pub on_metered: OnMetered,
    /// How much of its battery this machine keeps for itself, in percent: below that nothing is sent while the battery is used.
    pub battery_min: u8,
    /// How many connections are held at once; more are closed at once, and find other machines.
    pub max_connections: usize,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            profile: None,
            listen: Addresses::from_default(SHARE_LISTEN),
            plain_listen: Addresses::default(),
            index: true,
            relay: true,
            policy: Policy::default(),
            public_keys: CACHE_NIXOS_ORG_KEY.parse().into_iter().collect(),
            deny: Vec::new(),
            compression: Compression::default(),
            plain_compression: PlainCompression::default(),
            upload_limit: 0,
            upload_limit_per_peer: 0,
            upload_schedule: Vec::new(),
            on_metered: OnMetered::default(),
            battery_min: BATTERY_MIN,
            max_connections: SHARE_MAX_CONNECTIONS,
        }
    }
}

/// With whom this machine shares, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Profile {
    /// With whoever is on the network, what is signed by public keys.
    #[serde(rename = "open")]
    Open,
    /// With the machines of `[fleet] nodes`.
    #[serde(rename = "team")]
    Team,
    /// With the members of the fleet, also what was built here.
    #[serde(rename = "fleet")]
    Fleet,
    /// With nobody: this machine only takes.
    #[serde(rename = "receive-only")]
    ReceiveOnly,
}

/// How much of a NAR is verified before Nix sees its first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Verify {
    /// All of one of 16 MiB and less; of a larger one the end is withheld until the whole is verified.
    #[default]
    #[serde(rename = "tail")]
    Tail,
    /// All of it, however large: it is kept on the disk for that.
    #[serde(rename = "whole")]
    Whole,
}

/// Whether NARs are compressed between peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Compression {
    /// Where the line is slower than compressing is, and there is something to gain.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Never.
    #[serde(rename = "off")]
    Off,
}

/// What is done on a connection that costs by the byte, as NetworkManager says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum OnMetered {
    /// Nothing is sent to other machines.
    #[default]
    #[serde(rename = "pause")]
    Pause,
    /// As on any other.
    #[serde(rename = "share")]
    Share,
}

/// A time of the day with an upload limit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadWindow {
    /// From then on, by the clock of the machine: `08:00`.
    #[serde(deserialize_with = "value::parsed")]
    pub from: TimeOfDay,
    /// Until then; before `from` it is of the next day.
    #[serde(deserialize_with = "value::parsed")]
    pub until: TimeOfDay,
    /// How many bytes a second; 0: no limit.
    #[serde(deserialize_with = "value::size")]
    pub limit: u64,
}

impl UploadWindow {
    /// Whether `now` is in it.
    #[must_use]
    pub fn has(&self, now: TimeOfDay) -> bool {
        if self.from <= self.until {
            (self.from..self.until).contains(&now)
        } else {
            now >= self.from || now < self.until
        }
    }
}

/// How NARs are sent to an ordinary Nix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum PlainCompression {
    /// As they are, so that any part of them can be had.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Compressed with zstd while they are sent.
    #[serde(rename = "zstd")]
    Zstd,
}

/// Which paths the share offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Policy {
    /// Paths with a valid signature by one of `[share] public_keys`.
    #[default]
    #[serde(rename = "signed")]
    Signed,
    /// Those, and to enrolled peers also what was built on this machine.
    #[serde(rename = "signed+own")]
    SignedAndOwn,
    /// None.
    #[serde(rename = "off")]
    Off,
}

/// `[store]`: where this machine's store is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The store directory, as it is written in store paths.
    #[serde(deserialize_with = "value::store_dir")]
    pub dir: StoreDir,
    /// Nix's state directory, which holds `db/db.sqlite` and the daemon's socket.
    pub state_dir: PathBuf,
    /// The root under which both are, for a chroot store (Nix's `?root=`).
    pub root: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self { dir: StoreDir::default(), state_dir: NIX_STATE_DIR.into(), root: STORE_ROOT.into() }
    }
}

/// `[trust]`: what may enter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trust {
    /// The keys of which a path must carry a valid signature to be handed to Nix. `None`: those that nix.conf trusts; see
    /// [`super::Config::trusted_keys`].
    #[serde(deserialize_with = "value::optional_list")]
    pub public_keys: Option<Vec<PublicKey>>,
}

/// `[keys]`: what this machine signs the paths with that were built here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Where the secret key comes from.
    pub signing: Signing,
    /// The name of the first key; those that follow count on. Empty: the host's name and `-1`.
    pub name: String,
    /// How long a key that was replaced still signs beside its successor.
    #[serde(deserialize_with = "value::duration")]
    pub grace: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Self { signing: Signing::default(), name: String::new(), grace: GRACE }
    }
}

/// Where the secret signing key comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signing {
    /// Made here, kept in the state directory, and replaced by `peernixctl keys rotate`.
    #[default]
    State,
    /// The credential `signing-key` of the service, which the administrator replaces.
    Credential,
}

/// `[discovery]`: how other machines are found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// Whether to announce and look by multicast DNS.
    pub mdns: bool,
    /// The network interfaces for it, by name; empty: all.
    #[serde(deserialize_with = "value::list")]
    pub interfaces: Vec<String>,
    /// Machines at fixed addresses.
    #[serde(deserialize_with = "value::list")]
    pub peers: Vec<FixedPeer>,
    /// Whether machines with peerix, and with the Peernix that is written in Go, are asked and answered, at their ports 12304 and 9999.
    pub peerix: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { mdns: true, interfaces: Vec::new(), peers: Vec::new(), peerix: false }
    }
}

/// `[fleet]`: who counts as one of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fleet {
    /// Who is admitted.
    pub mode: FleetMode,
    /// With mode `static`: the node ids that are admitted.
    #[serde(deserialize_with = "value::nodes")]
    pub nodes: Vec<NodeId>,
    /// With mode `fleet`: the public half of the fleet key. `None`: of the fleet that this machine founded or joined.
    #[serde(deserialize_with = "value::optional")]
    pub public_key: Option<FleetId>,
}

/// Who is admitted as a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetMode {
    /// Every machine; it is offered signed paths only.
    #[default]
    Open,
    /// The machines of `[fleet] nodes`, and nobody else.
    Static,
    /// The machines that the fleet key vouches for, and nobody else.
    Fleet,
}

/// `[swarm]`: what machines do together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Swarm {
    /// Whether a NAR that no machine has is downloaded by one of them for all, which stream it from there.
    pub claims: bool,
    /// Whether a large NAR comes from several machines at once, in pieces that are proved one by one; and is given in those.
    pub pieces: bool,
    /// From how many at most.
    pub max_sources: u32,
    /// Whether a NAR comes as what it differs in from another version, where the line is slow and both machines have that; and is given so.
    pub patches: bool,
}

/// For how long what was built here is held by others.
const COPIES_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much is held here for others, in bytes: 10 GiB.
const COPIES_SIZE: u64 = 10 * 1024 * 1024 * 1024;
/// After how long a member that is gone is replaced.
const REPLACE_AFTER: Duration = Duration::from_secs(3600);

impl Default for Swarm {
    fn default() -> Self {
        Self { claims: true, pieces: true, max_sources: MAX_SOURCES, patches: true }
    }
}

/// `[replicate]`: what several machines of one administrator hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Replicate {
    /// On how many machines what was built here or pinned shall be, this one included.
    pub copies: u32,
    /// For how long what was built here, from then on.
    #[serde(deserialize_with = "value::duration")]
    pub keep: Duration,
    /// How much is held here for other members, in bytes; 0: nothing.
    #[serde(deserialize_with = "value::size")]
    pub max_size: u64,
    /// After how long a member that is gone is replaced.
    #[serde(deserialize_with = "value::duration")]
    pub replace_after: Duration,
}

impl Default for Replicate {
    fn default() -> Self {
        Self { copies: 1, keep: COPIES_KEEP, max_size: COPIES_SIZE, replace_after: REPLACE_AFTER }
    }
}

/// `[cache]`: what is kept for others while it is fetched, in the cache directory and in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// How much it takes at most, in bytes.
    #[serde(deserialize_with = "value::size")]
    pub max_size: u64,
    /// How long it is kept after the last machine that streams it.
    #[serde(deserialize_with = "value::duration")]
    pub keep: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self { max_size: CACHE_SIZE, keep: CACHE_KEEP }
    }
}

/// `[limits]`: what one client may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long the head of a request may take to arrive, on every face.
    #[serde(deserialize_with = "value::duration")]
    pub header_timeout: Duration,
    /// How long a connection of the share may be idle, or its transfer without progress. There is no limit on the whole.
    /// The gateway gives Nix the time that Nix itself would give.
    #[serde(deserialize_with = "value::duration")]
    pub idle_timeout: Duration,
    /// How many connections one address may hold at once, on the share.
    pub per_address: usize,
    /// The memory for NARs that are verified whole before Nix sees them, in bytes.
    #[serde(deserialize_with = "value::size")]
    pub memory: u64,
    /// How many requests of one address the share answers in a second; 0: any number.
    pub requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            per_address: PER_ADDRESS,
            memory: MEMORY,
            requests_per_second: 0,
        }
    }
}

/// `[log]`: what is logged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is logged.
    #[serde(deserialize_with = "value::level")]
    pub level: LevelFilter,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LOG_LEVEL }
    }
}

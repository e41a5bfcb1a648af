//! From the sections of the configuration to what each room wants to be told.

use crate::config::{Compression, Config, FleetMode, NixConf, PlainCompression, Policy, Replicate, Share, Signing};
use crate::copies::CopiesOptions;
use crate::fetch::{Fetcher, Proxies, SpoolOptions};
use crate::http::{Limits, ShareCompression};
use crate::keys::{KeySource, Origin, SigningOptions};
use crate::nix::TrustedKeys;
use crate::peers::fleet::{Fleet, FleetOptions};
use crate::peers::{Admission, Discovery, Mdns, NodeId, NodeKey};
use crate::resilience::{Rates, Versioned};
use crate::store::{Audience, PolicyOptions, SharePolicy, SharePolicyMode, StoreError, StoreOptions};
use crate::system::credentials::{self, FLEET_KEY, NODE_KEY, SIGNING_KEY};
use crate::system::directories::Directories;
use crate::system::landlock::Places;
use crate::system::{host_name, machine_id};
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long transfers may go on once the service stops.
pub(super) const DRAIN: Duration = Duration::from_secs(30);

pub(super) fn store(config: &Config) -> StoreOptions {
    StoreOptions {
        dir: config.store.dir.clone(),
        state_dir: config.store.state_dir.clone(),
        root: config.store.root.clone(),
        ..StoreOptions::default()
    }
    .with_environment(|name| std::env::var_os(name))
}

/// What is shared. Which keys are this machine's own is the share's to say.
pub(super) fn share_policy(config: &Config) -> Result<SharePolicy, StoreError> {
    let options = PolicyOptions {
        mode: match config.share.policy {
            Policy::Off => SharePolicyMode::Off,
            Policy::Signed => SharePolicyMode::Signed,
            Policy::SignedAndOwn => SharePolicyMode::SignedAndOwn,
        },
        public_keys: config.share.public_keys.iter().cloned().collect(),
        own_keys: TrustedKeys::default(),
        deny: config.share.deny.clone(),
    };
    SharePolicy::new(options, config.store.dir.clone())
}

pub(super) fn admission(config: &Config, fleet: &Fleet) -> Admission {
    match config.fleet.mode {
        FleetMode::Open => Admission::Open,
        FleetMode::Static => Admission::Static(config.fleet.nodes.iter().copied().collect()),
        FleetMode::Fleet => Admission::Fleet(fleet.clone()),
    }
}

/// Whom peers are to the share: all of them the same, as they are admitted.
pub(super) fn audience(config: &Config) -> Audience {
    match config.fleet.mode {
        FleetMode::Open => Audience::Anyone,
        FleetMode::Static | FleetMode::Fleet => Audience::Enrolled,
    }
}

/// What this machine belongs to.
pub(super) fn fleet(config: &Config, directories: &Directories) -> anyhow::Result<FleetOptions> {
    Ok(FleetOptions {
        name: host_name::of_kernel(),
        state_dir: Some(directories.state.clone()),
        fleet: config.fleet.public_key,
        credential: credentials::read(FLEET_KEY)?,
    })
}

pub(super) fn discovery(config: &Config) -> Discovery {
    let interfaces = config.discovery.interfaces.clone();
    Discovery { mdns: config.discovery.mdns.then_some(Mdns { interfaces }), fixed: config.discovery.peers.clone() }
}

/// The way to upstreams.
pub(super) fn proxies(config: &Config) -> Proxies {
    let configured = config.gateway.proxy.as_ref().map(|proxy| proxy.0.as_str());
    Proxies::new(configured, |name| std::env::var(name).ok())
}

/// What the share compresses.
pub(super) fn compression(config: &Config) -> ShareCompression {
    let Share { compression, plain_compression, .. } = &config.share;
    ShareCompression { peers: *compression == Compression::Auto, plain: *plain_compression == PlainCompression::Zstd }
}

/// How fast NARs come.
pub(super) fn download(config: &Config) -> Rates {
    Rates { all: config.gateway.download_limit, each: config.gateway.download_limit_per_peer }
}

/// Copies on several machines; `None` where there are no members of anything.
pub(super) fn copies(
    config: &Config,
    directories: &Directories,
    (policy, fetcher): (Versioned<SharePolicy>, Fetcher),
) -> Option<CopiesOptions> {
    let Replicate { copies, keep, max_size, replace_after } = config.replicate;
    if config.fleet.mode == FleetMode::Open {
        return None;
    }
    Some(CopiesOptions {
        copies,
        keep,
        max_size,
        replace_after,
        state_dir: directories.state.clone(),
        may_offer: Arc::new(move |path| policy.now().decide(path, Audience::Enrolled).is_serve()),
        is_available: Arc::new(move |hash| {
            let fetcher = fetcher.clone();
            Box::pin(async move { fetcher.narinfo(hash).await.is_some() })
        }),
    })
}

/// From how many peers one NAR comes at once.
pub(super) fn max_sources(config: &Config) -> usize {
    if config.swarm.pieces { config.swarm.max_sources as usize } else { 1 }
}

/// Where NARs are kept for others while they are fetched.
pub(super) fn spools(config: &Config, cache: &Path) -> SpoolOptions {
    SpoolOptions { dir: Some(cache.to_owned()), max_size: config.cache.max_size, keep: config.cache.keep }
}

pub(super) fn gateway_limits(config: &Config) -> Limits {
    Limits { header_timeout: config.limits.header_timeout, drain_timeout: DRAIN, ..Limits::gateway() }
}

/// Of the share's plain port, which ordinary Nix uses.
pub(super) fn plain_limits(config: &Config) -> Limits {
    Limits { when_full: Limits::plain_share().when_full, ..share_limits(config) }
}

pub(super) fn share_limits(config: &Config) -> Limits {
    Limits {
        connections: config.share.max_connections,
        per_address: Some(config.limits.per_address),
        header_timeout: config.limits.header_timeout,
        idle_timeout: config.limits.idle_timeout,
        stall_timeout: config.limits.idle_timeout,
        drain_timeout: DRAIN,
        requests_per_second: config.limits.requests_per_second,
        ..Limits::share()
    }
}

/// Where the keys come from that are trusted.
pub(super) fn origin(config: &Config) -> Origin {
    if config.trust.public_keys.is_some() { Origin::Configuration } else { Origin::NixConf }
}

/// What the sandbox leaves within reach.
pub(super) fn places(config: &Config, directories: &Directories) -> Places {
    let below = |path: &Path| config.store.root.join(path.strip_prefix("/").unwrap_or(path));
    let state_dir = below(&config.store.state_dir);
    let mut read = vec![below(Path::new(config.store.dir.as_str())), state_dir.clone()];
    read.extend(state_dir.parent().map(|var| var.join("log/nix")));
    // Credentials are read again with the configuration.
    read.extend(["NIX_LOG_DIR", "CREDENTIALS_DIRECTORY"].into_iter().filter_map(std::env::var_os).map(PathBuf::from));
    // What nix.conf includes may be anywhere.
    read.extend(NixConf::read().folders());
    // The directory, because editors replace the file; where it is a link, what is behind it may be replaced as well.
    let file = config.origin.as_deref();
    let files = file.into_iter().flat_map(|file| [file.canonicalize().ok(), std::path::absolute(file).ok()]).flatten();
    read.extend(files.filter_map(|file| file.parent().map(Path::to_owned)));
    let write = vec![directories.state.clone(), directories.cache.clone(), directories.runtime.clone()];
    Places { read, database: Some(state_dir.join("db")), write }
}

/// Who this machine is on the network: the credential where the service manager hands one over, else the key in the state
/// directory, which is made on first use, and made anew if it is another machine's (then also who that was). Blocks.
pub(crate) fn node_key(directories: &Directories) -> anyhow::Result<(NodeKey, Option<NodeId>)> {
    if let Some(secret) = credentials::read(NODE_KEY)? {
        return Ok((NodeKey::from_credential(&secret)?, None));
    }
    Ok(match machine_id::for_application() {
        Some(machine) => NodeKey::of_machine(&directories.state, &machine)?,
        None => (NodeKey::load_or_create(&directories.state)?, None),
    })
}

/// The credential that signs. Blocks.
pub(super) fn signing_key() -> anyhow::Result<Zeroizing<String>> {
    let secret = credentials::read(SIGNING_KEY)?.with_context(|| {
        format!("[keys] signing is \"credential\", and the service has no credential '{SIGNING_KEY}': add LoadCredential={SIGNING_KEY}:FILE to peernix.service (NixOS: services.peernix.signingKeyFile)")
    })?;
    let text = std::str::from_utf8(&secret).with_context(|| format!("the credential '{SIGNING_KEY}' is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Where signing keys come from: the state directory, or the credential that the configuration asks for.
pub(super) fn signing_keys(config: &Config, directories: &Directories) -> anyhow::Result<SigningOptions> {
    let source = match config.keys.signing {
        Signing::State => KeySource::State,
        Signing::Credential => KeySource::Credential(signing_key()?),
    };
    Ok(SigningOptions {
        state_dir: directories.state.clone(),
        source,
        name: config.keys.name.clone(),
        host: host_name::of_kernel(),
        grace: config.keys.grace,
    })
}

//! How the service is.

use super::controller::Controller;
use crate::control::types::{Finding, LogLevel, OtherSite, OwnSite, ServiceState, Status, microseconds, timestamp};
use crate::fetch::UpstreamTrouble;
use crate::files::free_space;
use crate::keys::KeyState;
use crate::peers::{State, Unseen};
use crate::sites::{SiteStatus, Sites};
use crate::store::Access;
use log::LevelFilter;
use std::time::Duration;

/// What this build can do, in words.
const FEATURES: [&str; 7] = ["dbus", "varlink", "mdns", "fixed-peers", "nats", "plain-share", "signing-keys"];

/// A disk is full when less than this is free, in bytes.
const DISK_FREE: u64 = 256 * 1024 * 1024;
/// How long it may take after the start to reach who is at a fixed address.
const LOOKED_FOR: Duration = Duration::from_secs(20);

pub(super) async fn status(controller: &Controller) -> Status {
    let parts = &controller.0.parts;
    let peers = parts.peers.snapshot();
    let (codes, problems): (Vec<Finding>, Vec<String>) = problems(controller).await.into_iter().unzip();
    let state = match parts.state.get() {
        ServiceState::Running if !problems.is_empty() => ServiceState::Degraded,
        state => state,
    };
    let info = parts.info.clone();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: FEATURES.map(str::to_owned).to_vec(),
        node_id: info.node_id,
        host_name: parts.state.new_host_name().unwrap_or(info.host_name),
        store_dir: parts.store.dir().to_string(),
        state,
        problems,
        problem_codes: codes.iter().map(ToString::to_string).collect(),
        offline: parts.fetcher.is_offline(),
        start_timestamp: timestamp(info.started),
        listen: info.listen,
        peers_known: number(peers.len()),
        peers_online: number(peers.iter().filter(|peer| peer.state == State::Online).count()),
        transfers: number(parts.fetcher.transfers_running()),
        jobs_running: number(controller.0.jobs.running()),
        share_policy: parts.state.share_policy(),
        uploads_paused: parts.state.why_uploads_pause(),
        site: parts.sites.as_ref().map(site),
        active_key: parts.keys.list().into_iter().find(|key| key.state == KeyState::Active).map(|key| key.fingerprint),
        configuration: parts.state.configuration(),
        last_reload: parts.state.last_reload(),
        log_level: log_level(),
        sandbox: info.sandbox,
    }
}

/// What is missing or wrong.
async fn problems(controller: &Controller) -> Vec<(Finding, String)> {
    let parts = &controller.0.parts;
    let mut problems = Vec::new();
    match parts.store.check().await {
        Ok(Access::Database) => {}
        Ok(Access::Daemon) => {
            let text = "The database of the store cannot be read by this user; the Nix daemon is asked instead, which is slower.";
            problems.push((Finding::DatabaseClosed, text.to_owned()));
        }
        Err(error) => {
            problems
                .push((Finding::StoreUnreadable, format!("Nothing of this machine's store can be shared: {error}.")));
        }
    }
    problems.extend(full_disks(controller).await);
    problems.extend(parts.state.not_in_force());
    let troubles = parts.peers.troubles().borrow().clone();
    if let Some(reason) = troubles.discovery {
        let text = format!("Other machines cannot be found by multicast DNS: {reason}.");
        problems.push((Finding::MulticastUnavailable, text));
    }
    if let Some(address) = troubles.twin {
        let text = format!(
            "Another machine, at {address}, has this machine's node key: one of them was copied from the other (see `journalctl -xu peernix`)."
        );
        problems.push((Finding::NodeKeyCopied, text));
    }
    problems.extend(super::fleet::problem(controller));
    problems.extend(parts.fetcher.upstream_troubles().into_iter().map(|(host, trouble)| upstream(&host, trouble)));
    if let Some(reason) = parts.sites.as_ref().and_then(Sites::trouble) {
        let text = format!("Other sites cannot be reached: {reason} (`[nats]` in the configuration; docs/sites.md).");
        problems.push((Finding::SitesUnreachable, text));
    }
    let has_looked = parts.info.started.elapsed().is_ok_and(|since| since > LOOKED_FOR);
    for Unseen { address, added } in parts.peers.unseen() {
        let where_from = if added { "was added as a peer" } else { "[discovery] peers names" };
        if added || has_looked {
            let text = format!("Nobody has answered yet at {address}, which {where_from}.");
            problems.push((Finding::PeerNotReached, text));
        }
    }
    if let Some(reload) = parts.state.last_reload().filter(|reload| !reload.success) {
        let error = reload.error.unwrap_or_default();
        let text = format!("The configuration was not reloaded and the one before is in force: {error}");
        problems.push((Finding::ReloadFailed, text));
    }
    problems
}

/// Disks on which next to nothing is free, of those that the service writes to and of that of the store.
async fn full_disks(controller: &Controller) -> Vec<(Finding, String)> {
    let parts = &controller.0.parts;
    let (store, directories) = (parts.store.clone(), parts.info.directories.clone());
    let look = move || {
        let store = (store.dir().to_string(), store.free());
        let own = directories.iter().map(|dir| (dir.display().to_string(), free_space(dir)));
        let full =
            own.chain([store]).filter_map(|(dir, free)| Some((dir, free.ok().filter(|free| *free < DISK_FREE)?)));
        let text = |(dir, free)| format!("The disk of {dir} is full: {} MiB are left.", free >> 20);
        full.map(|full| (Finding::DiskFull, text(full))).collect()
    };
    // It fails only when the program is being stopped.
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

fn upstream(host: &str, trouble: UpstreamTrouble) -> (Finding, String) {
    match trouble {
        UpstreamTrouble::Unreachable { reason, by_proxy: false } => {
            (Finding::UpstreamUnreachable, format!("The upstream {host} cannot be reached: {reason}."))
        }
        UpstreamTrouble::Unreachable { reason, by_proxy: true } => {
            (Finding::ProxyUnreachable, format!("The upstream {host} cannot be reached by way of the proxy: {reason}."))
        }
        UpstreamTrouble::LoginRefused(407) => (
            Finding::UpstreamLoginRefused,
            format!("The proxy on the way to the upstream {host} wants another login (407)."),
        ),
        UpstreamTrouble::LoginRefused(status) => (
            Finding::UpstreamLoginRefused,
            format!("The upstream {host} refuses this machine's login, or wants one ({status})."),
        ),
        UpstreamTrouble::Clock(ahead) => {
            let by = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
            let how = if ahead > 0 { "ahead of" } else { "behind" };
            (Finding::ClockWrong, format!("The clock of this machine is {by} {how} that of {host}."))
        }
    }
}

/// The sites.
fn site(sites: &Sites) -> OwnSite {
    let other = |site: SiteStatus| OtherSite {
        name: site.site.to_string(),
        gateway: site.gateway.to_string(),
        gateway_name: site.name,
        state: match (site.is_there, site.is_ignored) {
            (_, true) => "ignored",
            (true, false) => "online",
            (false, false) => "offline",
        }
        .to_owned(),
        machines: site.machines,
        paths: site.entries,
        wrong_claims: site.wrong_claims,
        age_usec: microseconds(site.age),
        latency_usec: site.latency.map(microseconds),
    };
    OwnSite {
        name: sites.ours().to_string(),
        gateway: sites.speaks(),
        problem: sites.trouble(),
        others: sites.status().into_iter().map(other).collect(),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn log_level() -> LogLevel {
    match log::max_level() {
        LevelFilter::Off | LevelFilter::Error => LogLevel::Error,
        LevelFilter::Warn => LogLevel::Warning,
        LevelFilter::Info => LogLevel::Info,
        LevelFilter::Debug => LogLevel::Debug,
        LevelFilter::Trace => LogLevel::Trace,
    }
}

pub(super) fn set_log_level(level: LogLevel) {
    let filter = match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    };
    log::set_max_level(filter);
    log::info!("what is logged from now on: {level}");
}

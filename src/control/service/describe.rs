//! How the service is.

use super::controller::Controller;
use crate::control::types::{LogLevel, OtherSite, OwnSite, ServiceState, Status, microseconds, timestamp};
use crate::keys::KeyState;
use crate::peers::State;
use crate::sites::{SiteStatus, Sites};
use crate::store::Access;
use log::LevelFilter;

/// What this build can do, in words.
const FEATURES: [&str; 7] = ["dbus", "varlink", "mdns", "fixed-peers", "nats", "plain-share", "signing-keys"];

pub(super) async fn status(controller: &Controller) -> Status {
    let parts = &controller.0.parts;
    let peers = parts.peers.snapshot();
    let problems = problems(controller).await;
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

/// What is missing.
async fn problems(controller: &Controller) -> Vec<String> {
    let parts = &controller.0.parts;
    let mut problems = Vec::new();
    match parts.store.check().await {
        Ok(Access::Database) => {}
        Ok(Access::Daemon) => problems.push(
            "The database of the store cannot be read by this user; the Nix daemon is asked instead, which is slower."
                .to_owned(),
        ),
        Err(error) => problems.push(format!("Nothing of this machine's store can be shared: {error}.")),
    }
    problems.extend(parts.state.not_in_force());
    let troubles = parts.peers.troubles().borrow().clone();
    if let Some(reason) = troubles.discovery {
        problems.push(format!("Other machines cannot be found by multicast DNS: {reason}."));
    }
    if let Some(address) = troubles.twin {
        problems.push(format!(
            "Another machine, at {address}, has this machine's node key: one of them was copied from the other (see `journalctl -xu peernix`)."
        ));
    }
    problems.extend(super::fleet::problem(controller));
    if let Some(reason) = parts.sites.as_ref().and_then(Sites::trouble) {
        problems
            .push(format!("Other sites cannot be reached: {reason} (`[nats]` in the configuration; docs/sites.md)."));
    }
    for address in parts.peers.added_unseen() {
        problems.push(format!("Nobody has answered yet at {address}, which was added as a peer."));
    }
    if let Some(reload) = parts.state.last_reload().filter(|reload| !reload.success) {
        let error = reload.error.unwrap_or_default();
        problems.push(format!("The configuration was not reloaded and the one before is in force: {error}"));
    }
    problems
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

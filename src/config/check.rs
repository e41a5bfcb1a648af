//! What a configuration must hold although every single value has the right form.

use super::error::Problem;
use super::sections::{Config, FleetMode, MAX_SOURCES_MOST, Policy, Profile, Replicate};
use super::{nats, upstream};
use crate::keys::{GRACE_MAX, NAME_MAX};
use crate::store::PIN_COPIES_MAX;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path};
use std::time::Duration;

/// The longest budget of a lookup, in milliseconds. Nix waits for it on every path of which a peer does not say whether it has it.
const BUDGET_MS_MAX: u64 = 10_000;
/// The most connections that may be allowed.
const CONNECTIONS_MAX: usize = 65_536;
/// The least limit of what comes or leaves, in bytes a second: below it every transfer looks stalled.
const RATE_MIN: u64 = 64 * 1024;
/// The most times of the day with a limit of their own.
const UPLOAD_WINDOWS_MAX: usize = 24;
/// The shortest and longest time for the head of a request.
const HEADER_TIMEOUTS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(600)];
/// The shortest and longest time without progress.
const IDLE_TIMEOUTS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(24 * 3600)];
/// The least memory for whole NARs, in bytes: one of the largest that are verified whole.
const MEMORY_MIN: u64 = 16 * 1024 * 1024;
/// The longest name of a network interface on Linux, in bytes (`IFNAMSIZ` less its zero).
const INTERFACE_NAME_MAX: usize = 15;
/// The least time after which a member that is gone is replaced: one that restarts is back before.
const REPLACE_AFTER_MIN: Duration = Duration::from_secs(5);
/// The longest time that is kept what was fetched for others.
const CACHE_KEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// Lists everything that is wrong.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    gateway(config, &mut problems);
    share(config, &mut problems);
    store(config, &mut problems);
    keys(config, &mut problems);
    discovery(config, &mut problems);
    fleet(config, &mut problems);
    swarm(config, &mut problems);
    nats::check(&config.nats, &mut problems);
    replicate(config, &mut problems);
    cache(config, &mut problems);
    limits(config, &mut problems);
    collisions(config, &mut problems);
    problems
}

fn gateway(config: &Config, problems: &mut Vec<Problem>) {
    let gateway = &config.gateway;
    let mut wrong = |key, what: String, remedy| problems.push(Problem::of("gateway", key, what, remedy));
    if gateway.listen.is_empty() {
        wrong("listen", "the gateway must listen somewhere".into(), "give an address, such as 127.0.0.1:7649");
    }
    for address in gateway.listen.0.iter().filter(|address| !is_loopback(address.ip())) {
        wrong(
            "listen",
            format!("{address} can be reached from the network, and the gateway downloads for whoever reaches it"),
            "listen on 127.0.0.1 or [::1]; to serve other machines there is [share] plain_listen",
        );
    }
    let limits =
        [("download_limit", gateway.download_limit), ("download_limit_per_peer", gateway.download_limit_per_peer)];
    for (key, limit) in limits {
        if limit != 0 && limit < RATE_MIN {
            wrong(key, format!("less than {RATE_MIN} bytes a second"), "give more, or \"0B\" for no limit");
        }
    }
    if !(1..=BUDGET_MS_MAX).contains(&gateway.budget_ms) {
        wrong("budget_ms", format!("not between 1 and {BUDGET_MS_MAX} milliseconds"), "300 is a good value");
    }
    upstream::check(&gateway.upstreams, problems);
}

/// Also true for IPv4's loopback addresses in IPv6's clothes.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn share(config: &Config, problems: &mut Vec<Problem>) {
    let share = &config.share;
    let mut wrong = |key, what: String, remedy| problems.push(Problem::of("share", key, what, remedy));
    if share.policy == Policy::Signed && share.public_keys.is_empty() {
        wrong(
            "public_keys",
            "policy \"signed\" without a key offers nothing".into(),
            "name the keys of the caches you use, or set policy = \"off\"",
        );
    }
    if share.policy == Policy::SignedAndOwn && config.fleet.mode == FleetMode::Open {
        wrong(
            "policy",
            "\"signed+own\" offers what was built here to enrolled machines, and with [fleet] mode \"open\" there are none"
                .into(),
            "set mode = \"fleet\", or mode = \"static\" and list their node ids in [fleet] nodes",
        );
    }
    for pattern in &share.deny {
        let fits = !pattern.is_empty() && pattern.len() <= crate::nix::store_path::NAME_MAX && !pattern.contains('/');
        if !fits {
            wrong(
                "deny",
                format!("'{pattern}' can match no name of a path"),
                "write a pattern over names without the hash, such as \"*-secret*\"",
            );
        }
    }
    let windows = share.upload_schedule.iter().map(|window| ("upload_schedule", window.limit));
    let limits = [("upload_limit", share.upload_limit), ("upload_limit_per_peer", share.upload_limit_per_peer)];
    for (key, limit) in limits.into_iter().chain(windows) {
        if limit != 0 && limit < RATE_MIN {
            wrong(key, format!("less than {RATE_MIN} bytes a second"), "give more, or \"0B\" for no limit");
        }
    }
    if share.upload_schedule.len() > UPLOAD_WINDOWS_MAX {
        wrong("upload_schedule", format!("more than {UPLOAD_WINDOWS_MAX} times"), "name fewer, longer ones");
    }
    if share.upload_schedule.iter().any(|window| window.from == window.until) {
        wrong("upload_schedule", "a time that ends when it begins".into(), "give until another time than from");
    }
    if share.battery_min > 100 {
        wrong("battery_min", "more than 100 percent".into(), "20 is a good value, and 0 shares to the end");
    }
    if !(1..=CONNECTIONS_MAX).contains(&share.max_connections) {
        wrong("max_connections", format!("not between 1 and {CONNECTIONS_MAX}"), "1024 is a good value");
    }
}

fn swarm(config: &Config, problems: &mut Vec<Problem>) {
    if !(2..=MAX_SOURCES_MOST).contains(&config.swarm.max_sources) {
        let what = format!("not between 2 and {MAX_SOURCES_MOST}");
        problems.push(Problem::of(
            "swarm",
            "max_sources",
            what,
            "4 is a good value; for one at a time there is pieces = false",
        ));
    }
}

fn replicate(config: &Config, problems: &mut Vec<Problem>) {
    let Replicate { copies, replace_after, .. } = &config.replicate;
    if !(1..=PIN_COPIES_MAX).contains(copies) {
        let what = format!("not between 1 and {PIN_COPIES_MAX}");
        problems.push(Problem::of("replicate", "copies", what, "2 is a good value, and 1 is none on other machines"));
    } else if *copies > 1 && config.fleet.mode == FleetMode::Open {
        let what = "nobody is a member of anything with [fleet] mode = \"open\"";
        problems.push(Problem::of("replicate", "copies", what, "set share.profile = \"fleet\", or fleet.mode"));
    }
    if *replace_after < REPLACE_AFTER_MIN {
        let what = format!("less than {}", humantime::format_duration(REPLACE_AFTER_MIN));
        problems.push(Problem::of("replicate", "replace_after", what, "1h is a good value"));
    }
}

fn store(config: &Config, problems: &mut Vec<Problem>) {
    let normal = |path: &Path| {
        path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    };
    for (key, path) in [("state_dir", &config.store.state_dir), ("root", &config.store.root)] {
        if !normal(path) {
            problems.push(Problem::of("store", key, "not an absolute path without '..'", "give the whole path"));
        }
    }
}

fn keys(config: &Config, problems: &mut Vec<Problem>) {
    let keys = &config.keys;
    let mut wrong = |key, what: String, remedy| problems.push(Problem::of("keys", key, what, remedy));
    let fits = keys.name.len() <= NAME_MAX && keys.name.bytes().all(|c| c.is_ascii_graphic() && c != b':');
    if !fits {
        wrong(
            "name",
            format!("a key's name is up to {NAME_MAX} printable ASCII characters without blanks and colons"),
            "write the host's name and a number, such as \"tower-1\", or leave it out",
        );
    }
    if keys.grace > GRACE_MAX {
        let most = humantime::format_duration(GRACE_MAX);
        wrong("grace", format!("longer than {most}"), "30days is a good value");
    }
}

fn discovery(config: &Config, problems: &mut Vec<Problem>) {
    if config.discovery.peerix && config.share.profile.is_some_and(|profile| profile != Profile::Open) {
        problems.push(Problem::of(
            "discovery",
            "peerix",
            "machines with peerix cannot show who they are, and [share] profile lets in those that do",
            "set peerix = false, or profile = \"open\"",
        ));
    }
    for name in &config.discovery.interfaces {
        let fits = !name.is_empty()
            && name.len() <= INTERFACE_NAME_MAX
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        if !fits {
            problems.push(Problem::of(
                "discovery",
                "interfaces",
                format!("'{name}' cannot be the name of a network interface"),
                "`ip link` shows the names",
            ));
        }
    }
}

fn fleet(config: &Config, problems: &mut Vec<Problem>) {
    let fleet = &config.fleet;
    match (fleet.mode, fleet.nodes.is_empty()) {
        (FleetMode::Static, true) => problems.push(Problem::of(
            "fleet",
            "nodes",
            "mode \"static\" without a node admits nobody",
            "list the node ids that `peernixd --print-node-id` prints on the other machines, or set mode = \"open\"",
        )),
        (FleetMode::Open, false) => problems.push(Problem::of(
            "fleet",
            "mode",
            "nodes are listed, but mode \"open\" admits every machine",
            "set mode = \"static\", or leave nodes out",
        )),
        (FleetMode::Fleet, false) => problems.push(Problem::of(
            "fleet",
            "mode",
            "nodes are listed, but mode \"fleet\" admits those that the fleet key vouches for",
            "set mode = \"static\", or leave nodes out",
        )),
        _ => {}
    }
    if fleet.mode != FleetMode::Fleet && fleet.public_key.is_some() {
        problems.push(Problem::of(
            "fleet",
            "mode",
            "the key of a fleet is named, but this mode does not go by it",
            "set mode = \"fleet\", or leave public_key out",
        ));
    }
}

fn limits(config: &Config, problems: &mut Vec<Problem>) {
    let limits = &config.limits;
    let mut wrong = |key, what: String, remedy| problems.push(Problem::of("limits", key, what, remedy));
    for (key, value, [least, most], good) in [
        ("header_timeout", limits.header_timeout, HEADER_TIMEOUTS, "5s is a good value"),
        ("idle_timeout", limits.idle_timeout, IDLE_TIMEOUTS, "30s is a good value"),
    ] {
        if value < least || value > most {
            let [least, most] = [least, most].map(humantime::format_duration);
            wrong(key, format!("not between {least} and {most}"), good);
        }
    }
    if !(1..=CONNECTIONS_MAX).contains(&limits.per_address) {
        wrong("per_address", format!("not between 1 and {CONNECTIONS_MAX}"), "128 is a good value");
    }
    if limits.memory < MEMORY_MIN {
        wrong("memory", "less than the 16 MiB that one NAR may take".into(), "64MiB is a good value");
    }
}

fn cache(config: &Config, problems: &mut Vec<Problem>) {
    if config.cache.keep > CACHE_KEEP_MAX {
        let what = format!("more than {}", humantime::format_duration(CACHE_KEEP_MAX));
        problems.push(Problem::of("cache", "keep", what, "15min is a good value"));
    }
}

/// Two faces on one address: the second could not listen.
fn collisions(config: &Config, problems: &mut Vec<Problem>) {
    let faces = [
        ("gateway", "listen", &config.gateway.listen),
        ("share", "listen", &config.share.listen),
        ("share", "plain_listen", &config.share.plain_listen),
    ];
    let mut seen: Vec<(SocketAddr, String)> = Vec::new();
    for (section, key, addresses) in faces {
        for address in addresses.0.iter().filter(|address| address.port() != 0) {
            if let Some((_, other)) = seen.iter().find(|(other, _)| other == address) {
                let what = format!("{address} is taken by {other} already");
                problems.push(Problem::of(section, key, what, "give each its own port"));
            } else {
                seen.push((*address, format!("[{section}] {key}")));
            }
        }
    }
}

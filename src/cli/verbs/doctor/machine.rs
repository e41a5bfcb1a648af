//! The machine itself: disks, memory, files, network.

use super::check::Check;
use crate::cli::output::size;
use crate::cli::systemd;
use crate::control::Finding;
use crate::files::free_space;
use std::path::{Path, PathBuf};

/// Next to nothing is free on a disk below this, in bytes…
const DISK_FULL: u64 = 256 * 1024 * 1024;
/// … and little below this.
const DISK_LOW: u64 = 2 * 1024 * 1024 * 1024;
/// Little memory is free below this, in bytes.
const MEMORY_LOW: u64 = 96 * 1024 * 1024;
/// How many files the service should be able to open: a thousand connections, and what they read.
const FILES_LOW: u64 = 4096;

/// Whether there is room where the service writes and where the store is.
pub(super) fn disks(places: &[PathBuf], checks: &mut Vec<Check>) {
    let known = places.iter().filter_map(|place| Some((place, free_space(place).ok()?)));
    checks.extend(judge_disks(known));
}

fn judge_disks<'a>(places: impl Iterator<Item = (&'a PathBuf, u64)>) -> Vec<Check> {
    const CHECK: &str = "disk";
    let mut checks = Vec::new();
    let mut least: Option<(&PathBuf, u64)> = None;
    for (place, free) in places {
        let shown = place.display();
        let message = format!("{} are free where {shown} is", size(free));
        let remedy =
            format!("`nix-collect-garbage` frees the store, `du -xh {shown} | sort -h | tail` shows what takes room");
        if free < DISK_FULL {
            checks.push(Check::fail(CHECK, Finding::DiskFull, message, remedy));
        } else if free < DISK_LOW {
            checks.push(Check::warn(CHECK, Finding::DiskFull, message, remedy));
        }
        if least.is_none_or(|(_, least)| free < least) {
            least = Some((place, free));
        }
    }
    if checks.is_empty()
        && let Some((place, free)) = least
    {
        checks.push(Check::ok(CHECK, format!("{} are free where {} is", size(free), place.display())));
    }
    checks
}

/// Whether there is memory left.
pub(super) fn memory(checks: &mut Vec<Check>) {
    if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
        checks.extend(judge_memory(&text));
    }
}

fn judge_memory(text: &str) -> Option<Check> {
    const CHECK: &str = "memory";
    let kib = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    let (all, free) = (kib("MemTotal:")? * 1024, kib("MemAvailable:")? * 1024);
    let message = format!("{} of {} are available", size(free), size(all));
    Some(if free < MEMORY_LOW {
        let remedy =
            "fewer jobs of Nix at a time (`max-jobs`), zram or swap; `[limits] memory` bounds what peernixd takes";
        Check::warn(CHECK, Finding::MemoryShort, message, remedy)
    } else {
        Check::ok(CHECK, message)
    })
}

/// Whether the service may open as many files as it may need.
pub(super) async fn files(checks: &mut Vec<Check>) {
    const CHECK: &str = "open files";
    let shown = systemd::systemctl(&["show", systemd::UNIT, "--property", "LimitNOFILE", "--value"]).await;
    // `infinity` is no number, and enough.
    let Some(limit) = shown.and_then(|text| text.trim().parse::<u64>().ok()) else { return };
    checks.push(if limit < FILES_LOW {
        Check::warn(
            CHECK,
            Finding::FilesFew,
            format!("the service may open {limit} at a time"),
            format!("LimitNOFILE={FILES_LOW} or more in the unit, or leave it as it comes"),
        )
    } else {
        Check::ok(CHECK, format!("the service may open {limit}"))
    });
}

/// The links of this machine, with what kind they are and how fast.
pub(super) fn network(checks: &mut Vec<Check>) {
    checks.push(judge_network(Path::new("/sys/class/net")));
}

fn judge_network(links: &Path) -> Check {
    const CHECK: &str = "network";
    let Ok(entries) = links.read_dir() else { return Check::skip(CHECK, "the kernel shows no links") };
    let mut up: Vec<String> = entries.flatten().filter_map(|link| told(&link.path())).collect();
    up.sort_unstable();
    if up.is_empty() {
        let remedy =
            "`networkctl` or `ip link` show what there is; without a network only paths of this machine can be had";
        return Check::warn(CHECK, Finding::NetworkMissing, "no link but the loopback is up", remedy);
    }
    Check::ok(CHECK, up.join(", "))
}

/// A link that is up; `None`: it is not, or is the loopback.
fn told(link: &Path) -> Option<String> {
    /// `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
    const LOOPBACK: &str = "772";
    let value = |name: &str| std::fs::read_to_string(link.join(name)).ok().map(|text| text.trim().to_owned());
    let name = link.file_name()?.to_str()?;
    // What has no carrier of its own, as tunnels, is neither.
    if value("type")? == LOOPBACK || !matches!(value("operstate")?.as_str(), "up" | "unknown") {
        return None;
    }
    let kind = if link.join("wireless").exists() || link.join("phy80211").exists() { " Wi-Fi" } else { "" };
    // -1 where it is not known.
    let speed = value("speed").and_then(|speed| speed.parse::<u64>().ok()).map(|mbit| format!(" {mbit} Mbit/s"));
    Some(format!("{name}{kind}{}", speed.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_fullest_disk_is_told() {
        let places = ["/a", "/b"].map(PathBuf::from);
        let judged = |free: [u64; 2]| judge_disks(places.iter().zip(free));
        let results = |free| judged(free).iter().map(|check| check.result).collect::<Vec<_>>();
        assert_eq!(results([DISK_LOW, u64::MAX]), [Verdict::Ok]);
        assert!(judged([DISK_LOW, u64::MAX])[0].message.contains("/a"));
        assert_eq!(results([DISK_LOW - 1, DISK_FULL - 1]), [Verdict::Warn, Verdict::Fail]);
        assert!(judge_disks(std::iter::empty()).is_empty());
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = |free: u64| format!("MemTotal:        2014240 kB\nMemFree: 1 kB\nMemAvailable:    {free} kB\n");
        assert_eq!(judge_memory(&text(100_000)).unwrap().result, Verdict::Ok);
        assert_eq!(judge_memory(&text(90_000)).unwrap().result, Verdict::Warn);
        assert!(judge_memory("").is_none());
    }

    #[test]
    fn links_are_told_with_their_kind_and_speed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(judge_network(dir.path()).result, Verdict::Warn);
        let link = |name: &str, files: &[(&str, &str)]| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            files.iter().for_each(|(file, text)| std::fs::write(dir.path().join(name).join(file), text).unwrap());
        };
        link("lo", &[("type", "772\n"), ("operstate", "unknown\n")]);
        link("eth1", &[("type", "1\n"), ("operstate", "down\n")]);
        assert_eq!(judge_network(dir.path()).result, Verdict::Warn);
        link("eth0", &[("type", "1\n"), ("operstate", "up\n"), ("speed", "1000\n")]);
        link("wlan0", &[("type", "1\n"), ("operstate", "up\n"), ("speed", "-1\n"), ("wireless", "")]);
        let check = judge_network(dir.path());
        assert_eq!((check.result, check.message.as_str()), (Verdict::Ok, "eth0 1000 Mbit/s, wlan0 Wi-Fi"));
    }
}

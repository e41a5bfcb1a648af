//! `peernixctl status` and `version`: how the service is, or why it is not there.

use crate::cli::connect::Route;
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Clock, Paint, Screen, complain, count, facts, latency, size, tame};
use crate::cli::{exit, systemd};
use crate::control::{Control, ControlError, ErrorKind, Outcome, OwnSite, ServiceState, Statistics, Status};
use serde_json::{Value, json};
use std::sync::Arc;

/// Shows how the service is. Without it: what systemd knows, and where to look.
pub(crate) async fn run(reached: Outcome<Arc<dyn Control>>, route: &Route, screen: &Screen) -> Done<()> {
    let asked = match reached {
        Ok(control) => control.status().await.map(|status| (control, status)),
        Err(error) => Err(error),
    };
    match asked {
        Ok((control, status)) => {
            // Of interest to people, and no reason to show nothing.
            let statistics = if screen.is_json() { None } else { control.statistics().await.ok() };
            screen.show(&status, || render(&status, statistics.as_ref(), screen))
        }
        Err(error) if error.kind == ErrorKind::NotRunning => {
            let unit = if route.host.is_none() { systemd::unit().await } else { None };
            down(&error, unit.as_ref(), screen)
        }
        Err(error) => Err(error).doing("show the status"),
    }
}

/// The service is down. That is a result as well.
fn down(error: &ControlError, unit: Option<&systemd::Unit>, screen: &Screen) -> Done<()> {
    let failed = unit.is_some_and(|unit| unit.active_state == "failed");
    let value = json!({
        "state": if failed { "failed" } else { "stopped" },
        "reason": error.to_string(),
        "unit": unit,
    });
    screen.show(&value, || {
        let dot = if failed { screen.style.paint(Paint::Bad, "×") } else { "○".to_owned() };
        let mut lines = vec![("Reason", tame(&error.to_string()))];
        if let Some(unit) = unit {
            let told = tame(&unit.told());
            lines.push(("Unit", if failed { screen.style.paint(Paint::Bad, &told) } else { told }));
            if !unit.status_text.is_empty() {
                lines.push(("Last words", tame(&unit.status_text)));
            }
        }
        format!("{dot} peernixd does not run\n{}", facts(&lines))
    })?;
    if !screen.quiet && !screen.is_json() {
        complain(if unit.is_some() {
            "Start it with `systemctl start peernix`; `journalctl -u peernix -e` tells why it is down."
        } else {
            "Start it with `systemctl start peernix`, or as this user with `peernixd`."
        });
        complain(
            "Before it is switched off for good, take its address out of nix.conf: Nix does not go on without a gateway that it has seen.",
        );
    }
    Err(VerbError::Ended(exit::NOT_RUNNING))
}

fn render(status: &Status, statistics: Option<&Statistics>, screen: &Screen) -> String {
    let Screen { style, clock, .. } = screen;
    let paint = match status.state {
        ServiceState::Running => Paint::Good,
        ServiceState::Degraded => Paint::Bad,
        ServiceState::Starting | ServiceState::Draining | ServiceState::Reloading | ServiceState::Stopping => {
            Paint::Warning
        }
    };
    let mut text = format!(
        "{} {} – {} since {} ({})\n",
        style.paint(paint, "●"),
        tame(&status.host_name),
        style.paint(paint, status.state.as_str()),
        clock.date(status.start_timestamp),
        clock.ago(status.start_timestamp)
    );
    let mut lines = Vec::new();
    let problems: Vec<String> = status.problems.iter().map(|problem| style.paint(Paint::Bad, &tame(problem))).collect();
    if !problems.is_empty() {
        lines.push(("Problems", problems.join("\n")));
    }
    let off = || style.paint(Paint::Faint, "off");
    let listen = |address: &Option<String>| address.as_ref().map_or_else(off, |address| tame(address));
    lines.push(("Version", tame(&status.version)));
    lines.push(("Node ID", tame(&status.node_id)));
    lines.push(("Store", tame(&status.store_dir)));
    lines.push(("Gateway", listen(&status.listen.gateway)));
    lines.push(("Share", format!("{}, policy {}", listen(&status.listen.share), tame(&status.share_policy))));
    if status.offline {
        let text = "nobody is asked for anything (`peernixctl offline off` ends that)";
        lines.push(("Offline", style.paint(Paint::Warning, text)));
    }
    if let Some(why) = &status.uploads_paused {
        let why = format!("paused: {}", tame(why));
        lines.push(("Uploads", style.paint(Paint::Warning, &why)));
    }
    if status.listen.plain.is_some() {
        lines.push(("Plain share", listen(&status.listen.plain)));
    }
    let online = format!("{} online", status.peers_online);
    let online = if status.peers_online > 0 { style.paint(Paint::Good, &online) } else { online };
    lines.push(("Peers", format!("{} known, {online}", status.peers_known)));
    if let Some(own) = &status.site {
        lines.push(("Site", site(own, screen)));
    }
    if let Some(statistics) = statistics {
        lines.push(("Spared", spared(statistics, clock)));
    }
    lines.push(("Transfers", under_way(status.transfers)));
    if status.jobs_running > 0 {
        lines.push(("Jobs", format!("{} running", status.jobs_running)));
    }
    let nothing = || style.paint(Paint::Faint, "none: nothing is signed here");
    lines.push(("Signing key", status.active_key.as_ref().map_or_else(nothing, |key| tame(key))));
    lines.push(("Configuration", configuration(status, screen)));
    lines.push(("Log level", status.log_level.to_string()));
    lines.push(("Sandbox", tame(&status.sandbox)));
    if !status.features.is_empty() {
        lines.push(("Features", tame(&status.features.join(", "))));
    }
    text.push_str(&facts(&lines));
    text
}

/// The site, and one line for each other one.
fn site(own: &OwnSite, screen: &Screen) -> String {
    let gateway = if own.gateway { ", this machine speaks for it" } else { "" };
    let mut text = format!("{}{gateway}", tame(&own.name));
    for other in &own.others {
        let paint = if other.state == "online" { Paint::Good } else { Paint::Warning };
        let latency = other.latency_usec.map(|usec| format!(", {}", latency(usec))).unwrap_or_default();
        text.push_str(&format!(
            "\n{} {}: {}, {}{latency}",
            tame(&other.name),
            screen.style.paint(paint, &tame(&other.state)),
            count(other.machines, "machine"),
            count(other.paths, "path"),
        ));
    }
    text
}

fn under_way(transfers: u32) -> String {
    if transfers == 0 { "none under way".to_owned() } else { format!("{transfers} under way") }
}

/// What the Internet was spared.
fn spared(statistics: &Statistics, clock: &Clock) -> String {
    // On a line of its own: nothing is to be wider than a terminal.
    let rate = statistics.hit_rate.map(|rate| format!("\n{:.0} % of lookups were answered by peers", rate * 100.0));
    format!(
        "{} came from peers since {}{}",
        size(statistics.bytes_from_peers),
        clock.date(statistics.since_timestamp),
        rate.unwrap_or_default()
    )
}

fn configuration(status: &Status, screen: &Screen) -> String {
    let mut text = status.configuration.as_deref().map_or_else(|| "no file, all defaults".to_owned(), tame);
    if let Some(reload) = &status.last_reload {
        let ago = screen.clock.ago(reload.timestamp);
        match &reload.error {
            _ if reload.success => text.push_str(&format!(" (read again {ago})")),
            error => {
                let failed =
                    format!("reload failed {ago}: {}", tame(error.as_deref().unwrap_or("no reason was given")));
                text.push_str(&format!("\n{}", screen.style.paint(Paint::Bad, &failed)));
            }
        }
        if !reload.restart_needed.is_empty() {
            let sections =
                reload.restart_needed.iter().map(|section| format!("[{}]", tame(section))).collect::<Vec<_>>();
            let text_needed = format!("{} changed and need a restart", sections.join(", "));
            text.push_str(&format!("\n{}", screen.style.paint(Paint::Warning, &text_needed)));
        }
    }
    text
}

/// Shows the versions.
pub(crate) async fn version(control: Option<Arc<dyn Control>>, screen: &Screen) -> Done<()> {
    let status = match &control {
        Some(control) => control.status().await.ok(),
        None => None,
    };
    let own = env!("CARGO_PKG_VERSION");
    let service = status.as_ref().map(|status| status.version.as_str());
    let value: Value = json!({ "peernixctl": own, "peernixd": service });
    screen.show(&value, || {
        let mut text = format!("peernixctl {own}\n");
        match &status {
            Some(status) => {
                text.push_str(&format!("peernixd {}\n", tame(&status.version)));
                if !status.features.is_empty() {
                    let number = status.features.len() as u64;
                    text.push_str(&format!("{}: {}\n", count(number, "feature"), tame(&status.features.join(", "))));
                }
            }
            None => text.push_str("peernixd does not run\n"),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::{kept, unkept};

    #[test]
    fn a_service_that_is_down_is_a_result_with_exit_code_3() {
        let error = ControlError::new(ErrorKind::NotRunning, "peernixd does not run: nobody listens");
        let unit = systemd::Unit {
            active_state: "failed".to_owned(),
            sub_state: "failed".to_owned(),
            result: "exit-code".to_owned(),
            exit_status: "69".to_owned(),
            ..systemd::Unit::default()
        };
        let (screen, out) = kept(crate::cli::output::JsonForm::Off);
        let failure = down(&error, Some(&unit), &screen).unwrap_err();
        assert!(matches!(failure, VerbError::Ended(exit::NOT_RUNNING)));
        assert_eq!(
            unkept(&out),
            "× peernixd does not run\n  Reason: peernixd does not run: nobody listens\n    Unit: failed (failed); result: \
             exit-code, exit code 69 (a port is taken)\n"
        );
        let (screen, out) = kept(crate::cli::output::JsonForm::Short);
        down(&error, Some(&unit), &screen).unwrap_err();
        let value: Value = serde_json::from_str(&unkept(&out)).unwrap();
        assert_eq!((&value["state"], &value["unit"]["result"]), (&json!("failed"), &json!("exit-code")));
        let (screen, out) = kept(crate::cli::output::JsonForm::Short);
        down(&error, None, &screen).unwrap_err();
        assert_eq!(serde_json::from_str::<Value>(&unkept(&out)).unwrap()["state"], "stopped");
    }
}

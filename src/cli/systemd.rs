//! What systemd knows of the service when the service itself cannot be asked.

use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// The unit of the service.
pub(super) const UNIT: &str = "peernix.service";
/// The runtime directory of the unit.
pub(super) const RUNTIME_DIRECTORY: &str = "/run/peernix";
/// How long `systemctl` may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is asked about the unit.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,StatusText,NRestarts,\
                          ActiveEnterTimestamp,InactiveEnterTimestamp";

/// The unit as systemd has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unit {
    /// `loaded`, or `not-found`.
    pub(super) load_state: String,
    /// `active`, `inactive`, `failed`, …
    pub(super) active_state: String,
    /// `running`, `dead`, `auto-restart`, …
    pub(super) sub_state: String,
    /// How it ended: `success`, `exit-code`, `signal`, `watchdog`, …
    pub(super) result: String,
    /// The code or signal that its process ended with.
    pub(super) exit_status: String,
    /// Whether that was a signal.
    pub(super) signalled: bool,
    /// The last line that it showed in `systemctl status`.
    pub(super) status_text: String,
    /// When it ended, in systemd's words.
    pub(super) since: String,
}

impl Unit {
    /// Whether it was started in vain, although systemd may try again.
    pub(super) fn cannot_start(&self) -> bool {
        self.active_state == "failed" || self.sub_state.starts_with("auto-restart")
    }

    /// The words of systemd for it, in one line.
    pub(super) fn told(&self) -> String {
        let mut text = format!("{} ({})", self.active_state, self.sub_state);
        if !self.since.is_empty() && self.active_state != "active" {
            text.push_str(&format!(" since {}", self.since));
        }
        if !matches!(self.result.as_str(), "" | "success") {
            text.push_str(&format!("; result: {}", self.result));
            match (self.signalled, self.exit_status.as_str()) {
                (_, "" | "0") => {}
                (true, signal) => text.push_str(&format!(", signal {signal}")),
                (false, status) => text.push_str(&format!(", exit code {status}{}", meaning(status))),
            }
        }
        text
    }

    fn read(text: &str) -> Self {
        let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |name: &str| values.get(name).copied().unwrap_or_default().to_owned();
        Self {
            load_state: value("LoadState"),
            active_state: value("ActiveState"),
            sub_state: value("SubState"),
            result: value("Result"),
            exit_status: value("ExecMainStatus"),
            // CLD_KILLED and CLD_DUMPED; 1 is CLD_EXITED.
            signalled: matches!(values.get("ExecMainCode"), Some(&("2" | "3"))),
            status_text: value("StatusText"),
            since: value("InactiveEnterTimestamp"),
        }
    }
}

/// What an exit code of `peernixd` says; see [`super::exit`].
fn meaning(status: &str) -> &'static str {
    match status {
        "64" => " (usage)",
        "69" => " (a port is taken)",
        "73" => " (a directory cannot be made)",
        "77" => " (a file that its user may not use)",
        "78" => " (wrong configuration)",
        _ => "",
    }
}

/// The unit, where systemd runs and knows it.
pub(super) async fn unit() -> Option<Unit> {
    let text = systemctl(&["show", UNIT, "--property", PROPERTIES]).await?;
    Some(Unit::read(&text)).filter(|unit| unit.load_state == "loaded")
}

/// Whether systemd has the unit and does not run it.
pub(super) async fn is_stopped() -> bool {
    unit().await.is_some_and(|unit| matches!(unit.active_state.as_str(), "inactive" | "failed"))
}

/// What `systemctl` prints, whatever its exit code; `None` where systemd does not run.
pub(super) async fn systemctl(arguments: &[&str]) -> Option<String> {
    // The test of sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    output(Command::new("systemctl").args(arguments)).await
}

/// What a program prints on stdout; `None` if it cannot be run or takes too long.
pub(super) async fn output(command: &mut Command) -> Option<String> {
    let run = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(TIMEOUT, run).await.ok()?.ok()?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_in_one_line() {
        let unit = Unit::read(
            "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=78\n\
             InactiveEnterTimestamp=Fri 2026-11-20 14:03:22 UTC\n",
        );
        assert_eq!(
            unit.told(),
            "failed (failed) since Fri 2026-11-20 14:03:22 UTC; result: exit-code, exit code 78 (wrong configuration)"
        );
        let unit = Unit::read("ActiveState=failed\nSubState=failed\nResult=signal\nExecMainCode=2\nExecMainStatus=9\n");
        assert_eq!(unit.told(), "failed (failed); result: signal, signal 9");
        assert!(unit.cannot_start());
        assert!(Unit::read("ActiveState=activating\nSubState=auto-restart\n").cannot_start());
        assert!(!Unit::read("ActiveState=activating\nSubState=start\n").cannot_start());
        let unit = Unit::read("ActiveState=inactive\nSubState=dead\nResult=success\n");
        assert_eq!(unit.told(), "inactive (dead)");
    }
}

//! `peernixctl doctor`: looks whether all is set up as it should be, from the bottom of the ladder to its top, and says what to do.

pub(crate) mod catalog;
mod check;
mod firewall;
mod machine;
mod nix_daemon;
mod permissions;
mod substituters;
mod trust;

use crate::cli::client;
use crate::cli::connect::{self, Route};
use crate::cli::error::{Done, VerbError};
use crate::cli::nix_memory::is_gateway;
use crate::cli::output::{Cell, Paint, Screen, count, latency, tame};
use crate::cli::{exit, systemd};
use crate::config::Config;
use crate::control::{
    Control, ErrorKind, Finding, Outcome, PeerFilter, ServiceState, Status, TrustedKey, microseconds,
};
use crate::system::directories::Directories;
use check::{Check, Verdict};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::process::Command;

/// The state directory of the unit.
const STATE_DIRECTORY: &str = "/var/lib/peernix";
/// Its cache directory.
const CACHE_DIRECTORY: &str = "/var/cache/peernix";
/// The units that are to be enabled; the sockets may be left out where nobody wants them.
const UNITS: [&str; 5] =
    [systemd::UNIT, "peernix-gateway.socket", "peernix-share.socket", "peernix-varlink.socket", "peernix-admin.socket"];
/// How long the gateway may take.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(5);
/// One that takes longer than this is slow.
const GATEWAY_SLOW: Duration = Duration::from_millis(100);
/// Nix should remember for no longer than this that a path is nowhere, in seconds.
const MISSES_REMEMBERED: u64 = 300;
/// The largest nix-cache-info, in bytes.
const CACHE_INFO_MAX: usize = 4096;

/// Looks at everything, and fails if something is broken.
pub(crate) async fn run(reached: Outcome<Arc<dyn Control>>, route: &Route, screen: &Screen) -> Done<()> {
    let local = route.host.is_none();
    let unit = if local { systemd::unit().await } else { None };
    let mut checks = Vec::new();
    let control = reached.as_ref().ok().cloned();
    let status = service(reached, &mut checks).await;
    // Of a service that answers.
    let control = control.filter(|_| status.is_some());
    let trusted = match &control {
        Some(control) => control.trusted_keys().await.ok(),
        None => None,
    };
    if let Some(control) = &control {
        peers(&**control, &mut checks).await;
    }
    if local {
        let state = state_directory(unit.is_some());
        machine::network(&mut checks);
        firewall(status.as_ref(), &mut checks).await;
        machine::disks(&places(&state, status.as_ref()), &mut checks);
        machine::memory(&mut checks);
        configuration(status.as_ref(), trusted.as_deref(), &mut checks);
        gateway(status.as_ref(), &mut checks).await;
        nix(status.as_ref(), &mut checks).await;
        nix_daemon::answers(unit.is_some(), &mut checks);
        permissions::secrets(&state, &mut checks);
        // Where the service is down, that is what is wrong.
        if status.is_some() {
            interfaces(&mut checks).await;
        }
        if unit.is_some() {
            permissions::sockets(&mut checks);
            machine::files(&mut checks).await;
        }
        units(unit.is_some(), &mut checks).await;
    }
    screen.show(&checks, || render(&checks, screen))?;
    if checks.iter().any(|check| check.result == Verdict::Fail) { Err(VerbError::Ended(exit::FAILURE)) } else { Ok(()) }
}

async fn service(reached: Outcome<Arc<dyn Control>>, checks: &mut Vec<Check>) -> Option<Status> {
    const CHECK: &str = "service";
    let asked = match reached {
        Ok(control) => control.status().await,
        Err(error) => Err(error),
    };
    let status = match asked {
        Ok(status) => status,
        Err(error) => {
            let remedy = match error.kind {
                ErrorKind::NotRunning => {
                    "start it with `systemctl start peernix`; `journalctl -u peernix -e` tells why it is down"
                }
                ErrorKind::AccessDenied => "run this as root",
                _ => "`peernixctl status` and `journalctl -u peernix -e` may tell more",
            };
            checks.push(Check::fail(CHECK, Finding::ServiceDown, error.to_string(), remedy));
            return None;
        }
    };
    if status.state == ServiceState::Running && status.problems.is_empty() {
        checks.push(Check::ok(CHECK, format!("peernixd {} runs on {}", status.version, status.host_name)));
    } else if status.problems.is_empty() {
        checks.push(Check::warn(
            CHECK,
            Finding::ServiceBusy,
            format!("peernixd is {}", status.state),
            "`peernixctl status` tells more",
        ));
    }
    for (number, problem) in status.problems.iter().enumerate() {
        checks.push(of_service(status.problem_codes.get(number).map(String::as_str), problem));
    }
    let reload = status.last_reload.as_ref();
    if let Some(reload) = reload.filter(|reload| !reload.success) {
        let reason = reload.error.as_deref().unwrap_or("no reason was given");
        let remedy = "put the file right and run `peernixctl reload`; until then the configuration before is in force";
        checks.push(Check::fail("reload", Finding::ReloadFailed, format!("the last one failed: {reason}"), remedy));
    }
    if let Some(reload) = reload.filter(|reload| !reload.restart_needed.is_empty()) {
        let message = format!("changes in {} are not in force yet", reload.restart_needed.join(", "));
        checks.push(Check::warn("reload", Finding::RestartNeeded, message, "`systemctl restart peernix`"));
    }
    Some(status)
}

/// What the service says itself. A newer one may have a word that is not known here.
fn of_service(code: Option<&str>, problem: &str) -> Check {
    const CHECK: &str = "service";
    match code.and_then(|code| code.parse::<Finding>().ok()) {
        Some(finding) => Check::warn(CHECK, finding, problem, catalog::about(finding).remedy),
        None => Check {
            result: Verdict::Warn,
            code: code.map(str::to_owned),
            remedy: Some("`journalctl -u peernix -e` tells more".to_owned()),
            ..Check::ok(CHECK, problem)
        },
    }
}

/// Who is out there.
async fn peers(control: &dyn Control, checks: &mut Vec<Check>) {
    const CHECK: &str = "peers";
    let Ok(peers) = control.peers(PeerFilter::default()).await else { return };
    let online: Vec<_> = peers.iter().filter(|peer| peer.state == "online").collect();
    let own = env!("CARGO_PKG_VERSION");
    let others = online.iter().filter(|peer| !peer.version.is_empty() && peer.version != own).count();
    let versions = if others > 0 { format!(", {others} of another version than {own}") } else { String::new() };
    checks.push(Check::ok(CHECK, format!("{} known, {} online{versions}", peers.len(), online.len())));
}

/// Whether a firewall is in the way of what the service does.
async fn firewall(status: Option<&Status>, checks: &mut Vec<Check>) {
    let share = status.and_then(|status| status.listen.share.as_deref());
    let share = share.and_then(|address| address.rsplit_once(':')?.1.parse().ok());
    let file = status.and_then(|status| status.configuration.as_ref()).map(PathBuf::from);
    let mdns = Config::load(file.as_deref()).is_ok_and(|config| config.discovery.mdns);
    firewall::look(share, mdns, checks).await;
}

/// Where the service writes, and where the store is.
fn places(state: &Path, status: Option<&Status>) -> Vec<PathBuf> {
    let store = status.map_or("/nix/store", |status| status.store_dir.as_str());
    [state.to_owned(), CACHE_DIRECTORY.into(), store.into()].into_iter().filter(|place| place.is_dir()).collect()
}

fn configuration(status: Option<&Status>, trusted: Option<&[TrustedKey]>, checks: &mut Vec<Check>) {
    const CHECK: &str = "configuration";
    let file = status.and_then(|status| status.configuration.as_ref()).map(PathBuf::from);
    match Config::load(file.as_deref()) {
        Ok(config) => {
            let origin = config.origin.as_ref();
            let origin = origin
                .map_or_else(|| "no file, all defaults".to_owned(), |file| format!("{} is right", file.display()));
            checks.push(Check::ok(CHECK, origin));
            checks.extend(trust::judge(&config.trusted_keys(), trusted));
        }
        Err(error) => {
            let remedy = "`peernixd --check-config` tries the file again";
            checks.push(Check::fail(CHECK, Finding::ConfigurationWrong, error.to_string(), remedy));
        }
    }
}

/// The address of the gateway.
fn listens(status: &Status) -> Option<&str> {
    status.listen.gateway.as_deref().map(|url| url.trim_start_matches("http://").trim_end_matches('/'))
}

async fn gateway(status: Option<&Status>, checks: &mut Vec<Check>) {
    const CHECK: &str = "gateway";
    let Some(status) = status else { return };
    let Some(address) = listens(status).and_then(|address| address.parse().ok()) else {
        let message = "it is off: this machine's Nix cannot ask it";
        checks.push(Check::warn(CHECK, Finding::GatewayOff, message, "set [gateway] listen"));
        return;
    };
    let ask = client::get(address, "/nix-cache-info", CACHE_INFO_MAX);
    let remedy =
        "`journalctl -u peernix -e` may tell why; `systemctl status peernix-gateway.socket` whether systemd listens";
    let begun = Instant::now();
    let answer = tokio::time::timeout(GATEWAY_TIMEOUT, ask).await;
    let took = begun.elapsed();
    let shown = latency(microseconds(took));
    checks.push(match answer {
        Ok(Ok(_)) if took <= GATEWAY_SLOW => Check::ok(CHECK, format!("http://{address} answers in {shown}")),
        Ok(Ok(_)) => {
            let message = format!("http://{address} takes {shown} to answer");
            Check::warn(
                CHECK,
                Finding::GatewaySlow,
                message,
                "look what keeps this machine busy: `top`, `systemctl status peernix`",
            )
        }
        Ok(Err(error)) => Check::fail(CHECK, Finding::GatewaySilent, error.to_string(), remedy),
        Err(_) => Check::fail(CHECK, Finding::GatewaySilent, format!("http://{address} does not answer"), remedy),
    });
}

/// What is looked at about Nix.
const NIX: &str = "nix";

/// Whether this machine's Nix knows the gateway, and finds it there.
async fn nix(status: Option<&Status>, checks: &mut Vec<Check>) {
    let Some(settings) = nix_settings().await else {
        checks.push(Check::skip(NIX, "Nix does not say how it is configured"));
        return;
    };
    let gateway = status.and_then(listens).unwrap_or(crate::config::GATEWAY_LISTEN);
    let connect = tokio::time::timeout(GATEWAY_TIMEOUT, TcpStream::connect(gateway));
    let reached = matches!(connect.await, Ok(Ok(_)));
    checks.extend(judge_nix(&settings, gateway, reached));
    substituters::look(setting(&settings, "substituters").unwrap_or_default(), gateway, checks).await;
}

/// What Nix's settings mean while the gateway can be `reached` or not.
fn judge_nix(settings: &str, gateway: &str, reached: bool) -> Vec<Check> {
    let mut checks = vec![match (asks(setting(settings, "substituters").unwrap_or_default(), gateway), reached) {
        (true, true) => Check::ok(NIX, format!("http://{gateway} is one of its substituters")),
        // Whatever the reason: a Nix that has seen it ends with an error, or loses a quarter of a minute with each path.
        (true, false) => Check::fail(
            NIX,
            Finding::NixGatewayGone,
            format!("it asks http://{gateway}, where nobody listens, and does not go on without it"),
            format!(
                "start what listens there (`systemctl start peernix-gateway.socket peernix.service`), or take \
                 http://{gateway} out of nix.conf and restart nix-daemon (NixOS: services.peernix.configureNix = false)"
            ),
        ),
        (false, _) => Check::fail(
            NIX,
            Finding::NixNotAsking,
            format!("http://{gateway} is none of its substituters"),
            format!(
                "add `extra-substituters = http://{gateway}` to /etc/nix/nix.conf (NixOS: services.peernix.configureNix = true)"
            ),
        ),
    }];
    if setting(settings, "substitute") == Some("false") {
        checks.push(Check::warn(
            NIX,
            Finding::NixFetchesNothing,
            "it does not fetch at all (substitute = false)",
            "set `substitute = true` in nix.conf",
        ));
    }
    let remembered = setting(settings, "narinfo-cache-negative-ttl").and_then(|seconds| seconds.parse::<u64>().ok());
    if let Some(seconds) = remembered.filter(|seconds| *seconds > MISSES_REMEMBERED) {
        checks.push(Check::warn(
            NIX,
            Finding::NixRemembersMisses,
            format!("it remembers for {seconds} s that nobody had a path"),
            "set `narinfo-cache-negative-ttl = 60` in nix.conf and restart nix-daemon",
        ));
    }
    checks
}

/// Whether `gateway` is one of `substituters`.
fn asks(substituters: &str, gateway: &str) -> bool {
    substituters.split_whitespace().any(|url| is_gateway(url, gateway))
}

/// What Nix says of its settings, `name = value` a line.
async fn nix_settings() -> Option<String> {
    // The first is the form of Nix 2.20 and later, the second that of all before.
    for verb in [&["config", "show"][..], &["show-config"]] {
        let mut command = Command::new("nix");
        command.args(["--extra-experimental-features", "nix-command"]).args(verb).stderr(std::process::Stdio::null());
        if let Some(text) = systemd::output(&mut command).await
            && setting(&text, "substituters").is_some()
        {
            return Some(text);
        }
    }
    None
}

fn setting<'a>(settings: &'a str, name: &str) -> Option<&'a str> {
    settings.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
}

fn state_directory(system: bool) -> PathBuf {
    let own = Directories::find().map(|directories| directories.state);
    if system { STATE_DIRECTORY.into() } else { own.unwrap_or_else(|_| STATE_DIRECTORY.into()) }
}

async fn interfaces(checks: &mut Vec<Check>) {
    checks.push(match connect::on_the_bus().await {
        Ok(true) => Check::ok("D-Bus", "the service is on the system bus"),
        Ok(false) => Check::warn(
            "D-Bus",
            Finding::BusMissing,
            "the service is not on the system bus",
            "look whether share/dbus-1/system.d/org.peernix.Peernix1.conf is installed where the bus reads it",
        ),
        Err(error) => Check::skip("D-Bus", error.to_string()),
    });
    checks.push(match connect::sockets() {
        found if found.is_empty() => Check::warn(
            "Varlink",
            Finding::VarlinkMissing,
            "there is no socket of the service",
            "`systemctl enable --now peernix-varlink.socket peernix-admin.socket`",
        ),
        found => {
            let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            Check::ok("Varlink", names.join(", "))
        }
    });
}

async fn units(loaded: bool, checks: &mut Vec<Check>) {
    const CHECK: &str = "units";
    if !loaded {
        checks.push(Check::skip(CHECK, "systemd does not know peernix.service"));
        return;
    }
    let mut good = 0;
    for unit in UNITS {
        let state = systemd::systemctl(&["show", unit, "--property", "UnitFileState", "--value"]).await;
        match state.as_deref().map(str::trim) {
            Some(
                "enabled" | "enabled-runtime" | "static" | "linked" | "linked-runtime" | "generated" | "alias"
                | "indirect",
            ) => {
                good += 1;
            }
            Some("masked" | "masked-runtime") => {
                // Nobody masks a unit by accident. NixOS does so when other addresses have a socket of their own.
                checks.push(Check::skip(CHECK, format!("{unit} is masked: what it listens on is left to others")));
            }
            Some("disabled") => {
                let message = format!("{unit} is disabled and does not come up with the machine");
                let remedy = format!("`systemctl enable --now {unit}`");
                checks.push(Check::warn(CHECK, Finding::UnitDisabled, message, remedy));
            }
            _ => {
                let message = format!("{unit} is not installed");
                let remedy = "`make install` puts every unit in its place";
                checks.push(Check::warn(CHECK, Finding::UnitMissing, message, remedy));
            }
        }
    }
    if good > 0 {
        checks.push(Check::ok(CHECK, format!("{} enabled", count(good, "unit"))));
    }
}

fn render(checks: &[Check], screen: &Screen) -> String {
    let mut table = crate::cli::output::Table::new(&["", "CHECK", "RESULT"]);
    let mut remedies = Vec::new();
    for check in checks {
        let (dot, paint) = match check.result {
            Verdict::Ok => ("✓", Paint::Good),
            Verdict::Warn => ("!", Paint::Warning),
            Verdict::Fail => ("✗", Paint::Bad),
            Verdict::Skip => ("-", Paint::Faint),
        };
        table.row(vec![Cell::new(dot).paint(paint), Cell::new(check.check), Cell::new(&check.message)]);
        remedies.extend(check.remedy.as_ref().map(|remedy| (check, remedy)));
    }
    let mut text = table.render(screen.style, None, false);
    if !remedies.is_empty() {
        text.push_str("\nWhat to do:\n");
    }
    for (check, remedy) in remedies {
        let word = check.code.as_deref().unwrap_or(check.check);
        text.push_str(&format!("  {}: {}\n", tame(word), tame(remedy)));
    }
    let number = |verdict| checks.iter().filter(|check| check.result == verdict).count();
    if screen.legend && !screen.quiet {
        let (ok, warn, fail) = (number(Verdict::Ok), number(Verdict::Warn), number(Verdict::Fail));
        text.push_str(&format!("\n{ok} ok, {warn} to look at, {fail} wrong.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_nix_are_read() {
        let text = "substitute = true\nsubstituters = http://127.0.0.1:7649 https://cache.nixos.org/\n";
        assert_eq!(setting(text, "substituters"), Some("http://127.0.0.1:7649 https://cache.nixos.org/"));
        assert_eq!(setting(text, "sub"), None);
    }

    #[test]
    fn what_nix_remembers_for_long_is_told() {
        let judged = |seconds: u64| {
            let text = format!("substituters = http://127.0.0.1:7649\nnarinfo-cache-negative-ttl = {seconds}\n");
            judge_nix(&text, "127.0.0.1:7649", true).len()
        };
        assert_eq!((judged(300), judged(3600)), (1, 2));
    }

    #[test]
    fn words_of_a_newer_service_are_passed_on() {
        let known = of_service(Some("disk-full"), "x");
        assert_eq!((known.code.as_deref(), known.result), (Some("disk-full"), Verdict::Warn));
        assert!(known.remedy.unwrap().contains("nix-collect-garbage"));
        assert_eq!(of_service(Some("moon-full"), "x").code.as_deref(), Some("moon-full"));
        assert_eq!(of_service(None, "x").code, None);
    }

    #[test]
    fn a_gateway_that_nix_asks_and_that_is_gone_is_a_fault() {
        let text =
            "substituters = http://127.0.0.1:7649?retry-attempts=8 https://cache.nixos.org/\nsubstitute = true\n";
        let judged = |reached| judge_nix(text, "127.0.0.1:7649", reached);
        assert!(judged(true).iter().all(|check| check.result == Verdict::Ok));
        let [gone] = &judged(false)[..] else { panic!("one check") };
        assert_eq!((gone.result, gone.code.as_deref()), (Verdict::Fail, Some("nix-gateway-gone")));
        assert!(gone.remedy.as_ref().is_some_and(|remedy| remedy.contains("out of nix.conf")));
    }
}

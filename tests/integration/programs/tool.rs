//! `peernixctl` and the real service: what it shows, what it does, and how it ends.

use crate::support::LIMIT;
use crate::support::bus::{self, ANYTHING};
use crate::support::program::{program, told, with_environment_of};
use crate::support::service::{LONELY, Service};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// A store path that nobody has.
const PATH: &str = "/nix/store/00000000000000000000000000000000-nothing-1.0";

/// The tool with the home of a service.
fn tool(home: &Path) -> Command {
    program("peernixctl", home)
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&tool(home).args(arguments).output().unwrap())
}

fn json(home: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = run(home, &[arguments, &["--json=short"]].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    assert_eq!(out.lines().count(), 1, "{arguments:?}: {out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
}

#[test]
fn without_a_service_it_says_so_and_starts_none() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) = run(home.path(), &[]);
    assert_eq!(code, Some(3));
    assert!(out.starts_with("○ peernixd does not run\n") && err.contains("systemctl start peernix"), "{out}{err}");
    assert!(err.contains("Before it is switched off for good, take its address out of nix.conf"), "{err}");
    let (code, out, err) = run(home.path(), &["status", "-j"]);
    assert_eq!((code, err.as_str()), (Some(3), ""));
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["state"], "stopped");
    for verb in [&["peers"][..], &["is-online", "tower"], &["monitor"], &["reload"], &["query", PATH]] {
        let (code, out, err) = run(home.path(), verb);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{verb:?}");
        assert!(err.starts_with("Failed to ") && err.contains("does not run"), "{verb:?}: {err}");
    }
    // Who presses Tab is not bothered.
    assert_eq!(run(home.path(), &["__complete", "peers"]), (Some(0), String::new(), String::new()));
    assert_eq!(run(home.path(), &["version", "-j"]).0, Some(0));
}

#[test]
fn every_verb_in_json() {
    let service = Service::start(LONELY, |_| {});
    let home = service.home();
    let status = json(home, &["status"]);
    let gateway = format!("http://{}", service.address("gateway").unwrap());
    assert_eq!(status["listen"]["gateway"].as_str(), Some(gateway.as_str()));
    assert_eq!(status["nodeId"].as_str().unwrap().len(), 52);
    assert_eq!(json(home, &["version"])["peernixd"], env!("CARGO_PKG_VERSION"));
    // What is so already is no error.
    assert_eq!(json(home, &["unpin", PATH])["changed"], false);
    for list in [&["peers"][..], &["peers", "list", "--state", "online"], &["jobs"], &["pins"]] {
        assert_eq!(json(home, list), Value::Array(Vec::new()), "{list:?}");
    }
    assert_eq!(json(home, &["peers", "refresh"])["changed"], true);
    assert_eq!(json(home, &["peers", "add", "127.0.0.1:1"])["changed"], true);
    assert_eq!(json(home, &["peers", "add", "127.0.0.1:1"])["changed"], false);
    assert!(json(home, &["keys"]).is_array());
    assert!(json(home, &["keys", "export"]).is_array());
    assert!(!json(home, &["trust"]).as_array().unwrap().is_empty());
    assert!(json(home, &["stats"])["sinceTimestamp"].as_u64().is_some());
    assert_eq!(json(home, &["stats", "reset"])["changed"], true);
    assert_eq!(json(home, &["drain", "--for", "1h"])["changed"], true);
    assert_eq!(json(home, &["status"])["state"], "draining");
    assert_eq!(json(home, &["undrain"])["changed"], true);
    assert_eq!(json(home, &["undrain"])["changed"], false);
    assert_eq!(json(home, &["reload"])["success"], true);
    assert_eq!(json(home, &["log-level", "debug"])["logLevel"], "debug");
    assert_eq!(json(home, &["log-level"])["logLevel"], "debug");
    let (_, out, _) = run(home, &["doctor", "--json=short"]);
    let checks: Value = serde_json::from_str(&out).unwrap();
    let gateway = checks.as_array().unwrap().iter().find(|check| check["check"] == "gateway").unwrap();
    assert_eq!(gateway["result"], "ok", "{checks:#}");
}

#[test]
fn exit_codes() {
    let mut service = Service::start(LONELY, |_| {});
    let home = service.home().to_owned();
    let failed = |arguments: &[&str], code: i32, words: &str| {
        let (ended, out, err) = run(&home, arguments);
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    };
    assert_eq!(run(&home, &["status"]).0, Some(0));
    std::fs::write(service.config(), "[gateway]\nlisten = \"nowhere\"\n").unwrap();
    failed(&["reload"], 1, "Failed to reload the configuration: ");
    std::fs::write(service.config(), LONELY).unwrap();
    // The service of these tests has no store.
    failed(&["query", PATH], 1, "Failed to query ");
    failed(&["query", "nonsense"], 2, "neither a store path nor a link");
    failed(&["peers", "add", "nonsense"], 2, "Failed to add 'nonsense': ");
    failed(&["peers", "show", "nobody"], 4, "peernixctl peers");
    failed(&["is-online", "nobody"], 4, "Failed to look at peer 'nobody': ");
    failed(&["jobs", "show", "77"], 4, "Failed to show job 77: ");
    // One who may only ask.
    let asking = home.join("asking");
    std::fs::create_dir(&asking).unwrap();
    std::os::unix::fs::symlink(home.join("run/org.peernix"), asking.join("org.peernix")).unwrap();
    let denied = told(&tool(&home).env("RUNTIME_DIRECTORY", &asking).arg("drain").output().unwrap());
    assert_eq!((denied.0, denied.1.as_str()), (Some(5), ""), "{}", denied.2);
    assert!(
        denied.2.starts_with("Failed to drain the service: ") && denied.2.contains("peernix-admin"),
        "{}",
        denied.2
    );
    let asked = told(&tool(&home).env("RUNTIME_DIRECTORY", &asking).args(["peers", "--json"]).output().unwrap());
    assert_eq!(asked.0, Some(0), "{}", asked.2);
    assert!(service.stop().success());
    failed(&["peers"], 3, "systemctl start peernix");
}

/// A monitor and its lines.
fn monitor(home: &Path, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut child = tool(home).arg("monitor").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (child, lines)
}

#[test]
fn a_monitor_tells_and_ends_in_peace() {
    let mut service = Service::start(LONELY, |_| {});
    let home = service.home().to_owned();
    let next = |lines: &mpsc::Receiver<String>| -> Value {
        serde_json::from_str(&lines.recv_timeout(LIMIT).unwrap()).unwrap()
    };
    let (mut child, lines) = monitor(&home, &["--json", "--kind", "drain-changed"]);
    let ready = next(&lines);
    assert_eq!(ready["ready"], true);
    json(&home, &["drain"]);
    let event = next(&lines);
    assert_eq!(
        (&event["kind"], event["cursor"].as_u64() > ready["cursor"].as_u64()),
        (&Value::from("drain-changed"), true)
    );
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Another one goes on where that one was, and ends with the service.
    let cursor = ready["cursor"].as_u64().unwrap().to_string();
    let (mut child, lines) = monitor(&home, &["--json", "--after", &cursor]);
    assert_eq!(next(&lines)["ready"], true);
    assert_eq!(next(&lines)["kind"], "drain-changed");
    assert!(service.stop().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn over_ssh_it_speaks_through_the_tool_of_the_other_machine() {
    let service = Service::start(LONELY, |_| {});
    let home = service.home();
    // What ssh does, without the network: the words after the host are a command line there.
    let bin = home.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let ssh = bin.join("ssh");
    std::fs::write(
        &ssh,
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\n[ \"$2\" = elsewhere ] || exit 255\nshift 2\nexec \"$@\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_peernixctl"), bin.join("peernixctl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let far = |arguments: &[&str]| {
        told(&tool(home).env("PATH", &path).args(["-H", "elsewhere"]).args(arguments).output().unwrap())
    };
    let (code, out, err) = far(&["status", "--json=short"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["state"], json(home, &["status"])["state"]);
    let (code, out, err) = far(&["status"]);
    assert!(code == Some(0) && out.starts_with("● "), "two calls on one connection: {out}{err}");
    assert_eq!(far(&["peers", "show", "nobody"]).0, Some(4));
}

#[test]
fn on_a_terminal_there_are_colours_unless_somebody_objects() {
    let service = Service::start(LONELY, |_| {});
    let home = service.home();
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no script(1) here to make a terminal");
        return;
    }
    let shown = |variable: &str| {
        let command = format!("{} status", env!("CARGO_BIN_EXE_peernixctl"));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null());
        let mut terminal = with_environment_of(script, &tool(home));
        told(&terminal.env(variable, "1").env("TERM", "xterm").output().unwrap()).1
    };
    assert!(shown("UNRELATED").contains("\u{1b}["));
    let plain = shown("NO_COLOR");
    assert!(plain.contains("● ") && !plain.contains('\u{1b}'), "{plain}");
}

#[test]
fn completions_are_written_for_each_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, err) = run(home.path(), &["completion", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(script.contains("peernixctl"), "{shell}: {script}");
        assert_eq!(run(home.path(), &["completions", shell]).1, script);
    }
}

#[test]
fn on_the_bus_everything_is_the_same() {
    if !bus::is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _bus = bus::start(directory.path(), "system", "bus", ANYTHING);
    let address = bus::address(directory.path(), "bus");
    let mut service = Service::start_on(&address);
    let home = service.home().to_owned();
    let way = |way: &str, arguments: &[&str]| {
        let mut tool = tool(&home);
        tool.env("DBUS_SYSTEM_BUS_ADDRESS", &address).arg(format!("--transport={way}"));
        told(&tool.args(arguments).output().unwrap())
    };
    for verb in [&["status", "--json"][..], &["peers", "--json"], &["keys", "-j"], &["trust", "-j"], &["log-level"]] {
        let (over_bus, over_socket) = (way("dbus", verb), way("varlink", verb));
        assert_eq!((over_bus.0, over_bus.2.as_str()), (Some(0), ""), "{verb:?}");
        assert_eq!(over_bus, over_socket, "{verb:?}");
        assert_eq!(way("auto", verb), over_bus, "{verb:?}");
    }
    assert_eq!(way("dbus", &["peers", "show", "nobody"]).0, Some(4));
    assert_eq!(way("dbus", &["undrain"]).0, Some(0));
    assert!(service.stop().success());
    let (code, _, err) = way("dbus", &["peers"]);
    assert!(code == Some(3) && err.contains("system bus"), "{err}");
}

//! What the programs say and with which code they end, before anything runs.

use crate::running::{LONELY, Service, program};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

fn run(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let home = tempfile::tempdir().unwrap();
    told(&program(name, home.path()).args(arguments).output().unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage() {
    let version = concat!("peernixd ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
    assert_eq!(run("peernixd", &["--version"]), (Some(0), version, String::new()));
    assert_eq!(run("peernixd", &["--bogus"]).0, Some(64));
    assert_eq!(run("peernixctl", &["--bogus"]).0, Some(2));
    for name in ["peernixd", "peernixctl"] {
        let (code, out, err) = run(name, &["--help"]);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("Exit codes:"), "{out}");
    }
}

#[test]
fn the_default_configuration_is_the_documented_one_and_right() {
    let (code, printed, _) = run("peernixd", &["--print-default-config"]);
    assert_eq!((code, printed.as_str()), (Some(0), include_str!("../../docs/config.example.toml")));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, printed).unwrap();
    let (code, out, err) = run("peernixd", &["--check-config", "--config", file.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("ok: {}\n", file.display())), "{out}");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_all_problems() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[gateway]\nlisten = \"everywhere\"\n[log]\nlevel = \"loud\"\n").unwrap();
    for arguments in [&["--check-config", "--config"][..], &["--config"]] {
        let (code, out, err) = run("peernixd", &[arguments, &[file.to_str().unwrap()]].concat());
        assert_eq!((code, out.as_str()), (Some(78), ""));
        let at = |line: usize| format!("{}:{line}: ", file.display());
        let lines: Vec<&str> = err.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with(&at(2)) && lines[1].starts_with(&at(4)), "{err}");
    }
    let (code, _, err) = run("peernixd", &["--config", "/nonexistent/config.toml"]);
    assert_eq!(code, Some(78));
    assert!(err.contains("/nonexistent/config.toml: cannot be read"), "{err}");
}

#[test]
fn a_machine_keeps_its_identity() {
    let home = tempfile::tempdir().unwrap();
    let id = || told(&program("peernixd", home.path()).arg("--print-node-id").output().unwrap());
    let (code, first, _) = id();
    assert_eq!((code, first.trim_end().len()), (Some(0), 52));
    assert_eq!(id().1, first);
    let key = home.path().join("state/node.key").metadata().unwrap();
    assert_eq!((key.permissions().mode() & 0o777, key.len()), (0o600, 32));
}

#[test]
fn a_port_that_is_taken_ends_with_69_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.toml");
    std::fs::write(&file, LONELY.replacen("127.0.0.1:0", &address.to_string(), 1)).unwrap();
    let (code, _, err) = told(&program("peernixd", home.path()).arg("--config").arg(&file).output().unwrap());
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains(&format!("cannot listen on {address}")) && err.contains("[gateway] listen"), "{err}");
}

#[test]
fn the_tool_says_whether_the_service_runs() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for verb in ["status", "peers"] {
        let (code, out, err) = run("peernixctl", &[verb, "--gateway", &nobody]);
        assert_eq!((code, out.as_str()), (Some(3), ""));
        assert!(err.contains("does not run") && err.contains(&nobody), "{err}");
    }
    let mut service = Service::start(LONELY, |_| {});
    // Found by what the service wrote down, without being told.
    let home = service.home.path().to_owned();
    let tool = |arguments: &[&str]| told(&program("peernixctl", &home).args(arguments).output().unwrap());
    let (code, out, err) = tool(&["status"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains(&format!("http://{}", service.address("gateway").unwrap())), "{out}");
    let (code, out, _) = tool(&["status", "--json"]);
    let health: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, health["peers_online"].as_u64()), (Some(0), Some(0)));
    assert_eq!(tool(&["peers", "--json"]).1, "[]\n");
    assert!(service.stop().success());
    assert_eq!(tool(&["status"]).0, Some(3));
}

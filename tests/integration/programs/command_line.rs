//! What the programs say and with which code they end, before anything runs.

use crate::support::program::{program, told};
use crate::support::service::LONELY;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

fn run(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let home = tempfile::tempdir().unwrap();
    told(&program(name, home.path()).args(arguments).output().unwrap())
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
    assert_eq!((code, printed.as_str()), (Some(0), include_str!("../../../docs/config.example.toml")));
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
fn an_identity_may_come_as_a_credential() {
    let home = tempfile::tempdir().unwrap();
    let credentials = home.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    let id = || {
        let mut program = program("peernixd", home.path());
        told(&program.arg("--print-node-id").env("CREDENTIALS_DIRECTORY", &credentials).output().unwrap())
    };
    std::fs::write(credentials.join("node-key"), [7; 32]).unwrap();
    let expected = peernix::peers::NodeKey::from_seed([7; 32]).id();
    assert_eq!(id(), (Some(0), format!("{expected}\n"), String::new()));
    assert!(!home.path().join("state/node.key").exists(), "none is made");
    std::fs::write(credentials.join("node-key"), [7; 33]).unwrap();
    let (code, out, err) = id();
    assert_eq!((code, out.as_str()), (Some(70), ""));
    assert!(err.contains("'node-key' has 33 bytes") && err.contains("LoadCredential="), "{err}");
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

//! `peernixctl demo` does what the README says.

use crate::running::program;

fn demonstrate(arguments: &[&str]) -> serde_json::Value {
    let home = tempfile::tempdir().unwrap();
    let mut demo = program("peernixctl", home.path());
    // A directory of its own shows that nothing is left behind.
    let output = demo.args(["demo", "--json", "--size", "64MiB"]).args(arguments).env("TMPDIR", home.path()).output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stdout));
    let left: Vec<_> = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_machine_dies_and_nothing_is_lost() {
    let report = demonstrate(&["--no-nix"]);
    assert_eq!((report["ok"].as_bool(), report["paths"].as_u64()), (Some(true), Some(23)), "{report}");
    assert!(report["pause_ms"].as_u64().is_some_and(|pause| pause < 2000), "{report}");
    // Both machines sent something: the transfer was continued, not begun anew.
    let sent: Vec<u64> =
        report["sources"].as_array().unwrap().iter().map(|from| from["bytes"].as_u64().unwrap()).collect();
    let whole = report["nar_bytes"].as_u64().unwrap();
    assert!(sent.iter().all(|bytes| *bytes > 0) && sent.iter().sum::<u64>() < whole + whole / 4, "{report}");
}

#[test]
fn the_real_nix_notices_nothing() {
    if std::process::Command::new("nix-store").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no nix-store here; scripts/setup installs it");
        return;
    }
    let report = demonstrate(&[]);
    assert!(report["client"].as_str().unwrap().contains("Nix"), "{report}");
    assert_eq!((report["ok"].as_bool(), report["verified"].as_u64()), (Some(true), Some(23)), "{report}");
}

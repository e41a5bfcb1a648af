//! The demonstration does what the README says.

use super::machine::configuration;
use super::*;
use peernix::config::Config;
use peernix::nix::PublicKey;
use peernix::peers::NodeKey;

async fn demonstrate(arguments: &[&str]) -> serde_json::Value {
    let args = Args::try_parse_from([&["demo", "--size", "64MiB"], arguments].concat()).unwrap();
    // A directory of its own shows that nothing is left behind.
    let home = tempfile::tempdir().unwrap();
    let report = run(&args, home.path()).await.unwrap().unwrap();
    let left: Vec<_> = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    serde_json::to_value(report).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_dies_and_nothing_is_lost() {
    let report = demonstrate(&["--no-nix"]).await;
    assert_eq!((report["ok"].as_bool(), report["paths"].as_u64()), (Some(true), Some(23)), "{report}");
    assert!(report["pause_ms"].as_u64().is_some_and(|pause| pause < 2000), "{report}");
    // Both machines sent something: the transfer was continued, not begun anew.
    let sent: Vec<u64> =
        report["sources"].as_array().unwrap().iter().map(|from| from["bytes"].as_u64().unwrap()).collect();
    let whole = report["nar_bytes"].as_u64().unwrap();
    assert!(sent.iter().all(|bytes| *bytes > 0) && sent.iter().sum::<u64>() < whole + whole / 4, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn the_real_nix_notices_nothing() {
    if std::process::Command::new("nix-store").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no nix-store here; scripts/setup installs it");
        return;
    }
    let report = demonstrate(&[]).await;
    assert!(report["client"].as_str().unwrap().contains("Nix"), "{report}");
    assert_eq!((report["ok"].as_bool(), report["verified"].as_u64()), (Some(true), Some(23)), "{report}");
}

#[test]
fn sizes_are_bounded() {
    assert!(size("192MiB").is_ok());
    assert!(size("1MiB").is_err() && size("1PiB").is_err() && size("big").is_err());
}

#[test]
fn the_configuration_of_a_machine_is_sound() {
    let key: PublicKey = peernix::config::CACHE_NIXOS_ORG_KEY.parse().unwrap();
    let peer: FixedPeer = format!("{}@127.0.0.1:7", NodeKey::from_seed([1; 32]).id()).parse().unwrap();
    let (dir, store, peers) = (Path::new("/tmp"), Path::new("/tmp/a \"b\""), std::slice::from_ref(&peer));
    let plan = Plan { name: "alder", dir, store, key: &key, peers, plain: false, connections: None, level: "debug" };
    let text = configuration(&plan).unwrap();
    let config = Config::from_text(&text, None).unwrap();
    assert_eq!(config.store.root, Path::new("/tmp/a \"b\""));
    assert_eq!((config.discovery.peers, config.trust.public_keys), (vec![peer], Some(vec![key])));
    assert!(!config.discovery.mdns && config.gateway.upstreams.is_empty());
}

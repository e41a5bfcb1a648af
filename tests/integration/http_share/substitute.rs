//! The installed Nix and curl as clients of the plain share.

use crate::support::nix::NixStore;
use crate::support::{Running, serve};
use peernix::http::Limits;
use peernix::store::SharePolicyMode;
use std::path::Path;
use std::process::{Command, Output};

async fn plain(store: &NixStore) -> Running {
    let share = store.share(SharePolicyMode::Signed, 0).await;
    serve(share.plain(), Limits::share()).await
}

/// Runs a command on a thread that may wait for it.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// `nix copy` from the share into a store below `target`, signatures required.
async fn copy(store: &NixStore, server: &Running, names: &[&str], target: &Path) -> Output {
    let mut command = store.command("nix");
    command.args(["copy", "--refresh", "--from", &format!("http://{}", server.address), "--to"]).arg(target);
    command.args(["--option", "require-sigs", "true", "--option", "trusted-public-keys", &store.key.to_string()]);
    command.args(names.iter().map(|name| store.full(name)));
    output(command).await
}

fn stderr(output: &Output) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_copies_signed_paths() {
    let store = NixStore::shared();
    let server = plain(&store).await;
    let target = tempfile::tempdir().unwrap();
    let copied = copy(&store, &server, &["app", "debug"], target.path()).await;
    assert!(copied.status.success(), "{}", stderr(&copied));
    let mut verify = store.command("nix");
    verify.args(["store", "verify", "--all", "--store"]).arg(target.path());
    verify.args(["--option", "trusted-public-keys", &store.key.to_string()]);
    let verified = output(verify).await;
    assert!(verified.status.success(), "{}", stderr(&verified));
    for name in ["app", "dep", "debug"] {
        let real = target.path().join("nix/store").join(store.paths[name].to_string());
        let dumped = store.run("nix-store", &["--dump", real.to_str().unwrap()]);
        assert!(dumped.stdout == store.dump(name), "{name}");
    }
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(target.path()).status();
    let metrics = server.end().await;
    let requests: u64 = metrics.requests().map(|(_, _, count)| count).sum();
    assert!(metrics.connections.get() < requests, "connections are used again");
    assert!(metrics.requests().all(|(_, class, _)| class == "2xx" || class == "4xx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_is_not_given_what_is_not_shared() {
    let store = NixStore::shared();
    let server = plain(&store).await;
    for name in ["unsigned", "stranger", "denied"] {
        let target = tempfile::tempdir().unwrap();
        let copied = copy(&store, &server, &[name], target.path()).await;
        assert!(!copied.status.success() && stderr(&copied).contains("is required"), "{name}: {}", stderr(&copied));
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nix_reads_logs_and_listings() {
    let store = NixStore::shared();
    let server = plain(&store).await;
    let url = format!("http://{}", server.address);
    let mut log = store.command("nix");
    log.args(["log", "--store", &url, &store.full("dep")]);
    let log = output(log).await;
    assert_eq!(String::from_utf8_lossy(&log.stdout), "built dep\n", "{}", stderr(&log));
    let mut list = store.command("nix");
    list.args(["store", "ls", "--store", &url, "--json", "--recursive", &store.full("dep")]);
    let list = output(list).await;
    let json: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap_or_else(|_| panic!("{}", stderr(&list)));
    assert_eq!(json["entries"]["run"]["executable"], true, "{json}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_resumes() {
    let store = NixStore::shared();
    let server = plain(&store).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nar");
    let bytes = store.dump("app");
    std::fs::write(&file, &bytes[..1_234_567]).unwrap();
    let hash = store.nar_hash("app").to_nix32();
    let url = format!("http://{}/nar/{}-{hash}.nar", server.address, store.paths["app"].hash());
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "--compressed", "-C", "-", &url, "-o"]).arg(&file);
    let resumed = output(curl).await;
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(std::fs::read(&file).unwrap() == bytes);
    server.end().await;
}

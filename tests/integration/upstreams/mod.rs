//! Upstreams as people have them, and the real service before them: with logins, with keys, names and tiers of their own.

mod cache;
mod logins;
mod rules;

use crate::support::client::{Answer, Client};
use crate::support::internet::{Sample, key};
use crate::support::program::{program, told};
use crate::support::service::{LONELY, Service};
use std::path::{Path, PathBuf};

/// What no log, status or answer may show.
const SECRET: &str = "hunter2-is-the-secret";

/// A configuration with these upstreams, which trusts the key of the samples.
fn config(upstreams: &str) -> String {
    let trust = format!("[trust]\npublic_keys = [\"{}\"]\n[log]\nlevel = \"debug\"\n", key().public());
    LONELY.replace("upstreams = []", &format!("upstreams = [{upstreams}]")) + &trust
}

/// The file of the CA that issued the certificate of `cache`.
fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls").join(name)
}

/// A service with these upstreams and credentials.
fn start(upstreams: &str, credentials: &Path) -> Service {
    Service::start(&config(upstreams), |command| {
        command.env("CREDENTIALS_DIRECTORY", credentials).env("SSL_CERT_FILE", test_file("ca.pem"));
    })
}

/// Asks the gateway of a service.
async fn ask(service: &Service, path: &str) -> Answer {
    let mut client = Client::connect(service.address("gateway").unwrap()).await;
    // Meant for this machine, as it has to be.
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    client.answer(false).await.expect("an answer")
}

/// Gets a path as Nix does: its narinfo, then the NAR whose URL that has.
async fn fetch(service: &Service, sample: &Sample) -> bool {
    let narinfo = ask(service, &format!("/{}.narinfo", sample.hash())).await;
    if narinfo.status != 200 {
        return false;
    }
    let url = narinfo.text().lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned();
    let nar = ask(service, &format!("/{url}")).await;
    assert_eq!(nar.status, 200, "a narinfo is a promise; {}", service.log());
    nar.body == sample.nar
}

/// Everything that the service tells anybody: its log, its state, its statistics, its metrics.
async fn everything_told(service: &Service) -> String {
    let mut all = service.log();
    for arguments in [&["status", "--json=short"][..], &["stats"], &["doctor"], &["query", "--json=short"]] {
        let (_, out, err) = told(&program("peernixctl", service.home()).args(arguments).output().unwrap());
        all.push_str(&out);
        all.push_str(&err);
    }
    for path in ["/metrics", "/health", "/peers"] {
        all.push_str(ask(service, path).await.text());
    }
    all
}

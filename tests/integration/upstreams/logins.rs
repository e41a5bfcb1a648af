//! Upstreams that want to know who asks.

use super::cache::{Cache, Certificate};
use super::{SECRET, config, everything_told, fetch, start, test_file};
use crate::support::internet::{Sample, key};
use crate::support::service::Service;
use nix::sys::signal::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_password_of_a_file_of_logins() {
    let cache = Cache::plain().await;
    // `printf user:hunter2-is-the-secret | base64`
    cache.demand("Basic dXNlcjpodW50ZXIyLWlzLXRoZS1zZWNyZXQ=");
    let sample = Sample::new(1, 100_000);
    cache.publish(&sample, &[&key()]);
    let credentials = tempfile::tempdir().unwrap();
    let netrc = format!("machine other password no\nmachine 127.0.0.1 login user password {SECRET}\n");
    std::fs::write(credentials.path().join("cache-login"), netrc).unwrap();
    let mut service = start(
        &format!("{{ url = \"{}\", credential = {{ netrc = \"cache-login\" }} }}", cache.url()),
        credentials.path(),
    );
    assert!(fetch(&service, &sample).await, "{}", service.log());
    let told = everything_told(&service).await;
    assert!(!told.contains(SECRET) && !told.contains("dXNlcjpodW50ZXIy"), "{told}");
    service.stop();
    // Without its login the path does not exist, and the log says why, once.
    let service = start(&format!("\"{}\"", cache.url()), credentials.path());
    assert!(!fetch(&service, &sample).await && !fetch(&service, &Sample::new(2, 10)).await);
    let log = service.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("answered with status 401")).collect();
    let at_info = lines.iter().filter(|line| !line.to_ascii_lowercase().contains("debug")).count();
    assert!(at_info == 1 && lines.len() > 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_which_a_reload_reads_anew() {
    let cache = Cache::plain().await;
    cache.demand(&format!("Bearer {SECRET}"));
    let sample = Sample::new(1, 100_000);
    cache.publish(&sample, &[&key()]);
    let credentials = tempfile::tempdir().unwrap();
    let token = credentials.path().join("token");
    std::fs::write(&token, "an-old-token\n").unwrap();
    let upstream = format!("{{ url = \"{}\", credential = {{ bearer = \"token\" }} }}", cache.url());
    let service = start(&upstream, credentials.path());
    assert!(!fetch(&service, &sample).await);
    std::fs::write(&token, format!("{SECRET}\n")).unwrap();
    service.signal(Signal::SIGHUP);
    service.heard("RELOADING=1");
    assert!(!service.heard("READY=1").contains("failed"), "{}", service.log());
    assert!(fetch(&service, &sample).await, "{}", service.log());
    // What is no token changes nothing.
    std::fs::write(&token, format!("{SECRET} and more\n")).unwrap();
    service.signal(Signal::SIGHUP);
    service.heard("RELOADING=1");
    let said = service.heard("READY=1");
    assert!(said.contains("failed") && said.contains("'token'") && !said.contains(SECRET), "{said}");
    let told = everything_told(&service).await;
    assert!(!told.contains(SECRET) && told.contains("it is not a token"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_for_its_own_origin_alone() {
    let (cache, elsewhere) = (Cache::plain().await, Cache::plain().await);
    cache.demand(&format!("Bearer {SECRET}"));
    let sample = Sample::new(1, 100_000);
    cache.publish(&sample, &[&key()]);
    elsewhere.publish(&sample, &[&key()]);
    cache.send_to(&elsewhere.url());
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("token"), SECRET).unwrap();
    let upstream = format!("{{ url = \"{}\", credential = {{ bearer = \"token\" }} }}", cache.url());
    let service = start(&upstream, credentials.path());
    // Another port of the same host.
    assert!(fetch(&service, &sample).await, "{}", service.log());
    let sent: Vec<_> = elsewhere.asked();
    assert!(!sent.is_empty() && sent.iter().all(|asked| asked.authorization.is_none()), "{sent:?}");
    assert!(cache.asked().iter().all(|asked| asked.authorization.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_and_nobody_elses_business() {
    let (cache, elsewhere) = (Cache::tls(Certificate::Demanded).await, Cache::tls(Certificate::Asked).await);
    let sample = Sample::new(1, 100_000);
    cache.publish(&sample, &[&key()]);
    let credentials = tempfile::tempdir().unwrap();
    std::fs::copy(test_file("client.pem"), credentials.path().join("client.pem")).unwrap();
    let without = start(&format!("\"{}\"", cache.url()), credentials.path());
    assert!(!fetch(&without, &sample).await);
    drop(without);
    let upstream = format!("{{ url = \"{}\", credential = {{ certificate = \"client.pem\" }} }}", cache.url());
    let service = start(&upstream, credentials.path());
    assert!(fetch(&service, &sample).await, "{}", service.log());
    assert!(cache.asked().iter().all(|asked| asked.certificate));
    let told = everything_told(&service).await;
    assert!(!told.contains("PRIVATE KEY"), "{told}");
    // A place that it redirects to is shown none, although it asks for one.
    let other = Sample::new(2, 100_000);
    cache.publish(&other, &[&key()]);
    elsewhere.publish(&other, &[&key()]);
    cache.send_to(&elsewhere.url());
    assert!(fetch(&service, &other).await, "{}", service.log());
    let sent = elsewhere.asked();
    assert!(!sent.is_empty() && sent.iter().all(|asked| !asked.certificate), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_missing_is_named_and_leaves_the_others_alone() {
    let (with, without) = (Cache::plain().await, Cache::plain().await);
    let sample = Sample::new(1, 1000);
    without.publish(&sample, &[&key()]);
    let upstreams =
        format!("{{ url = \"{}\", credential = {{ netrc = \"none\" }} }}, \"{}\"", with.url(), without.url());
    let empty = tempfile::tempdir().unwrap();
    let service = start(&upstreams, empty.path());
    assert!(fetch(&service, &sample).await && with.asked().is_empty(), "{}", service.log());
    let told = everything_told(&service).await;
    let place = empty.path().join("none").display().to_string();
    assert!(told.matches(&place).count() >= 2, "in the log and in the state: {told}");
    // Without a manager that hands over any.
    let service = Service::start(&config(&upstreams), |_| {});
    assert!(
        service.log().contains("$CREDENTIALS_DIRECTORY, where the file 'none' is looked for, is not set"),
        "{}",
        service.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logins_of_nix_are_for_upstreams_without_one() {
    let cache = Cache::plain().await;
    cache.demand("Basic dXNlcjpodW50ZXIyLWlzLXRoZS1zZWNyZXQ=");
    let sample = Sample::new(1, 1000);
    cache.publish(&sample, &[&key()]);
    let nix = tempfile::tempdir().unwrap();
    std::fs::write(nix.path().join("nix.conf"), "!include nix.custom.conf\n").unwrap();
    let netrc = nix.path().join("logins");
    std::fs::write(nix.path().join("nix.custom.conf"), format!("netrc-file = {}\n", netrc.display())).unwrap();
    std::fs::write(&netrc, format!("machine 127.0.0.1 login user password {SECRET}\n")).unwrap();
    let service = Service::start(&config(&format!("\"{}\"", cache.url())), |command| {
        command.env("NIX_CONF_DIR", nix.path());
    });
    assert!(fetch(&service, &sample).await, "{}", service.log());
    assert!(!everything_told(&service).await.contains(SECRET));
}

//! What the tests have in common.

pub(crate) mod bus;
pub(crate) mod client;
pub(crate) mod internet;
pub(crate) mod nix;
pub(crate) mod odd_cache;
pub(crate) mod peers;
pub(crate) mod program;
mod server;
pub(crate) mod service;
pub(crate) mod tls;

pub(crate) use server::{Endless, Running, TestFace, allow_many_files, serve, serve_with};

use std::time::{Duration, Instant};

/// How long anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How often something is looked at that cannot tell us.
const POLL: Duration = Duration::from_millis(20);

/// Waits until something is so that nothing tells of.
pub(crate) async fn until(what: &str, is: impl AsyncFnMut() -> bool) {
    until_or(what, is, String::new).await;
}

/// [`until`], with more to say when it never comes.
pub(crate) async fn until_or(what: &str, is: impl AsyncFnMut() -> bool, more: impl FnOnce() -> String) {
    until_within(LIMIT, what, is, more).await;
}

/// The same for what takes longer.
pub(crate) async fn until_within(
    limit: Duration,
    what: &str,
    mut is: impl AsyncFnMut() -> bool,
    more: impl FnOnce() -> String,
) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}\n{}", more());
        tokio::time::sleep(POLL).await; // poll
    }
}

/// Says that something is not tried here; where nothing may be left out, that is a failure.
pub(crate) fn skipped(reason: &str) {
    let everything = std::env::var("PEERNIX_LAB_REQUIRE").is_ok_and(|value| value == "all");
    assert!(!everything, "{reason}: run scripts/setup");
    eprintln!("SKIPPED: {reason}; scripts/setup installs what is needed");
}

/// Whether other users can be tried; says loudly if not.
pub(crate) fn is_root() -> bool {
    let root = ::nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can try what other users may do");
    }
    root
}

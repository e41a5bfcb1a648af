//! Looks once whether a binary cache answers, for whoever asks what is wrong with this machine.

use super::source::http_client::{ClientFactory, Proxies};
use super::source::upstream::Upstream;
use super::source::upstream_options::UpstreamOptions;
use super::source::upstream_trouble::UpstreamTrouble;
use crate::metrics::Metrics;
use hyper::Uri;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The largest nix-cache-info, in bytes.
const CACHE_INFO_MAX: usize = 4096;

/// How a binary cache answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// How long its `nix-cache-info` took.
    pub took: Duration,
    /// By how many seconds this machine's clock is ahead of its, or behind if negative; `None`: by next to nothing.
    pub clock: Option<i64>,
}

/// Asks a cache for its `nix-cache-info`, within `limit`.
///
/// # Errors
/// It is none, cannot be reached or does not answer in time, in words.
pub async fn probe(url: &str, proxies: Proxies, limit: Duration) -> Result<Probe, String> {
    let base: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let clients = ClientFactory::new();
    clients.set_proxies(proxies);
    let upstream = Upstream::new(UpstreamOptions::from(base), &clients, &Metrics::default());
    let begun = Instant::now();
    match timeout(limit, upstream.document("nix-cache-info", CACHE_INFO_MAX)).await {
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(None)) => Err("it has no nix-cache-info".to_owned()),
        Ok(Ok(Some(_))) => {
            let took = begun.elapsed();
            let clock = upstream.troubles(false).into_iter().find_map(|trouble| match trouble {
                UpstreamTrouble::Clock(ahead) => Some(ahead),
                _ => None,
            });
            Ok(Probe { took, clock })
        }
    }
}

//! The counters of the rooms that fetch, and the values of counters by name.

use super::text::family;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most upstreams that are counted each on its own, over all reloads of the configuration.
const UPSTREAMS_MAX: usize = 64;
/// The name under which the others are counted together.
const OTHER_UPSTREAMS: &str = "other";
/// The name of bytes by upstream in a [`Snapshot`], before the host.
const BY_UPSTREAM: &str = "fetched_upstream_bytes.";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The values of counters at one time, by name. Those of a face are under its name: `gateway.bytes_sent`,
/// `share.requests.narinfo.2xx`; those of upstreams under their host: `fetched_upstream_bytes.cache.nixos.org`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(pub BTreeMap<String, u64>);

impl Snapshot {
    /// The value of this name; 0 for one that was never counted.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().map(|(name, value)| (name.clone(), value.saturating_sub(before.get(name)))).collect())
    }

    /// What was counted here and there.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (name, value) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*value);
        }
        self
    }

    /// The values whose names begin with `prefix`, which is left out: `under("fetched_upstream_bytes.")` is bytes by host.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, *value)))
    }
}

/// Declares the struct and its text from one table, so that no counter can be forgotten in either.
macro_rules! metrics {
    ($($field:ident: $name:literal $(, $label:literal)?; $help:literal;)*) => {
        /// The counters of the rooms that fetch. Those of HTTP are [`super::HttpMetrics`].
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Counter,)*
            /// Bytes of NARs received from each upstream, by its host.
            by_upstream: RwLock<BTreeMap<String, Arc<Counter>>>,
        }

        impl Metrics {
            /// Appends the Prometheus text of all counters.
            pub fn render(&self, text: &mut String) {
                let mut last = "";
                $(
                    if last != $name {
                        // Writing to a String cannot fail.
                        let _ = write!(text, concat!("# HELP ", $name, " ", $help, "\n# TYPE ", $name, " counter\n"));
                        last = $name;
                    }
                    let _ = writeln!(text, concat!($name, $("{{", $label, "}}",)? " {}"), self.$field.get());
                )*
                let _ = last;
                self.render_upstreams(text);
            }

            /// The values of all counters now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                let mut all = BTreeMap::from([$((stringify!($field).to_owned(), self.$field.get()),)*]);
                let upstreams = self.by_upstream.read();
                all.extend(upstreams.iter().map(|(host, bytes)| (format!("{BY_UPSTREAM}{host}"), bytes.get())));
                Snapshot(all)
            }

            /// Adds what an earlier run counted.
            pub fn restore(&self, before: &Snapshot) {
                $(self.$field.add(before.get(stringify!($field)));)*
                for (host, bytes) in before.under(BY_UPSTREAM) {
                    self.upstream(host).add(bytes);
                }
            }
        }
    };
}

metrics! {
    lookups_peer: "peernix_lookups_total", "result=\"peer\""; "Lookups by what they came to.";
    lookups_upstream: "peernix_lookups_total", "result=\"upstream\""; "Lookups by what they came to.";
    lookups_absent: "peernix_lookups_total", "result=\"absent\""; "Lookups by what they came to.";
    lookups_unknown: "peernix_lookups_total", "result=\"unknown\""; "Lookups by what they came to.";
    lookups_remembered: "peernix_lookups_remembered_total"; "Lookups that were answered from memory.";
    transfers_started: "peernix_transfers_started_total"; "Transfers begun.";
    transfers_joined: "peernix_transfers_joined_total"; "Requests that joined a transfer under way.";
    transfers_completed: "peernix_transfers_completed_total"; "Transfers that gave the whole NAR.";
    transfers_failed: "peernix_transfers_failed_total"; "Transfers that ended without it.";
    transfers_failed_over: "peernix_transfer_failovers_total"; "Times a transfer went on from another source.";
    fetched_peer_bytes: "peernix_fetched_bytes_total", "source=\"peer\""; "Bytes of NARs received, by source.";
    fetched_upstream_bytes: "peernix_fetched_bytes_total", "source=\"upstream\""; "Bytes of NARs received, by source.";
    fetched_peer_nar_bytes: "peernix_fetched_nar_bytes_total", "source=\"peer\""; "Bytes of NARs that what was received became: more, where it came compressed.";
    read_ahead_used_bytes: "peernix_read_ahead_bytes_total", "result=\"used\""; "Bytes of NARs fetched before Nix asked for them.";
    read_ahead_wasted_bytes: "peernix_read_ahead_bytes_total", "result=\"wasted\""; "Bytes of NARs fetched before Nix asked for them.";
    claims_granted: "peernix_claims_total", "result=\"granted\""; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
    claims_taken_over: "peernix_claims_total", "result=\"taken_over\""; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
    claims_followed: "peernix_claims_total", "result=\"followed\""; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
    claims_alone: "peernix_claims_total", "result=\"alone\""; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
    site_downloaded_bytes: "peernix_site_downloaded_bytes_total"; "Bytes of NARs that machines downloaded, as they say, of those NARs that this machine is the directory of.";
    site_unique_bytes: "peernix_site_unique_bytes_total"; "The same, each NAR once: over all machines, the quotient is how often the site downloads what it needs.";
    pieces_right: "peernix_pieces_total", "result=\"right\""; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
    pieces_twice: "peernix_pieces_total", "result=\"twice\""; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
    pieces_wrong: "peernix_pieces_total", "result=\"wrong\""; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
    patches_fetched: "peernix_patches_total", "result=\"fetched\""; "NARs that came, or were sent, as what they differ in from another version.";
    patches_made: "peernix_patches_total", "result=\"made\""; "NARs that came, or were sent, as what they differ in from another version.";
    index_saved: "peernix_index_saved_requests_total"; "Requests to peers for a path that were not made because their index says that they do not have it.";
    index_updates: "peernix_index_updates_total"; "Answers of peers that told their index, or what changed in it.";
    index_bytes: "peernix_index_bytes_total"; "Bytes of those.";
    index_wrong_claims: "peernix_index_wrong_claims_total"; "Times a peer did not have what its index says.";
    sites_messages: "peernix_sites_messages_total"; "Messages in which other sites were asked for paths.";
    sites_asked: "peernix_sites_lookups_total", "result=\"asked\""; "Paths that other sites were asked for, or that they had told of before they were.";
    sites_foreseen: "peernix_sites_lookups_total", "result=\"foreseen\""; "Paths that other sites were asked for, or that they had told of before they were.";
    sites_relayed: "peernix_sites_relayed_bytes_total"; "Bytes of NARs sent to other sites over NATS.";
    verification_failures: "peernix_verification_failures_total"; "NARs whose content was not what was signed.";
    peers_banned: "peernix_peers_banned_total"; "Bans pronounced on peers that lied.";
}

impl Metrics {
    /// The counter of bytes received from the upstream at `host`.
    #[must_use]
    pub fn upstream(&self, host: &str) -> Arc<Counter> {
        let mut upstreams = self.by_upstream.write();
        if let Some(known) = upstreams.get(host) {
            return Arc::clone(known);
        }
        let host = if upstreams.len() < UPSTREAMS_MAX { host } else { OTHER_UPSTREAMS };
        Arc::clone(upstreams.entry(host.to_owned()).or_default())
    }

    fn render_upstreams(&self, text: &mut String) {
        let name = "peernix_upstream_fetched_bytes_total";
        family(text, name, "counter", "Bytes of NARs received from upstreams, by host.");
        for (host, bytes) in self.by_upstream.read().iter() {
            // A host out of a URI has no character that would have to be escaped, but a restored one may.
            let host = host.replace(['\\', '"', '\n'], "?");
            let _ = writeln!(text, "{name}{{upstream=\"{host}\"}} {}", bytes.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.lookups_peer.add(3);
        metrics.peers_banned.add(1);
        metrics.upstream("cache.example.org:8080").add(5);
        let mut text = String::new();
        metrics.render(&mut text);
        assert!(text.contains("\npeernix_lookups_total{result=\"upstream\"} 0\n"));
        assert!(text.contains("# TYPE peernix_lookups_total counter\npeernix_lookups_total{result=\"peer\"} 3\n"));
        assert!(text.contains("# TYPE peernix_peers_banned_total counter\npeernix_peers_banned_total 1\n"));
        assert!(text.ends_with("\npeernix_upstream_fetched_bytes_total{upstream=\"cache.example.org:8080\"} 5\n"));
        assert_eq!(text.matches("# TYPE peernix_lookups_total ").count(), 1, "a family is described once");
    }

    #[test]
    fn upstreams_are_bounded() {
        let metrics = Metrics::default();
        (0..1000).for_each(|number| metrics.upstream(&format!("{number}.example.org")).add(1));
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.under(BY_UPSTREAM).count(), UPSTREAMS_MAX + 1);
        assert_eq!(snapshot.under(BY_UPSTREAM).map(|(_, bytes)| bytes).sum::<u64>(), 1000);
    }
}

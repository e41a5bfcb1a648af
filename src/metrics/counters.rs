//! The counters of the rooms that fetch, and the values of counters by name.

use super::value::{Counter, Latency, register, sound};
use parking_lot::RwLock;
use prometheus::{IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most upstreams that are counted each on its own, over all reloads of the configuration.
const UPSTREAMS_MAX: usize = 64;
/// The name under which the others are counted together.
const OTHER_UPSTREAMS: &str = "other";
/// The name of bytes by upstream in a [`Snapshot`], before the host.
const BY_UPSTREAM: &str = "fetched_upstream_bytes.";

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

/// Declares the struct and what is told of it from one table, so that no number can be forgotten in either.
macro_rules! metrics {
    (
        counters { $($field:ident: $name:literal $(, $label:ident = $value:literal)?; $help:literal;)* }
        durations { $($took:ident: $took_name:literal $(, $took_label:ident = $took_value:literal)?; $took_help:literal;)* }
    ) => {
        /// The counters of the rooms that fetch, and how long things took there. Those of HTTP are [`super::HttpMetrics`].
        #[derive(Debug)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: Counter,)*
            $(#[doc = $took_help] pub $took: Latency,)*
            /// Bytes of NARs received from each upstream, by its host.
            by_upstream: IntCounterVec,
            /// The hosts that have a counter there.
            upstreams: RwLock<BTreeMap<String, Counter>>,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $($field: Counter::new($name, $help, &[$((stringify!($label), $value))?]),)*
                    $($took: Latency::new($took_name, $took_help, &[$((stringify!($took_label), $took_value))?]),)*
                    by_upstream: sound(IntCounterVec::new(
                        Opts::new("peernix_upstream_fetched_bytes_total", "Bytes of NARs received from upstreams, by host."),
                        &["upstream"],
                    )),
                    upstreams: RwLock::default(),
                }
            }
        }

        impl Metrics {
            /// Has all of them told.
            pub(super) fn register(&self, registry: &Registry) {
                $(self.$field.register(registry);)*
                $(self.$took.register(registry);)*
                register(self.by_upstream.clone(), registry);
            }

            /// The values of all counters now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                let mut all = BTreeMap::from([$((stringify!($field).to_owned(), self.$field.get()),)*]);
                let upstreams = self.upstreams.read();
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
    counters {
        lookups_peer: "peernix_lookups_total", result = "peer"; "Lookups by what they came to.";
        lookups_upstream: "peernix_lookups_total", result = "upstream"; "Lookups by what they came to.";
        lookups_absent: "peernix_lookups_total", result = "absent"; "Lookups by what they came to.";
        lookups_unknown: "peernix_lookups_total", result = "unknown"; "Lookups by what they came to.";
        lookups_remembered: "peernix_lookups_remembered_total"; "Lookups that were answered from memory.";
        upstream_narinfos_asked: "peernix_upstream_narinfos_total", result = "asked"; "Narinfos of upstreams, by who asked for them: this machine, or another one that told it.";
        upstream_narinfos_told: "peernix_upstream_narinfos_total", result = "told"; "Narinfos of upstreams, by who asked for them: this machine, or another one that told it.";
        transfers_started: "peernix_transfers_started_total"; "Transfers begun.";
        transfers_joined: "peernix_transfers_joined_total"; "Requests that joined a transfer under way.";
        transfers_completed: "peernix_transfers_completed_total"; "Transfers that gave the whole NAR.";
        transfers_failed: "peernix_transfers_failed_total"; "Transfers that ended without it.";
        transfers_failed_over: "peernix_transfer_failovers_total"; "Times a transfer went on from another source.";
        fetched_peer_bytes: "peernix_fetched_bytes_total", source = "peer"; "Bytes of NARs received, by source.";
        fetched_upstream_bytes: "peernix_fetched_bytes_total", source = "upstream"; "Bytes of NARs received, by source.";
        fetched_peer_nar_bytes: "peernix_fetched_nar_bytes_total", source = "peer"; "Bytes of NARs that what was received became: more, where it came compressed.";
        read_ahead_used_bytes: "peernix_read_ahead_bytes_total", result = "used"; "Bytes of NARs fetched before Nix asked for them.";
        read_ahead_wasted_bytes: "peernix_read_ahead_bytes_total", result = "wasted"; "Bytes of NARs fetched before Nix asked for them.";
        claims_granted: "peernix_claims_total", result = "granted"; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
        claims_taken_over: "peernix_claims_total", result = "taken_over"; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
        claims_followed: "peernix_claims_total", result = "followed"; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
        claims_alone: "peernix_claims_total", result = "alone"; "NARs that no peer had, by what the other machines said: download it for all, take over the download of one that was lost, stream it from a machine that fetches it, or nothing.";
        site_downloaded_bytes: "peernix_site_downloaded_bytes_total"; "Bytes of NARs that machines downloaded, as they say, of those NARs that this machine is the directory of.";
        site_unique_bytes: "peernix_site_unique_bytes_total"; "The same, each NAR once: over all machines, the quotient is how often the site downloads what it needs.";
        pieces_right: "peernix_pieces_total", result = "right"; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
        pieces_twice: "peernix_pieces_total", result = "twice"; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
        pieces_wrong: "peernix_pieces_total", result = "wrong"; "Pieces of large NARs that came from several peers at once: proved and used, sent twice, or wrong.";
        patches_fetched: "peernix_patches_total", result = "fetched"; "NARs that came, or were sent, as what they differ in from another version.";
        patches_made: "peernix_patches_total", result = "made"; "NARs that came, or were sent, as what they differ in from another version.";
        index_saved: "peernix_index_saved_requests_total"; "Requests to peers for a path that were not made because their index says that they do not have it.";
        index_updates: "peernix_index_updates_total"; "Answers of peers that told their index, or what changed in it.";
        index_bytes: "peernix_index_bytes_total"; "Bytes of those.";
        index_wrong_claims: "peernix_index_wrong_claims_total"; "Times a peer did not have what its index says.";
        sites_messages: "peernix_sites_messages_total"; "Messages in which other sites were asked for paths.";
        sites_asked: "peernix_sites_lookups_total", result = "asked"; "Paths that other sites were asked for, or that they had told of before they were.";
        sites_foreseen: "peernix_sites_lookups_total", result = "foreseen"; "Paths that other sites were asked for, or that they had told of before they were.";
        sites_relayed: "peernix_sites_relayed_bytes_total"; "Bytes of NARs sent to other sites over NATS.";
        verification_failures: "peernix_verification_failures_total"; "NARs whose content was not what was signed.";
        violations_malformed: "peernix_violations_total", kind = "malformed"; "What peers said or sent that no honest machine with whole disks does, by kind.";
        violations_signature: "peernix_violations_total", kind = "signature"; "What peers said or sent that no honest machine with whole disks does, by kind.";
        violations_protocol: "peernix_violations_total", kind = "protocol"; "What peers said or sent that no honest machine with whole disks does, by kind.";
        violations_content: "peernix_violations_total", kind = "content"; "What peers said or sent that no honest machine with whole disks does, by kind.";
        lookups_hedged: "peernix_lookup_hedges_total"; "Peers that were asked for a path because another one that is said to have it was slow to answer.";
        peers_banned: "peernix_peers_banned_total"; "Bans pronounced on peers that lied.";
    }
    durations {
        lookup_took: "peernix_lookup_duration_seconds"; "How long Nix waited for word of a path.";
        first_byte_took: "peernix_first_byte_duration_seconds"; "How long Nix waited for the first byte of a NAR.";
        peer_answer_took: "peernix_answer_duration_seconds", source = "peer"; "How long others took to say whether they have a path.";
        upstream_answer_took: "peernix_answer_duration_seconds", source = "upstream"; "How long others took to say whether they have a path.";
        database_took: "peernix_database_duration_seconds"; "How long questions to the database of the store took, with the wait for it.";
    }
}

impl Metrics {
    /// The counter of bytes received from the upstream at `host`.
    #[must_use]
    pub fn upstream(&self, host: &str) -> Counter {
        let mut upstreams = self.upstreams.write();
        if let Some(known) = upstreams.get(host) {
            return known.clone();
        }
        let host = if upstreams.len() < UPSTREAMS_MAX { host } else { OTHER_UPSTREAMS };
        let counter = || Counter::of(self.by_upstream.with_label_values(&[host]));
        upstreams.entry(host.to_owned()).or_insert_with(counter).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_bounded() {
        let metrics = Metrics::default();
        (0..1000).for_each(|number| metrics.upstream(&format!("{number}.example.org")).add(1));
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.under(BY_UPSTREAM).count(), UPSTREAMS_MAX + 1);
        assert_eq!(snapshot.under(BY_UPSTREAM).map(|(_, bytes)| bytes).sum::<u64>(), 1000);
    }
}

//! What was seen, look after look: the difference of two is a rate. No input and no output.

use super::seen::Seen;
use crate::control::{Peer, Transfer, per_second};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// How many rates are kept: one a column of the widest terminal that shows them.
const RATES_MAX: usize = 240;

/// Bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rates {
    pub(super) from_peers: u64,
    pub(super) from_upstreams: u64,
    pub(super) shared: u64,
}

/// What is shown.
#[derive(Default)]
pub(super) struct Model {
    pub(super) last: Option<Seen>,
    /// The newest last.
    pub(super) rates: VecDeque<Rates>,
    /// Bytes a second of transfers, by their numbers.
    of_transfers: BTreeMap<u64, u64>,
    /// How far the peers are scrolled down.
    scrolled: usize,
}

impl Model {
    /// Takes a look in. What was counted anew meanwhile is no rate.
    pub(super) fn take(&mut self, seen: Seen) {
        let mut rates = Rates::default();
        self.of_transfers.clear();
        if let Some(before) = &self.last {
            let took = seen.at.saturating_sub(before.at);
            let rate = |now: u64, then: u64| per_second(now.saturating_sub(then), took);
            rates = Rates {
                from_peers: rate(seen.statistics.bytes_from_peers, before.statistics.bytes_from_peers),
                from_upstreams: rate(seen.statistics.bytes_from_upstreams, before.statistics.bytes_from_upstreams),
                shared: rate(seen.shared(), before.shared()),
            };
            let then: BTreeMap<u64, u64> =
                before.transfers.iter().map(|transfer| (transfer.id, transfer.bytes)).collect();
            self.of_transfers.extend(seen.transfers.iter().map(|transfer| {
                let since_begin = || per_second(transfer.bytes, seen.at.saturating_sub(transfer.start_timestamp));
                let rate = then.get(&transfer.id).map_or_else(since_begin, |then| rate(transfer.bytes, *then));
                (transfer.id, rate)
            }));
        }
        self.rates.push_back(rates);
        if self.rates.len() > RATES_MAX {
            self.rates.pop_front();
        }
        self.last = Some(seen);
        self.scroll(0);
    }

    /// Bytes a second of a transfer; `None` before they are known.
    pub(super) fn rate_of(&self, transfer: &Transfer) -> Option<u64> {
        self.of_transfers.get(&transfer.id).copied()
    }

    /// Down, or up, by so many rows.
    pub(super) fn scroll(&mut self, rows: isize) {
        let most = self.last.as_ref().map_or(0, |seen| seen.peers.len().saturating_sub(1));
        self.scrolled = self.scrolled.saturating_add_signed(rows).min(most);
    }

    /// The peers from where it is scrolled to on.
    pub(super) fn peers(&self) -> &[Peer] {
        self.last.as_ref().map_or(&[], |seen| &seen.peers[self.scrolled.min(seen.peers.len())..])
    }

    /// A look for programs.
    pub(super) fn told(&self) -> Value {
        let Some(seen) = &self.last else { return Value::Null };
        let rates = self.rates.back().copied().unwrap_or_default();
        json!({
            "timestamp": seen.at, "rates": rates, "status": seen.status, "statistics": seen.statistics, "peers": seen.peers,
            "transfers": seen.transfers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stub::Stub;

    async fn seen(at: u64) -> Seen {
        Seen { at, ..Seen::look(&Stub::default()).await.unwrap() }
    }

    #[tokio::test]
    async fn rates_are_what_came_between_two_looks() {
        let mut model = Model::default();
        model.take(seen(1_000_000).await);
        assert_eq!(model.rates, [Rates::default()]);
        let mut next = seen(3_000_000).await;
        next.statistics.bytes_from_peers += 10_000;
        next.transfers[0].bytes += 500;
        let first = next.transfers[0].clone();
        model.take(next);
        assert_eq!(model.rates[1], Rates { from_peers: 5_000, from_upstreams: 0, shared: 0 });
        assert_eq!(model.rate_of(&first), Some(250));
        // Somebody had it counted anew, at the same moment.
        let mut reset = seen(3_000_000).await;
        reset.statistics.bytes_from_peers = 0;
        model.take(reset);
        assert_eq!(model.rates[2].from_peers, 0);
        assert_eq!(model.told()["rates"]["fromPeers"], 0);
    }

    #[tokio::test]
    async fn nobody_scrolls_out_of_the_list() {
        let mut model = Model::default();
        model.scroll(5);
        assert!(model.peers().is_empty());
        model.take(seen(0).await);
        let all = model.peers().len();
        model.scroll(isize::MAX);
        assert_eq!(model.peers().len(), 1);
        model.scroll(isize::MIN);
        assert_eq!(model.peers().len(), all);
        for _ in 0..1000 {
            model.take(seen(0).await);
        }
        assert_eq!(model.rates.len(), RATES_MAX);
    }
}

//! What the servers count. Nothing here blocks or allocates; `metrics.rs` at the top of the house writes it as text.

use super::Route;
use hyper::StatusCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The classes of status that are counted.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// One more than there are routes: the last is for requests that are none.
const ROUTES: usize = Route::NAMES.len() + 1;

/// Counters of one face (or of several, if they share it).
#[derive(Debug, Default)]
pub struct HttpMetrics {
    requests: [[AtomicU64; CLASSES.len()]; ROUTES],
    /// Bytes given to the network, heads included, TLS framing not.
    pub bytes_sent: AtomicU64,
    /// Connections accepted since the start.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_now: AtomicU64,
    /// Connections closed at once because there were too many, in all or from their address.
    pub refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections ended because a head did not come in time.
    pub header_timeouts: AtomicU64,
    /// Connections ended because their reader took too little in too long a time.
    pub stalled: AtomicU64,
    /// Answers that broke off in their middle because their source did.
    pub broken: AtomicU64,
    /// Panics caught.
    pub panics: AtomicU64,
}

impl HttpMetrics {
    /// Counts an answer; no route is a path that is none.
    pub(crate) fn answered(&self, route: Option<usize>, status: StatusCode) {
        let route = route.unwrap_or(ROUTES - 1);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(counter) = self.requests.get(route).and_then(|classes| classes.get(class)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Requests answered, by route and class of status, without the combinations that never occurred.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let names = Route::NAMES.into_iter().chain(["other"]);
        names.zip(&self.requests).flat_map(|(route, classes)| {
            let counts = CLASSES.into_iter().zip(classes).map(|(class, count)| (class, count.load(Relaxed)));
            counts.filter(|(_, count)| *count != 0).map(move |(class, count)| (route, class, count))
        })
    }
}

/// Where a counter is.
type Read = fn(&HttpMetrics) -> &AtomicU64;

impl HttpMetrics {
    /// Everything here that only grows, by name.
    const GROWING: [(&'static str, Read); 8] = [
        ("bytes_sent", |metrics| &metrics.bytes_sent),
        ("connections", |metrics| &metrics.connections),
        ("refused", |metrics| &metrics.refused),
        ("handshakes_failed", |metrics| &metrics.handshakes_failed),
        ("header_timeouts", |metrics| &metrics.header_timeouts),
        ("stalled", |metrics| &metrics.stalled),
        ("broken", |metrics| &metrics.broken),
        ("panics", |metrics| &metrics.panics),
    ];

    /// The values of all counters now, by name: `bytes_sent`, `requests.narinfo.2xx`.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        let growing = Self::GROWING.into_iter().map(|(name, counter)| (name.to_owned(), counter(self).load(Relaxed)));
        let requests = self.requests().map(|(route, class, count)| (format!("requests.{route}.{class}"), count));
        growing.chain(requests)
    }

    /// Adds what an earlier run counted under a name of [`Self::counters`]; another name is not for us.
    pub fn restore(&self, name: &str, value: u64) {
        let counter = match name.strip_prefix("requests.").and_then(|name| name.split_once('.')) {
            Some((route, class)) => {
                let mut routes = Route::NAMES.into_iter().chain(["other"]).zip(&self.requests);
                let classes = routes.find(|(name, _)| *name == route).map(|(_, classes)| classes);
                classes.and_then(|classes| classes.get(CLASSES.iter().position(|name| *name == class)?))
            }
            None => Self::GROWING.iter().find(|(other, _)| *other == name).map(|(_, counter)| counter(self)),
        };
        if let Some(counter) = counter {
            counter.fetch_add(value, Relaxed);
        }
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_route_and_class() {
        let metrics = HttpMetrics::default();
        metrics.answered(Some(Route::Health.index()), StatusCode::OK);
        metrics.answered(Some(Route::Health.index()), StatusCode::OK);
        metrics.answered(None, StatusCode::NOT_FOUND);
        metrics.answered(Some(ROUTES), StatusCode::OK);
        let counted: Vec<_> = metrics.requests().collect();
        assert_eq!(counted, [("health", "2xx", 2), ("other", "4xx", 1)]);
    }
}

//! What the HTTP servers count. Nothing that counts blocks or allocates.

use super::text::family;
use hyper::StatusCode;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The classes of status that are counted.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The name of requests that are no route.
const NO_ROUTE: &str = "other";

/// Counters of one listener (or of several, if they share it).
#[derive(Debug)]
pub struct HttpMetrics {
    /// Requests by the name of their route; those that are none come last.
    requests: Box<[(&'static str, [AtomicU64; CLASSES.len()])]>,
    /// Bytes given to the network, heads included, TLS framing not.
    pub bytes_sent: AtomicU64,
    /// Connections accepted since the start.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_now: AtomicU64,
    /// Connections closed at once because there were too many, in all or from their address.
    pub refused: AtomicU64,
    /// Idle connections closed to make room for others.
    pub made_room: AtomicU64,
    /// Connections that had to wait for a place.
    pub waited: AtomicU64,
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
    /// Counts requests for the routes with these names, from nothing.
    #[must_use]
    pub fn new(routes: &[&'static str]) -> Self {
        let names = routes.iter().copied().chain([NO_ROUTE]);
        Self {
            requests: names.map(|name| (name, Default::default())).collect(),
            bytes_sent: AtomicU64::default(),
            connections: AtomicU64::default(),
            connections_now: AtomicU64::default(),
            refused: AtomicU64::default(),
            made_room: AtomicU64::default(),
            waited: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
            header_timeouts: AtomicU64::default(),
            stalled: AtomicU64::default(),
            broken: AtomicU64::default(),
            panics: AtomicU64::default(),
        }
    }

    /// Counts an answer to a request for the route at this place; no route is a path that is none.
    pub(crate) fn answered(&self, route: Option<usize>, status: StatusCode) {
        let route = route.unwrap_or(self.requests.len() - 1);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(counter) = self.requests.get(route).and_then(|(_, classes)| classes.get(class)) {
            count(counter);
        }
    }

    /// Counters for the same routes, from nothing.
    #[must_use]
    pub(super) fn alike(&self) -> Self {
        let names: Vec<_> = self.requests.iter().map(|(name, _)| *name).filter(|name| *name != NO_ROUTE).collect();
        Self::new(&names)
    }

    /// Requests answered, by route and class of status, without the combinations that never occurred.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.all_requests().filter(|(_, _, count)| *count != 0)
    }

    /// The same with those that never occurred.
    fn all_requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.requests.iter().flat_map(|(route, classes)| {
            CLASSES.into_iter().zip(classes).map(|(class, count)| (*route, class, count.load(Relaxed)))
        })
    }
}

/// Where a counter is.
type Read = fn(&HttpMetrics) -> &AtomicU64;

impl HttpMetrics {
    /// Everything here that only grows, by name.
    const GROWING: [(&'static str, Read); 10] = [
        ("bytes_sent", |metrics| &metrics.bytes_sent),
        ("connections", |metrics| &metrics.connections),
        ("refused", |metrics| &metrics.refused),
        ("made_room", |metrics| &metrics.made_room),
        ("waited", |metrics| &metrics.waited),
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
                let classes = self.requests.iter().find(|(name, _)| *name == route).map(|(_, classes)| classes);
                classes.and_then(|classes| classes.get(CLASSES.iter().position(|name| *name == class)?))
            }
            None => Self::GROWING.iter().find(|(other, _)| *other == name).map(|(_, counter)| counter(self)),
        };
        if let Some(counter) = counter {
            counter.fetch_add(value, Relaxed);
        }
    }
}

/// Appends the Prometheus text of what the servers counted, each under the name of its listener, which is called a face there.
pub fn render_http(faces: &[(&str, &HttpMetrics)], text: &mut String) {
    family(text, "peernix_http_requests_total", "counter", "Requests answered, by face, route and class of status.");
    for (face, metrics) in faces {
        // All of them from the start: what begins with its first event has no increase that could be seen.
        for (route, class, count) in metrics.all_requests() {
            let _ = writeln!(
                text,
                "peernix_http_requests_total{{face=\"{face}\",route=\"{route}\",status=\"{class}\"}} {count}"
            );
        }
    }
    let numbers: [(&str, &str, &str, Read); 11] = [
        ("peernix_http_sent_bytes_total", "counter", "Bytes given to the network.", |m| &m.bytes_sent),
        ("peernix_http_connections_total", "counter", "Connections accepted.", |m| &m.connections),
        ("peernix_http_connections", "gauge", "Connections open now.", |m| &m.connections_now),
        ("peernix_http_refused_total", "counter", "Connections closed because there were too many.", |m| &m.refused),
        ("peernix_http_made_room_total", "counter", "Idle connections closed to make room.", |m| &m.made_room),
        ("peernix_http_waited_total", "counter", "Connections that had to wait for a place.", |m| &m.waited),
        ("peernix_http_handshakes_failed_total", "counter", "TLS handshakes that failed.", |m| &m.handshakes_failed),
        ("peernix_http_header_timeouts_total", "counter", "Heads that did not come in time.", |m| &m.header_timeouts),
        ("peernix_http_stalled_total", "counter", "Connections whose reader stalled.", |m| &m.stalled),
        ("peernix_http_broken_total", "counter", "Answers cut off because their source failed.", |m| &m.broken),
        ("peernix_http_panics_total", "counter", "Panics caught.", |m| &m.panics),
    ];
    for (name, kind, help, read) in numbers {
        family(text, name, kind, help);
        for (face, metrics) in faces {
            let _ = writeln!(text, "{name}{{face=\"{face}\"}} {}", read(metrics).load(Relaxed));
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
        let metrics = HttpMetrics::new(&["index", "health"]);
        metrics.answered(Some(1), StatusCode::OK);
        metrics.answered(Some(1), StatusCode::OK);
        metrics.answered(None, StatusCode::NOT_FOUND);
        metrics.answered(Some(3), StatusCode::OK);
        let counted: Vec<_> = metrics.requests().collect();
        assert_eq!(counted, [("health", "2xx", 2), ("other", "4xx", 1)]);
        assert!(metrics.alike().requests().next().is_none());
        let mut text = String::new();
        render_http(&[("gateway", &metrics)], &mut text);
        let has = |series: &str| {
            text.lines().any(|line| line == format!("peernix_http_requests_total{{face=\"gateway\",{series}"))
        };
        assert!(has("route=\"health\",status=\"2xx\"} 2"), "{text}");
        assert!(has("route=\"index\",status=\"5xx\"} 0"), "present from the start: {text}");
    }
}

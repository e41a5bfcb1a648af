//! What the HTTP servers count. Nothing that counts blocks or allocates.

use super::value::{Counter, Gauge, register, sound};
use hyper::StatusCode;
use prometheus::{IntCounterVec, Opts, Registry};

/// The classes of status that are counted.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The name of requests that are no route.
const NO_ROUTE: &str = "other";

/// The requests for one route, by class of status.
type Classes = [Counter; CLASSES.len()];

/// Declares the struct and what is told of it from one table.
macro_rules! http_metrics {
    ($($field:ident: $name:literal; $help:literal;)*) => {
        /// Counters of one listener (or of several, if they share it), which is called a face where they are told.
        #[derive(Debug)]
        pub struct HttpMetrics {
            face: &'static str,
            /// Requests by the name of their route; those that are none come last.
            requests: Box<[(&'static str, Classes)]>,
            /// The same, as a family.
            all_requests: IntCounterVec,
            /// Connections open now.
            pub connections_now: Gauge,
            $(#[doc = $help] pub $field: Counter,)*
        }

        impl HttpMetrics {
            /// Counts requests for the routes with these names, from nothing.
            #[must_use]
            pub fn new(face: &'static str, routes: &[&'static str]) -> Self {
                let about = Opts::new("peernix_http_requests_total", "Requests answered, by face, route and class of status.");
                let all_requests = sound(IntCounterVec::new(about.const_label("face", face), &["route", "status"]));
                // All of them from the start: what begins with its first event has no increase that could be seen.
                let classes = |route| {
                    CLASSES.map(|class| Counter::of(all_requests.with_label_values(&[route, class])))
                };
                let names = routes.iter().copied().chain([NO_ROUTE]);
                let labels = &[("face", face)];
                Self {
                    face,
                    requests: names.map(|name| (name, classes(name))).collect(),
                    connections_now: Gauge::new("peernix_http_connections", "Connections open now.", labels),
                    $($field: Counter::new($name, $help, labels),)*
                    all_requests,
                }
            }

            /// Has all of them told.
            pub(super) fn register(&self, registry: &Registry) {
                register(self.all_requests.clone(), registry);
                self.connections_now.register(registry);
                $(self.$field.register(registry);)*
            }

            /// Everything here that only grows, by name.
            const GROWING: &[(&str, fn(&HttpMetrics) -> &Counter)] = &[$((stringify!($field), |metrics| &metrics.$field),)*];
        }
    };
}

http_metrics! {
    bytes_sent: "peernix_http_sent_bytes_total"; "Bytes given to the network, heads included, TLS framing not.";
    connections: "peernix_http_connections_total"; "Connections accepted.";
    refused: "peernix_http_refused_total"; "Connections closed at once because there were too many, in all or from their address.";
    made_room: "peernix_http_made_room_total"; "Idle connections closed to make room for others.";
    waited: "peernix_http_waited_total"; "Connections that had to wait for a place.";
    busy: "peernix_http_busy_total"; "Requests turned away for the moment: too many of one address, or no room to send.";
    handshakes_failed: "peernix_http_handshakes_failed_total"; "TLS handshakes that failed or took too long.";
    header_timeouts: "peernix_http_header_timeouts_total"; "Connections ended because a head did not come in time.";
    stalled: "peernix_http_stalled_total"; "Connections ended because their reader took too little in too long a time.";
    broken: "peernix_http_broken_total"; "Answers that broke off in their middle because their source did.";
    panics: "peernix_http_panics_total"; "Panics caught; each is a defect to report.";
}

impl HttpMetrics {
    /// Counts an answer to a request for the route at this place; no route is a path that is none.
    pub(crate) fn answered(&self, route: Option<usize>, status: StatusCode) {
        let route = route.unwrap_or(self.requests.len() - 1);
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(counter) = self.requests.get(route).and_then(|(_, classes)| classes.get(class)) {
            counter.inc();
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            self.busy.inc();
        }
    }

    /// Counters for the same routes, from nothing.
    #[must_use]
    pub(super) fn alike(&self) -> Self {
        let names: Vec<_> = self.requests.iter().map(|(name, _)| *name).filter(|name| *name != NO_ROUTE).collect();
        Self::new(self.face, &names)
    }

    /// Requests answered, by route and class of status, without the combinations that never occurred.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = self.requests.iter().flat_map(|(route, classes)| {
            CLASSES.into_iter().zip(classes).map(|(class, count)| (*route, class, count.get()))
        });
        all.filter(|(_, _, count)| *count != 0)
    }

    /// Everything that only grows, by name: `bytes_sent`, `requests.narinfo.2xx`.
    pub(super) fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        let growing = Self::GROWING.iter().map(|(name, counter)| ((*name).to_owned(), counter(self).get()));
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
            counter.add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_route_and_class() {
        let metrics = HttpMetrics::new("gateway", &["index", "health"]);
        metrics.answered(Some(1), StatusCode::OK);
        metrics.answered(Some(1), StatusCode::OK);
        metrics.answered(None, StatusCode::NOT_FOUND);
        metrics.answered(Some(3), StatusCode::OK);
        let counted: Vec<_> = metrics.requests().collect();
        assert_eq!(counted, [("health", "2xx", 2), ("other", "4xx", 1)]);
        assert!(metrics.alike().requests().next().is_none());
        assert_eq!(metrics.busy.get(), 0);
        metrics.answered(Some(1), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(metrics.busy.get(), 1);
    }
}

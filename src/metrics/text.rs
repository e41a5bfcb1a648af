//! What is told of this process, in the text format of Prometheus.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::value::{Gauge, register, sound};
use super::{HttpMetrics, Metrics};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// When the process began. The crate would take it from `/proc/stat`, which the service cannot see.
const START_TIME: &str = "process_start_time_seconds";

/// A number of now that nobody counts: its name, what it is, and its value.
pub type GaugeNow = (&'static str, &'static str, u64);

/// Everything that is told.
pub struct Exposition {
    registry: Registry,
    /// By name; made when they are first told.
    gauges: Mutex<BTreeMap<&'static str, Gauge>>,
}

impl Exposition {
    /// Tells these, and of the process, which began then: by that counters that began anew are told from others.
    #[must_use]
    pub fn new(metrics: &Metrics, faces: &[Arc<HttpMetrics>], started: SystemTime) -> Self {
        let registry = Registry::new();
        metrics.register(&registry);
        faces.iter().for_each(|face| face.register(&registry));
        register(Process(ProcessCollector::for_self()), &registry);
        let start = sound(prometheus::Gauge::new(START_TIME, "When the process began, in seconds since 1970."));
        start.set(started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        register(start, &registry);
        let version = ("version", env!("CARGO_PKG_VERSION"));
        let build = Gauge::new("peernix_build_info", "The program, as labels; the value is always 1.", &[version]);
        build.set(1);
        build.register(&registry);
        Self { registry, gauges: Mutex::default() }
    }

    /// All of it, with these numbers of now.
    pub fn families(&self, now: &[GaugeNow]) -> Vec<MetricFamily> {
        let mut gauges = self.gauges.lock();
        for (name, help, value) in now {
            let gauge = gauges.entry(name).or_insert_with(|| {
                let gauge = Gauge::new(name, help, &[]);
                gauge.register(&self.registry);
                gauge
            });
            gauge.set(*value);
        }
        self.registry.gather()
    }

    /// The same as text.
    pub fn text(&self, now: &[GaugeNow]) -> String {
        let mut text = String::with_capacity(32 * 1024);
        // Writing to a String cannot fail; what is not sound is left out.
        let _ = TextEncoder::new().encode_utf8(&self.families(now), &mut text);
        text
    }
}

/// How much memory this process has now, in bytes; `None` where the system does not tell.
#[must_use]
pub fn resident_memory() -> Option<u64> {
    let families = ProcessCollector::for_self().collect();
    let memory = families.iter().find(|family| family.name() == "process_resident_memory_bytes")?;
    // A whole number of pages, far below where a float cannot tell numbers apart.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    memory.get_metric().first().map(|metric| metric.get_gauge().get_value() as u64)
}

/// What the crate tells of the process, without when it began.
struct Process(ProcessCollector);

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc().into_iter().filter(|desc| desc.fq_name != START_TIME).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect().into_iter().filter(|family| family.name() != START_TIME).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn exposition(metrics: &Metrics) -> Exposition {
        let faces = ["gateway", "share"].map(|face| Arc::new(HttpMetrics::new(face, &["index", "health"])));
        faces[0].answered(Some(1), hyper::StatusCode::OK);
        Exposition::new(metrics, &faces, UNIX_EPOCH + Duration::from_millis(1500))
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.lookups_peer.add(3);
        metrics.peers_banned.inc();
        metrics.upstream("cache.example.org:8080").add(5);
        metrics.lookup_took.observe(Duration::from_millis(3));
        let exposition = exposition(&metrics);
        let now = |value| exposition.text(&[("peernix_peers_known", "Peers in the table.", value)]);
        let text = now(7);
        let has = |line: &str| assert!(text.lines().any(|other| other == line), "{line}: {text}");
        has("peernix_lookups_total{result=\"upstream\"} 0");
        has("peernix_lookups_total{result=\"peer\"} 3");
        has("# TYPE peernix_peers_banned_total counter");
        has("peernix_peers_banned_total 1");
        has("peernix_upstream_fetched_bytes_total{upstream=\"cache.example.org:8080\"} 5");
        has("peernix_lookup_duration_seconds_bucket{le=\"0.0025\"} 0");
        has("peernix_lookup_duration_seconds_bucket{le=\"0.005\"} 1");
        has("peernix_http_requests_total{face=\"gateway\",route=\"health\",status=\"2xx\"} 1");
        // Present from the start.
        has("peernix_http_requests_total{face=\"share\",route=\"index\",status=\"5xx\"} 0");
        has("process_start_time_seconds 1.5");
        has(&format!("peernix_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        has("peernix_peers_known 7");
        assert_eq!(text.matches("# TYPE peernix_lookups_total ").count(), 1, "a family is described once");
        assert!(now(2).contains("\npeernix_peers_known 2\n"), "a gauge is of now");
    }

    #[test]
    fn the_process_is_measured() {
        let text = exposition(&Metrics::default()).text(&[]);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6 && value("process_open_fds ") > 2.0, "{text}");
        assert!(value("process_threads ") >= 1.0);
    }
}

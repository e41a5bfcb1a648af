//! The counters as an administrator sees them: since the last reset, and over restarts of the program.
//!
//! A reset moves a baseline and touches no counter: Prometheus takes a counter that goes back for a restarted program. For the same
//! reason what earlier runs counted is kept apart from the counters, which begin at 0 with the process: what was left may be older
//! than what Prometheus saw, and would be counted twice.

use super::{HttpMetrics, Metrics, Snapshot};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// The version of what [`Statistics::export`] gives.
const VERSION: u32 = 1;
/// The largest export taken over, in bytes: every counter twice, with room to spare.
pub const EXPORT_MAX: usize = 256 * 1024;

/// Why counters of another run were not taken over.
#[derive(Debug, Error)]
pub enum StatisticsError {
    /// Too large.
    #[error("the statistics of the run before are larger than {EXPORT_MAX} bytes")]
    Size,
    /// Not what [`Statistics::export`] gives.
    #[error("the statistics of the run before cannot be read: {0}")]
    Format(#[from] serde_json::Error),
    /// Of another program.
    #[error("the statistics of the run before have version {0}, not {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Exported {
    version: u32,
    totals: Snapshot,
    baseline: Snapshot,
    /// Seconds since 1970.
    since: u64,
}

/// Every counter of the daemon, with the time since when people want to see them counted.
pub struct Statistics {
    metrics: Arc<Metrics>,
    faces: Vec<(&'static str, Arc<HttpMetrics>)>,
    /// What earlier runs counted.
    before: Mutex<Snapshot>,
    baseline: Mutex<Baseline>,
}

struct Baseline {
    counters: Snapshot,
    since: SystemTime,
}

impl Statistics {
    /// Statistics of these counters, each face under its name, from now on.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, faces: Vec<(&'static str, Arc<HttpMetrics>)>) -> Self {
        let baseline = Mutex::new(Baseline { counters: Snapshot::default(), since: SystemTime::now() });
        Self { metrics, faces, before: Mutex::default(), baseline }
    }

    /// Every counter, over restarts of the program: never reset.
    #[must_use]
    pub fn totals(&self) -> Snapshot {
        snapshot(&self.metrics, &self.faces).plus(&self.before.lock())
    }

    /// What was counted since the last reset, and when that was.
    #[must_use]
    pub fn since_reset(&self) -> (Snapshot, SystemTime) {
        let baseline = self.baseline();
        (self.totals().since(&baseline.counters), baseline.since)
    }

    /// Begins to count anew for people; the counters, which Prometheus reads, stay as they are.
    pub fn reset(&self) {
        let counters = self.totals();
        *self.baseline() = Baseline { counters, since: SystemTime::now() };
    }

    /// Everything, for a program that is about to take over: JSON with a version.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let (baseline, since) = {
            let baseline = self.baseline();
            (baseline.counters.clone(), baseline.since)
        };
        let since = since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Numbers by name: there is nothing that JSON could not hold.
        serde_json::to_vec(&Exported { version: VERSION, totals: self.totals(), baseline, since }).unwrap_or_default()
    }

    /// Goes on from what [`Self::export`] gave. What was counted meanwhile stays counted; names that are not known any more
    /// are dropped.
    ///
    /// # Errors
    /// Too large, no such JSON, or of another version. Then nothing is changed.
    pub fn restore(&self, exported: &[u8]) -> Result<(), StatisticsError> {
        if exported.len() > EXPORT_MAX {
            return Err(StatisticsError::Size);
        }
        let Exported { version, totals, baseline, since } = serde_json::from_slice(exported)?;
        if version != VERSION {
            return Err(StatisticsError::Version(version));
        }
        // Through counters of the same kind, which know what counters there are.
        let metrics = Metrics::default();
        metrics.restore(&totals);
        let faces: Vec<_> = self.faces.iter().map(|(face, metrics)| (*face, Arc::new(metrics.alike()))).collect();
        for (face, metrics) in &faces {
            for (name, value) in totals.under(&format!("{face}.")) {
                metrics.restore(name, value);
            }
        }
        *self.before.lock() = snapshot(&metrics, &faces);
        let now = SystemTime::now();
        let since = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(since)).map_or(now, |since| since.min(now));
        *self.baseline() = Baseline { counters: baseline, since };
        Ok(())
    }

    fn baseline(&self) -> MutexGuard<'_, Baseline> {
        self.baseline.lock()
    }
}

/// All counters, those of the faces under their names.
fn snapshot(metrics: &Metrics, faces: &[(&'static str, Arc<HttpMetrics>)]) -> Snapshot {
    let mut all = metrics.snapshot();
    for (face, metrics) in faces {
        all.0.extend(metrics.counters().map(|(name, value)| (format!("{face}.{name}"), value)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    fn counting() -> Statistics {
        let listeners = ["gateway", "share"].map(|name| (name, Arc::new(HttpMetrics::new(name, &["index", "health"]))));
        Statistics::new(Arc::default(), listeners.into())
    }

    fn statistics() -> Statistics {
        let statistics = counting();
        statistics.metrics.lookups_peer.add(3);
        statistics.metrics.upstream("cache.example.org").add(10);
        statistics.faces[1].1.bytes_sent.add(7);
        statistics.faces[0].1.answered(Some(1), StatusCode::OK);
        statistics
    }

    #[test]
    fn a_reset_begins_anew_and_takes_nothing_back() {
        let statistics = statistics();
        assert_eq!(statistics.since_reset().0.get("lookups_peer"), 3);
        let before = statistics.totals();
        statistics.reset();
        assert_eq!(statistics.totals(), before);
        assert!(statistics.since_reset().0.0.values().all(|value| *value == 0));
        statistics.metrics.lookups_peer.add(2);
        let (counted, since) = statistics.since_reset();
        assert_eq!((counted.get("lookups_peer"), statistics.totals().get("lookups_peer")), (2, 5));
        assert!(since.elapsed().unwrap().as_secs() < 60);
    }

    #[test]
    fn counters_go_on_after_a_restart() {
        let before = statistics();
        before.reset();
        before.metrics.lookups_peer.add(1);
        let after = counting();
        after.metrics.lookups_peer.add(100);
        after.restore(&before.export()).unwrap();
        assert_eq!((after.totals().get("lookups_peer"), after.since_reset().0.get("lookups_peer")), (104, 101));
        assert_eq!(after.totals().get("share.bytes_sent"), 7);
        assert_eq!(after.metrics.lookups_peer.get(), 100, "Prometheus sees this run alone");
        assert_eq!(after.totals().get("gateway.requests.health.2xx"), 1);
        let totals = after.totals();
        assert_eq!(totals.under("fetched_upstream_bytes.").collect::<Vec<_>>(), [("cache.example.org", 10)]);
    }

    #[test]
    fn what_is_no_export_changes_nothing() {
        let statistics = statistics();
        let before = statistics.totals();
        let large = vec![b' '; EXPORT_MAX + 1];
        let newer = br#"{"version":2,"totals":{"lookups_peer":9},"baseline":{},"since":0}"#;
        for bad in [&b""[..], b"{}", b"[]", newer, br#"{"version":1,"totals":{"lookups_peer":-1}}"#, &large] {
            assert!(statistics.restore(bad).is_err());
        }
        assert_eq!(statistics.totals(), before);
        // Names that nobody knows, and ones that would overflow.
        let odd = br#"{"version":1,"totals":{"x":1,"share.requests.x.y":1,"lookups_peer":18446744073709551615},"baseline":{},"since":18446744073709551615}"#;
        statistics.restore(odd).unwrap();
        assert_eq!(statistics.totals().get("x"), 0);
    }
}

//! Numbers that are counted and measured: thin words around the crate that knows Prometheus. Nothing that counts blocks or allocates.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};
use std::time::Duration;

/// The upper ends of the classes of durations, in seconds: from what memory takes to what Nix gives up on.
const DURATIONS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The labels of one series: names with values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A number that only grows. Clones are the same.
#[derive(Debug, Clone)]
pub struct Counter(IntCounter);

impl Counter {
    pub(super) fn new(name: &str, help: &str, labels: Labels<'_>) -> Self {
        Self(sound(IntCounter::with_opts(options(name, help, labels))))
    }

    /// One of a family whose series come as they are needed.
    pub(super) const fn of(counter: IntCounter) -> Self {
        Self(counter)
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    pub(super) fn register(&self, registry: &Registry) {
        register(self.0.clone(), registry);
    }
}

/// A number that goes up and down. Clones are the same.
#[derive(Debug, Clone)]
pub struct Gauge(IntGauge);

impl Gauge {
    pub(super) fn new(name: &str, help: &str, labels: Labels<'_>) -> Self {
        Self(sound(IntGauge::with_opts(options(name, help, labels))))
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// Makes it this.
    pub fn set(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Its value; never below 0.
    #[must_use]
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.get()).unwrap_or_default()
    }

    pub(super) fn register(&self, registry: &Registry) {
        register(self.0.clone(), registry);
    }
}

/// How long something took, each time, as a histogram in seconds. Clones are the same.
#[derive(Debug, Clone)]
pub struct Latency(Histogram);

impl Latency {
    pub(super) fn new(name: &str, help: &str, labels: Labels<'_>) -> Self {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = HistogramOpts::new(name, help).const_labels(labels).buckets(DURATIONS.into());
        Self(sound(Histogram::with_opts(options)))
    }

    /// It took this long once more.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }

    /// How often that was.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.get_sample_count()
    }

    pub(super) fn register(&self, registry: &Registry) {
        register(self.0.clone(), registry);
    }
}

fn options(name: &str, help: &str, labels: Labels<'_>) -> Opts {
    labels.iter().fold(Opts::new(name, help), |options, (name, value)| options.const_label(*name, *value))
}

/// Adds to what is told.
pub(super) fn register(collector: impl Collector + 'static, registry: &Registry) {
    sound(registry.register(Box::new(collector)));
}

/// What cannot fail: names and labels are constants, and a test makes and registers every one of them.
#[allow(clippy::expect_used)]
pub(super) fn sound<T>(made: prometheus::Result<T>) -> T {
    made.expect("every name is valid, and registered once")
}

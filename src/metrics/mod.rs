//! Every counter of the daemon, by name, and their Prometheus text.
//!
//! From the bottom: `value` is one number; `counters` are those of the rooms that fetch, `http` those of the servers; `text` tells all
//! of them; `statistics` has them over restarts and resets, `history` by days.
#![forbid(unsafe_code)]

mod counters;
mod history;
mod http;
mod statistics;
mod text;
mod value;

pub use counters::{Metrics, Snapshot};
pub use history::{Day, HISTORY_MAX, History, HistoryError, Levels, Moment};
pub use http::HttpMetrics;
pub use statistics::{EXPORT_MAX, Statistics, StatisticsError};
pub use text::{Exposition, GaugeNow, resident_memory};
pub use value::{Counter, Gauge, Latency};

//! Every counter of the daemon, by name, and their Prometheus text.
//!
//! From the bottom: `text` is the format; `counters` are those of the rooms that fetch, `http` those of the servers;
//! `statistics` has them all, over restarts and resets.
#![forbid(unsafe_code)]

mod counters;
mod http;
mod statistics;
mod text;

pub use counters::{Counter, Metrics, Snapshot};
pub(crate) use http::count;
pub use http::{HttpMetrics, render_http};
pub use statistics::{EXPORT_MAX, Statistics, StatisticsError};
pub use text::{render_gauge, render_process};

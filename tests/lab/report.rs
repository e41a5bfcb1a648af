//! What the lab found: rows of figures for `target/lab/report.json`, and every answer that Nix and our clients saw.

use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// One figure. The form is DESIGN's: `{case, what, value, unit, limit, ok}`; a skipped case has only `skipped`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) what: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(crate) value: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) unit: String,
    /// The value may not exceed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<f64>,
    pub(crate) ok: bool,
    /// Why it was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skipped: Option<String>,
}

impl Row {
    /// The row of a case that could not run.
    pub(crate) fn skipped(case: &str, reason: &str) -> Self {
        Self {
            case: case.into(),
            what: String::new(),
            value: Value::Null,
            unit: String::new(),
            limit: None,
            ok: true,
            skipped: Some(reason.into()),
        }
    }

    /// `what value unit (limit …)`, for people.
    pub(crate) fn line(&self) -> String {
        let value = match &self.value {
            Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), readable),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let limit = self.limit.map(|limit| format!(" (limit {})", readable(limit))).unwrap_or_default();
        let mark = if self.ok { "" } else { "  <-- NOT OK" };
        format!("{}: {value} {}{limit}{mark}", self.what, self.unit).trim_end().to_owned()
    }
}

fn readable(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e12 {
        format!("{value}")
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// Writes all rows to `file`.
pub(crate) fn write(file: &Path, rows: &[Row]) -> Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(rows)?).with_context(|| format!("writing {file:?}"))
}

/// Every answer of every gateway that a real Nix or one of our clients saw, over the whole run.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<Seen>);

/// The sums, and the places where something forbidden was seen.
#[derive(Default, Clone)]
pub(crate) struct Seen {
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Retries that no fault explains: `(where, count)`.
    pub(crate) retries: Vec<(String, u64)>,
    /// Statuses that Nix must never get, with where.
    pub(crate) forbidden: Vec<(String, u16)>,
}

/// The statuses after which Nix retries for seconds or gives up: no gateway may ever send them.
pub(crate) const fn forbidden(status: u16) -> bool {
    matches!(status, 408 | 429) || status >= 500
}

impl Traffic {
    /// Adds `count` answers with `status` that were seen at `place`.
    pub(crate) fn saw(&self, place: &str, status: u16, count: u64) {
        if count == 0 {
            return;
        }
        let mut seen = self.lock();
        *seen.statuses.entry(status).or_default() += count;
        if forbidden(status) {
            seen.forbidden.push((place.to_owned(), status));
        }
    }

    /// Adds retries that Nix made and should not have had to make.
    pub(crate) fn retried(&self, place: &str, count: u64) {
        if count > 0 {
            self.lock().retries.push((place.to_owned(), count));
        }
    }

    /// The sums so far.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock()
    }
}

//! What a case is given: folders, the sets of paths, and the pen to write figures with.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use crate::network::Network;
use crate::report::{Row, Traffic};
use crate::world::World;

/// One run of one case.
pub(crate) struct Ctx {
    pub(crate) name: String,
    /// A number that no other case of this run has.
    pub(crate) number: usize,
    /// Logs, kept.
    pub(crate) logs: PathBuf,
    /// Hosts, removed when the case has passed.
    pub(crate) tmp: PathBuf,
    /// The program under test.
    pub(crate) peernixd: PathBuf,
    /// Whether to take the time that the big numbers need.
    pub(crate) long: bool,
    pub(crate) world: Arc<World>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) rows: Mutex<Vec<Row>>,
}

impl Ctx {
    /// A fresh network.
    pub(crate) fn network(&self) -> Result<Network<'_>> {
        Network::new(self)
    }

    /// A name for a namespace: unique in the run, and the run has namespaces of its own.
    pub(crate) fn ns_name(&self, name: &str) -> String {
        format!("lab{}-{name}", self.number)
    }

    /// Writes down a figure that may not exceed `limit`.
    pub(crate) fn measure(&self, what: &str, value: f64, unit: &str, limit: impl Into<Option<f64>>) {
        let limit = limit.into();
        let ok = value.is_finite() && limit.is_none_or(|limit| value <= limit);
        // Six digits after the point are microseconds; more is noise.
        self.push(what, ((value * 1e6).round() / 1e6).into(), unit, limit, ok);
    }

    /// Writes down something that has no limit and need not be a number.
    pub(crate) fn note(&self, what: &str, value: impl Into<Value>, unit: &str) {
        self.push(what, value.into(), unit, None, true);
    }

    /// Writes down whether something that has to be so is so. The case goes on either way.
    pub(crate) fn check(&self, what: &str, ok: bool, otherwise: &str) {
        let value = if ok { "yes".to_owned() } else { format!("no: {otherwise}") };
        self.push(what, value.into(), "", None, ok);
    }

    fn push(&self, what: &str, value: Value, unit: &str, limit: Option<f64>, ok: bool) {
        let row =
            Row { case: self.name.clone(), what: what.into(), value, unit: unit.into(), limit, ok, skipped: None };
        self.rows.lock().push(row);
    }

    /// The rows so far.
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.lock().clone()
    }
}

//! The Prometheus text format.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;

/// Appends one number that goes up and down.
pub fn render_gauge(name: &str, help: &str, value: u64, text: &mut String) {
    family(text, name, "gauge", help);
    let _ = writeln!(text, "{name} {value}");
}

/// Appends what is said of all numbers of one name.
pub(super) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

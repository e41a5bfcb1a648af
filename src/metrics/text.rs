//! The Prometheus text format.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends one number that goes up and down.
pub fn render_gauge(name: &str, help: &str, value: u64, text: &mut String) {
    family(text, name, "gauge", help);
    let _ = writeln!(text, "{name} {value}");
}

/// Appends when the process began, by which counters that began anew are told from others, and what it is.
pub fn render_process(started: SystemTime, text: &mut String) {
    let seconds = started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    family(text, "process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.");
    let _ = writeln!(text, "process_start_time_seconds {seconds:.3}");
    family(text, "peernix_build_info", "gauge", "The program, as labels; the value is always 1.");
    let _ = writeln!(text, "peernix_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
}

/// Appends what is said of all numbers of one name.
pub(super) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_process_is_named() {
        let mut text = String::new();
        render_process(UNIX_EPOCH + Duration::from_millis(1500), &mut text);
        assert!(text.contains("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.500\n"), "{text}");
        assert!(
            text.ends_with(&format!("\npeernix_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
    }
}

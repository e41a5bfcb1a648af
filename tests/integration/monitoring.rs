//! What Prometheus makes of what we tell, and of the rules that come with it.

use crate::support::skipped;
use peernix::http::Route;
use peernix::metrics::{Exposition, HttpMetrics, Metrics};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

/// Has promtool look at something, in the folder of the rules.
fn promtool(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring"));
    let child = promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return skipped("there is no promtool") };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn the_rules_speak_when_they_should() {
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn the_text_is_without_fault() {
    let (metrics, face) = (Metrics::default(), Arc::new(HttpMetrics::new("gateway", &Route::NAMES)));
    metrics.upstream("cache.example.org").inc();
    let exposition = Exposition::new(&metrics, &[face], SystemTime::now());
    promtool(&["check", "metrics"], &exposition.text(&[("peernix_peers_known", "Peers in the table.", 3)]));
}

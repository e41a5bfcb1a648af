//! Tests that keep `docs/` true: what can be compared with the code is compared.

mod arrows;

use crate::cli::exit;
use crate::control::Finding;
use crate::http::Route;
use crate::metrics::{Exposition, HttpMetrics, Metrics};
use crate::peers::NodeId;
use arrows::{House, Module};
use std::collections::BTreeSet;
use std::sync::Arc;

const ARCHITECTURE: &str = include_str!("../docs/architecture.md");
const ALERTS: &str = include_str!("../monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../monitoring/dashboard.json");
const OPERATIONS: &str = include_str!("../docs/operations.md");
const WIRE_PROTOCOL: &str = include_str!("../docs/wire-protocol.md");

/// The rows of the first table after a text, as cells.
fn table<'a>(document: &'a str, after: &str) -> Vec<Vec<&'a str>> {
    let (_, rest) = document.split_once(after).unwrap_or_else(|| panic!("there is no {after:?}"));
    let lines = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    // The header and the line below it.
    lines.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn exit_codes() {
    let codes = |after| table(OPERATIONS, after).iter().map(|row| row[0].parse().unwrap()).collect::<Vec<u8>>();
    let daemon =
        [0, exit::USAGE, exit::UNAVAILABLE, exit::SOFTWARE, exit::CANNOT_CREATE, exit::PERMISSION, exit::CONFIG];
    assert_eq!(codes("## Exit codes"), daemon);
    assert_eq!(codes("`peernixctl`:"), exit::CTL_CODES.map(|(code, _)| code));
}

#[test]
fn test_vectors() {
    // RFC 8032, section 7.1, test 1.
    let public =
        data_encoding::HEXLOWER.decode(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    let id = NodeId::from_bytes(public.try_into().unwrap()).unwrap().to_string();
    assert!(WIRE_PROTOCOL.contains(&format!("\n    {id}\n")), "{id}");
}

#[test]
fn metrics() {
    // What is written as text, and the numbers that the gateway adds.
    let mut text =
        [include_str!("http/gateway/status.rs"), include_str!("daemon/gauges.rs")].concat().replace('"', "\n");
    let metrics = Metrics::default();
    // The first of its kind brings the family.
    metrics.upstream("cache.example.org").inc();
    let face = Arc::new(HttpMetrics::new("gateway", &Route::NAMES));
    text += &Exposition::new(&metrics, &[face], std::time::SystemTime::now()).text(&[]);
    let is_name = |word: &&str| word.starts_with("peernix_") || word.starts_with("process_");
    let names = text.lines().filter(|line| !line.starts_with(['#']) || line.starts_with("# TYPE"));
    let names = names.filter_map(|line| line.split([' ', '{']).find(is_name));
    // Of a histogram its family counts.
    let mut names: BTreeSet<&str> = names.collect();
    let families: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix("_bucket")).collect();
    for family in families {
        names.retain(|name| !["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end) == Some(family)));
    }
    let listed = table(OPERATIONS, "### Metrics");
    let listed: BTreeSet<&str> = listed.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, names);
}

/// The names of metrics in a text.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_name = |word: &&str| ["peernix_", "process_"].iter().any(|begin| word.starts_with(begin));
    words.filter(is_name).map(|word| word.strip_suffix("_bucket").unwrap_or(word)).collect()
}

#[test]
fn alerts_and_dashboard_go_by_metrics_that_there_are() {
    let listed = table(OPERATIONS, "### Metrics");
    let listed: BTreeSet<&str> = listed.iter().map(|row| row[0].trim_matches('`')).collect();
    let used = [ALERTS, DASHBOARD].map(metric_names);
    assert!(used.iter().all(|used| used.len() > 5));
    let unknown: Vec<_> = used.iter().flatten().filter(|name| !listed.contains(*name)).collect();
    assert_eq!(unknown, Vec::<&&str>::new());
    let words = ALERTS.split("peernixctl explain ").skip(1).filter_map(|rest| rest.split('`').next());
    let unknown: Vec<_> = words.filter(|word| word.parse::<Finding>().is_err()).collect();
    assert_eq!(unknown, Vec::<&str>::new(), "there is no such finding");
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

#[test]
fn a_room_uses_rooms_below_it_only() {
    let house = House::read();
    let rows = table(ARCHITECTURE, "## The house");
    let rooms: Vec<&str> = rows.iter().map(|row| row[0].trim_matches(['`', '/', ' '])).collect();
    let place = |module: &Module| {
        let room = module.first()?;
        let place = rooms.iter().position(|other| other == room);
        Some(place.unwrap_or_else(|| panic!("docs/architecture.md does not name the room {room}")))
    };
    for (from, used) in house.arrows() {
        for to in used {
            let upwards = place(from).zip(place(&to)).is_some_and(|(from, to)| from < to);
            assert!(!upwards, "{} uses {}, whose room is above its own", from.join("::"), to.join("::"));
        }
    }
}

#[test]
fn no_files_use_each_other() {
    let circle = House::read().circle().map(|circle| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>());
    assert_eq!(circle, None, "these use each other in a circle");
}

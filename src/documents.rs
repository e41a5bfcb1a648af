//! Tests that keep `docs/` true: what can be compared with the code is compared.

use crate::cli::exit;
use crate::http::Route;
use crate::metrics::{HttpMetrics, Metrics, render_http};
use crate::peers::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const ARCHITECTURE: &str = include_str!("../docs/architecture.md");
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
    let daemon = [0, exit::USAGE, exit::UNAVAILABLE, exit::SOFTWARE, exit::CANNOT_CREATE, exit::CONFIG];
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
    let mut text = include_str!("http/gateway/status.rs").replace('"', "\n");
    Metrics::default().render(&mut text);
    render_http(&[("gateway", &HttpMetrics::new(&Route::NAMES))], &mut text);
    let names = text.lines().filter_map(|line| line.split([' ', '{']).find(|word| word.starts_with("peernix_")));
    let names: BTreeSet<&str> = names.collect();
    let listed = table(OPERATIONS, "### Metrics");
    let listed: BTreeSet<&str> = listed.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(listed, names);
}

/// The rooms that the files of each room name, by `crate::ROOM`.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut directories = vec![source.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let inside = path.strip_prefix(&source).unwrap().with_extension("");
            let room = inside.iter().next().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests may build whole houses; what counts is the code. A file of tests is named so.
            let is_test = inside.iter().any(|part| part.to_string_lossy().contains("test"));
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let named = if is_test { "" } else { code }.split("crate::").skip(1);
            let rooms = named.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap());
            let is_room = |other: &&str| {
                let path = source.join(other);
                !other.is_empty() && *other != room && (path.is_dir() || path.with_extension("rs").exists())
            };
            arrows.entry(room.to_owned()).or_default().extend(rooms.filter(is_room).map(str::to_owned));
        }
    }
    arrows
}

#[test]
fn nothing_imports_upwards() {
    let rows = table(ARCHITECTURE, "## The house");
    let name = |cell: &str| cell.trim_matches(['`', '/', ' ']).to_owned();
    let rooms: Vec<String> = rows.iter().map(|row| name(row[0])).collect();
    let arrows = arrows();
    assert!(arrows["http"].contains("fetch") && !arrows["nix"].contains("store"), "{arrows:?}");
    for room in arrows.keys().filter(|room| !["lib", "bin", "documents"].contains(&room.as_str())) {
        assert!(rooms.contains(room), "docs/architecture.md does not name the room {room}");
    }
    for row in rows {
        let room = name(row[0]);
        let Some(used) = arrows.get(&room) else { panic!("there is no room {room}") };
        let may: BTreeSet<String> = row[2].split('`').skip(1).step_by(2).map(name).collect();
        let all = row[2].contains("all of these");
        let beyond: Vec<&String> =
            used.iter().filter(|other| **other != room && !all && !may.contains(*other)).collect();
        assert!(beyond.is_empty(), "{room} uses {beyond:?}, which docs/architecture.md does not allow");
    }
}

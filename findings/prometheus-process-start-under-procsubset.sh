#!/bin/bash
# Under systemd's ProcSubset=pid the process collector of the Rust crate `prometheus` says that the process began in 1970. Nothing of Peernix
# runs here.
#
# With: prometheus 0.14.0 (features: process), from crates.io, with its dependencies as of the run. Needs Rust, and root for a mount
# namespace. Valid input: a program that registers `ProcessCollector::for_self()` and prints what it tells, with a /proc mounted as
# systemd mounts it for ProcSubset=pid (`subset=pid`), which hides everything that is no process.
#
# Seen on 2026-11-30:
#   - with the usual /proc, process_start_time_seconds is the time of the start;
#   - with subset=pid it is there, with the value 0, and all others (memory, descriptors, threads) are right: the start is reckoned from the
#     time of the boot in /proc/stat, which is not there then. Nothing says so, and a rule that goes by `changes(process_start_time_seconds)`
#     or by the age of a process sees one that never restarts and is 56 years old.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "CHANGED: $*" >&2
  exit 1
}

mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "start"
version = "0.0.0"
edition = "2021"

[dependencies]
prometheus = { version = "=0.14.0", default-features = false, features = ["process"] }
END
cat >"$work/src/main.rs" <<'END'
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

fn main() {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self())).unwrap();
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).for_each(|line| println!("{line}"));
}
END
cargo build --quiet --manifest-path "$work/Cargo.toml"
program=$work/target/debug/start

value() { sed -n "s/^$1 //p" <<<"$2"; }
usual=$("$program")
hidden=$(unshare --mount --pid --fork sh -c 'mount -t proc -o subset=pid proc /proc && exec "$1"' sh "$program")
printf 'with the usual /proc:\n%s\nwith subset=pid:\n%s\n' "$usual" "$hidden"

started=$(value process_start_time_seconds "$usual")
[ "${started%.*}" -gt $(($(date +%s) - 3600)) ] || fail "with the usual /proc it began at $started"
[ "$(value process_start_time_seconds "$hidden")" = 0 ] || fail "with subset=pid it began at $(value process_start_time_seconds "$hidden")"
[ "$(value process_resident_memory_bytes "$hidden")" -gt 100000 ] || fail 'with subset=pid its memory is not known either'
[ "$(value process_threads "$hidden")" -ge 1 ] || fail 'with subset=pid its threads are not known either'
echo "as seen"

#!/bin/bash
# Checks the dependencies against deny.toml: licences, sources, bans, and known vulnerabilities where their list can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
# Of the machine and not of the tree, as the lab's root trees: it takes minutes to build, and each clone would build it anew.
tools=${XDG_CACHE_HOME:-$HOME/.cache}/peernix-tools/cargo-deny-$version

if ! deny=$(command -v cargo-deny); then
  deny=$tools/bin/cargo-deny
  if [ ! -x "$deny" ]; then
    # Unoptimised it takes half the time.
    CARGO_PROFILE_DEV_DEBUG=false cargo install cargo-deny --debug --locked --version "$version" --root "$tools" --target-dir "$tools/build"
    rm -rf "$tools/build"
  fi
fi

# Also those of systems that are not built for: the check looks at all of Cargo.lock.
cargo fetch --locked --quiet
"$deny" --offline --all-features check bans licenses sources

# The list of vulnerabilities is a git repository. Not to reach it is no fault of the tree, but nobody should overlook it.
if timeout 60 "$deny" --all-features fetch db >/dev/null 2>&1; then
  "$deny" --offline --all-features check advisories
else
  printf '\n******** SKIPPED: advisories. The RustSec database cannot be fetched from here. ********\n\n' >&2
fi

#!/bin/bash
# nix-format.sh [--check]: formats every .nix file of the tree, or says which are not formatted.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}/tools/nix-format
# Unoptimised, it is quick enough and built in half a minute, once.
${CARGO:-cargo} build --quiet --locked --manifest-path scripts/nix-format/Cargo.toml --target-dir "$target"
find . \( -name .git -o -path ./target -o -path ./fuzz/target \) -prune -o -name '*.nix' -print0 | sort -z |
  xargs -0 "$target/debug/nix-format" "$@"

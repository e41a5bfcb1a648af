#!/bin/bash
# Checks what is for NixOS, as far as that is possible without NixOS:
#
# - every .nix file parses, and docs/nixos-options.md has every option with its description;
# - with nixpkgs' lib: the module comes to what nixos/tests/ says, `peernixd --check-config` likes the files that it writes,
#   docs/nixos-options.md is current, and `nix flake show` and every check of the flake evaluate against a stand-in nixpkgs.
#
# usage: nixos-check.sh [parse|docs]    without: all; parse: only that; docs: write docs/nixos-options.md
#
# From the environment: PEERNIX_NIXPKGS_LIB, the folder `lib` of a nixpkgs (or of github.com/nix-community/nixpkgs.lib); PEERNIXD, the
# program that tries the configurations (default: target/debug/peernixd). What cannot be done here is said to be SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."

skipped() { printf '\n******** SKIPPED: %s ********\n\n' "$*" >&2; }
failed=0
fail() {
  printf 'nixos-check: %s\n' "$*" >&2
  failed=1
}

if ! command -v nix-instantiate >/dev/null; then
  skipped 'the checks for NixOS: Nix is not installed here (on Debian: apt-get install nix-bin)'
  exit 0
fi

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
# A store of its own: nothing is left behind, and no privilege is needed.
export NIX_STORE_DIR=$work/store NIX_STATE_DIR=$work/state NIX_LOG_DIR=$work/log NIX_CONF_DIR=$work/conf NIX_REMOTE=''
export XDG_CACHE_HOME=$work/cache HOME=$work/home
mkdir -p "$NIX_CONF_DIR" "$HOME"
printf 'experimental-features = nix-command flakes\nbuild-users-group =\nsandbox = false\nsubstituters =\n' >"$NIX_CONF_DIR/nix.conf"

mapfile -t files < <(find . -name '*.nix' -not -path './target/*' -not -path './.git/*' | sort)
for file in "${files[@]}"; do
  nix-instantiate --parse "$file" >/dev/null || fail "$file does not parse"
done
[ "$failed" = 0 ] || exit 1
printf 'ok: %d .nix files parse (%s)\n' "${#files[@]}" "$(nix-instantiate --version)"
[ "${1-}" != parse ] || exit 0

# Before anything else is wrong because of it. `docs` is how it is mended.
if [ "${1-}" != docs ]; then
  wrong=$(nix-instantiate --eval --strict nixos/tests/documented.nix)
  if [ "$wrong" = '[ ]' ]; then
    printf 'ok: docs/nixos-options.md has every option and its description\n'
  else
    fail "docs/nixos-options.md is not current (make nixos-docs): $wrong"
  fi
fi

lib=${PEERNIX_NIXPKGS_LIB-}
if [ ! -e "$lib/modules.nix" ]; then
  skipped "the module, the documents of its options, and the flake. Put the folder lib of nixpkgs anywhere" \
    "(github.com/nix-community/nixpkgs.lib has it alone) and name it: PEERNIX_NIXPKGS_LIB=…/lib"
  [ -z "$lib" ] || fail "PEERNIX_NIXPKGS_LIB=$lib has no modules.nix"
  exit $failed
fi
command -v jq >/dev/null || {
  echo 'nixos-check: jq is missing (on Debian: apt-get install jq)' >&2
  exit 1
}
lib=$(realpath "$lib")
printf 'lib of nixpkgs %s\n' "$(cat "$lib/.version")"

# The stand-in nixpkgs of nixos/tests/nixpkgs, with the real lib in it.
nixpkgs=$work/nixpkgs
cp -r nixos/tests/nixpkgs "$nixpkgs"
cp -r "$lib" "$nixpkgs/lib"

evaluate() { nix-instantiate --eval --strict --json -E "(import $PWD/nixos/tests { lib = import $lib; }).$1"; }

evaluate options | jq -j . >"$work/nixos-options.md"
if [ "${1-}" = docs ]; then
  cp "$work/nixos-options.md" docs/nixos-options.md
  exit $failed
fi
if cmp -s "$work/nixos-options.md" docs/nixos-options.md; then
  printf 'ok: docs/nixos-options.md is current (%d options)\n' "$(grep -c '^## ' docs/nixos-options.md)"
else
  fail 'docs/nixos-options.md is not current: make nixos-docs'
fi

evaluate passed | jq -r '.[] | "ok: " + .'
evaluate failures | jq -r '.[] | "FAILED: " + .' >"$work/failures"
if [ -s "$work/failures" ]; then
  cat "$work/failures"
  fail "$(wc -l <"$work/failures") checks of the module failed"
fi

peernixd=${PEERNIXD-${CARGO_TARGET_DIR:-target}/debug/peernixd}
if [ -x "$peernixd" ]; then
  evaluate configs >"$work/configs.json"
  while IFS= read -r name; do
    jq -r --arg name "$name" '.[$name]' "$work/configs.json" >"$work/config.toml"
    if "$peernixd" --config "$work/config.toml" --check-config >"$work/said" 2>&1; then
      printf 'ok: %s: peernixd takes the file\n' "$name"
    else
      fail "$name: peernixd refuses the file: $(cat "$work/said")"
    fi
  done < <(jq -r 'keys[]' "$work/configs.json")
else
  skipped "the files that the module writes were not shown to peernixd: $peernixd is not there (make debug, or PEERNIXD=…)"
fi

# The flake as a user has it, evaluated purely.
flake=$work/flake
mkdir "$flake"
find . \( -path ./.git -o -path ./target -o -path ./fuzz/target \) -prune -o -type f -print0 | xargs -0 cp --parents -t "$flake"
override=(--override-input nixpkgs "path:$nixpkgs" --no-write-lock-file --offline)
nix flake check --no-build "${override[@]}" "path:$flake" >"$work/said" 2>&1 || fail "nix flake check: $(cat "$work/said")"
if nix flake show "${override[@]}" --json "path:$flake" >"$work/shown" 2>"$work/said"; then
  printf 'ok: nix flake show: %s\n' "$(jq -r 'keys | join(", ")' "$work/shown")"
else
  fail "nix flake show: $(cat "$work/said")"
fi
for system in x86_64-linux aarch64-linux; do
  for output in "checks.$system" "packages.$system" "devShells.$system" "legacyPackages.$system.containerTests"; do
    if nix eval "${override[@]}" --json "path:$flake#$output" \
      --apply 'outputs: builtins.mapAttrs (_: output: output.drvPath) outputs' >"$work/outputs.json" 2>"$work/said"; then
      printf 'ok: %s: %s\n' "$output" "$(jq -r 'keys | join(", ")' "$work/outputs.json")"
    else
      fail "$output: $(cat "$work/said")"
    fi
  done
done

# A revision and its hash, as `nix flake update` writes them.
jq -e '.nodes.nixpkgs.locked | .type == "github" and (.rev | test("^[0-9a-f]{40}$")) and (.narHash | test("^sha256-.{44}$"))' flake.lock >/dev/null ||
  fail 'flake.lock names no revision and hash of nixpkgs'
[ "$failed" != 0 ] || printf 'ok: all that can be checked here\n'
exit $failed

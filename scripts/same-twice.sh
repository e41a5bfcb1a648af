#!/bin/bash
# Builds the programs twice, in two folders with two registries of crates, and compares them byte by byte: what is installed says nothing of
# where it was built. Takes two builds; `same-twice.sh quick` spares the optimisation of all as one, which changes no path.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1-}" = quick ]; then export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=0; fi
registry=${CARGO_HOME:-$HOME/.cargo}
for folder in one another/and-deeper; do
  mkdir -p "$work/$folder/tree" "$work/$folder/home"
  git ls-files -z | xargs -0 cp --parents -t "$work/$folder/tree"
  # Fetched once; its paths differ all the same. With the times of the files, which some crates put into the programs.
  if [ -d "$registry/registry" ]; then cp -a "$registry/registry" "$work/$folder/home/"; fi
  (cd "$work/$folder/tree" && unset CARGO_TARGET_DIR && CARGO_HOME=$work/$folder/home make --no-print-directory release)
done
failed=0
for program in peernixd peernixctl peernix-notifier; do
  one=$work/one/tree/target/release/$program
  if ! cmp "$one" "$work/another/and-deeper/tree/target/release/$program"; then failed=1; fi
  if grep -aqF "$work" "$one"; then
    echo "same-twice: $program names the folder it was built in" >&2
    failed=1
  fi
done
if [ "$failed" = 0 ]; then echo 'same-twice: the programs are the same'; fi
exit "$failed"

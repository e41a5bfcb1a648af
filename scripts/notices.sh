#!/bin/bash
# THIRD-PARTY-NOTICES: the licences of the crates that are linked into the programs.
#
# usage: notices.sh          writes it anew, by cargo-about, which is installed for that
#        notices.sh --check  whether it has all crates that are linked now; needs nothing
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.9.3
file=THIRD-PARTY-NOTICES
tools=${XDG_CACHE_HOME:-$HOME/.cache}/peernix-tools/cargo-about-$version

# Those that are linked: not what only builds or tests, nor procedural macros and what these are made of.
linked() {
  for target in x86_64 aarch64; do
    cargo tree --locked --edges normal,no-proc-macro --target "$target-unknown-linux-gnu" --prefix none --format '{p}'
  done | sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | grep -v '^peernix ' | sort -u
}

if [ "${1-}" = --check ]; then
  listed=$(sed -n '/^Crates:/,/^===/s/^  \([^ ]* [^ ]*\) (.*/\1/p' "$file" | sort -u)
  if missing=$(comm -23 <(linked) <(cat <<<"$listed")) && [ -n "$missing" ]; then
    printf '%s lacks crates that are linked: run scripts/notices.sh\n%s\n' "$file" "$missing" >&2
    exit 1
  fi
  exit 0
fi

about=$tools/bin/cargo-about
if [ ! -x "$about" ]; then
  # Optimised: it compares each file with the texts of all licences.
  cargo install cargo-about --locked --features cli --version "$version" --root "$tools" --target-dir "$tools/build"
  rm -rf "$tools/build"
fi
cargo fetch --locked --quiet
"$about" generate --locked --offline --fail --output-file "$file" scripts/notices.hbs

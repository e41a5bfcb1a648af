#!/bin/bash
# A substituter that Nix has seen once and that is gone the next time ends the run, although another substituter has the path and would
# have been asked had the first one answered "not here". Nothing of Peernix runs here.
#
# With: Nix 2.8.0 (Debian 12) and Nix 2.26.3 (Debian 13), from Debian's archive. Needs root, for mmdebstrap and chroot.
# Valid input: two flat binary caches with the same two paths, written by that same Nix, served by Python's http.server.
#
# Seen on 2026-11-28, with both:
#   - both caches there: the first path comes from the first cache;
#   - the first cache gone: `error: … unable to download 'http://127.0.0.1:…/….narinfo': Couldn't connect to server (7)` after five
#     attempts and 4 to 6 seconds, exit code 1. The second cache gets no request at all;
#   - the first one taken out of the list: the path comes from the second in a moment;
#   - both in the list again with `fallback = true`, 2.26.3 only: it goes on with the second cache, after as long.
# The reason: `nix-cache-info` of the first is in Nix's cache on disk for 7 days, so that Nix does not notice at its start that the
# cache is gone, and the error of a narinfo is then an error of the run. (2.32 logs it and asks the next one.)
set -euo pipefail

work=$(mktemp -d)
pids=()
cleanup() {
  [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
fail() {
  echo "CHANGED: $*" >&2
  exit 1
}
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
mirror=${mirror:-http://deb.debian.org/debian/}

try() { # try SUITE VERSION [with-fallback]
  local suite=$1 version=$2 fallback=${3-} root=$work/$1 conf=$work/$1/conf first second one two said begun
  mmdebstrap --quiet --variant=extract --include=nix-bin --aptopt='APT::Install-Recommends "false"' "$suite" "$root" "$mirror"
  for dir in bin sbin lib lib64; do
    if [ -e "$root/usr/$dir" ] && [ ! -e "$root/$dir" ]; then ln -s "usr/$dir" "$root/$dir"; fi
  done
  mkdir -p "$root"/{proc,dev,tmp,etc,nix,home,conf}
  printf 'root:x:0:0:root:/home:/bin/sh\n' >"$root/etc/passwd"
  # In a mount namespace of its own, so that nothing is left mounted.
  nix() {
    unshare --mount sh -c 'mount --rbind /proc "$0/proc"; mount --rbind /dev "$0/dev"; exec env -i HOME=/home \
      PATH=/usr/bin:/bin:/usr/sbin:/sbin NIX_CONF_DIR=/conf LC_ALL=C.UTF-8 chroot "$0" "$@"' "$root" "$@" 2>&1
  }
  settings() { # settings SUBSTITUTERS [MORE]
    printf 'experimental-features = nix-command\nsandbox = false\nbuild-users-group =\nrequire-sigs = false\nsubstituters = %s\n%s\n' \
      "$1" "${2-}" >"$conf/nix.conf"
  }
  settings ''
  said=$(nix nix --version)
  [ "${said##* }" = "$version" ] || fail "$suite has $said, not $version"

  # Two paths, and two caches of them.
  printf one >"$root/tmp/one"
  printf two >"$root/tmp/two"
  one=$(nix nix-store --add /tmp/one)
  two=$(nix nix-store --add /tmp/two)
  for cache in first second; do
    nix nix copy --to "file:///$cache?compression=none" "$one" "$two" >/dev/null
    echo 'Priority: 10' >>"$root/$cache/nix-cache-info"
  done
  nix nix-store --delete "$one" "$two" >/dev/null
  serve() { # serve CACHE: prints its port
    python3 -u -m http.server --bind 127.0.0.1 --directory "$root/$1" 0 >"$root/$1.port" 2>"$root/$1.log" &
    pids+=($!)
    for _ in $(seq 100); do
      port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$root/$1.port")
      [ -z "$port" ] || break
      read -rt 0.1 <> <(:) || true
    done
    [ -n "$port" ] || fail "no server"
  }
  serve first
  first=http://127.0.0.1:$port first_pid=${pids[-1]}
  serve second
  second=http://127.0.0.1:$port
  both="$first?priority=10 $second?priority=20"

  settings "$both"
  nix nix-store --realise "$one" >"$root/said" || fail "$version: with both there: $(cat "$root/said")"
  grep -q 'GET /.*\.narinfo' "$root/first.log" || fail "$version: the first cache is not asked first"

  kill "$first_pid"
  wait "$first_pid" 2>/dev/null || true
  : >"$root/second.log"
  begun=$SECONDS
  if nix nix-store --realise "$two" >"$root/said"; then fail "$version: it goes on without the first cache"; fi
  grep -q "^error: unable to download '$first/.*narinfo'" "$root/said" || fail "$version: another error: $(cat "$root/said")"
  [ ! -s "$root/second.log" ] || fail "$version: the second cache is asked: $(cat "$root/second.log")"
  echo "Nix $version, first cache gone: exit 1 after $((SECONDS - begun)) s, no request to the second:"
  grep -v '^$' "$root/said" | sed 's/^/    /'

  if [ -n "$fallback" ]; then
    settings "$both" 'fallback = true'
    begun=$SECONDS
    nix nix-store --realise "$two" >"$root/said" || fail "$version: with fallback = true: $(cat "$root/said")"
    echo "Nix $version, the same with fallback = true: it goes on after $((SECONDS - begun)) s"
    nix nix-store --delete "$two" >/dev/null
  fi

  settings "$second"
  begun=$SECONDS
  nix nix-store --realise "$two" >"$root/said" || fail "$version: with the second alone: $(cat "$root/said")"
  echo "Nix $version, with the first taken out of the list: after $((SECONDS - begun)) s"
  kill "${pids[@]}" 2>/dev/null || true
  pids=()
}

try bookworm 2.8.0
try trixie 2.26.3 with-fallback
echo 'as stated'

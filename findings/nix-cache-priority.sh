#!/bin/bash
# Which cache Nix asks first is not what one reads in the list or in the caches. Nothing of Peernix runs here.
#
# With: Nix 2.26.3 (Debian 13), from Debian's archive. Needs root, for mmdebstrap and chroot.
# Valid input: two flat binary caches with the same path, written by that same Nix, served by Python's http.server.
#
# Seen on 2026-11-28:
#   - `nix copy --to file://…` writes a nix-cache-info without a `Priority` line, and such a cache has priority 0: it is asked before one
#     that is first in the list and says `Priority: 10`;
#   - `?priority=50` behind a URL is remembered under the URL without it: the cache stays behind one of 20 after the setting was taken out,
#     although it says `Priority: 10` itself, until Nix's cache of look-ups is deleted (or 7 days are over).
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

root=$work/root
mmdebstrap --quiet --variant=extract --include=nix-bin --aptopt='APT::Install-Recommends "false"' trixie "$root" "$mirror"
for dir in bin sbin lib lib64; do
  if [ -e "$root/usr/$dir" ] && [ ! -e "$root/$dir" ]; then ln -s "usr/$dir" "$root/$dir"; fi
done
mkdir -p "$root"/{proc,dev,tmp,etc,nix,home,conf}
printf 'root:x:0:0:root:/home:/bin/sh\n' >"$root/etc/passwd"
# In a mount namespace of its own, so that nothing is left mounted.
in_root() {
  unshare --mount sh -c 'mount --rbind /proc "$0/proc"; mount --rbind /dev "$0/dev"; exec env -i HOME=/home \
    PATH=/usr/bin:/bin:/usr/sbin:/sbin NIX_CONF_DIR=/conf LC_ALL=C.UTF-8 chroot "$0" "$@"' "$root" "$@" 2>&1
}
settings() { # settings SUBSTITUTERS
  printf 'experimental-features = nix-command\nsandbox = false\nbuild-users-group =\nrequire-sigs = false\nsubstituters = %s\n' \
    "$1" >"$root/conf/nix.conf"
}
settings ''
said=$(in_root nix --version)
[ "${said##* }" = 2.26.3 ] || fail "trixie has $said, not 2.26.3"

printf content >"$root/tmp/content"
path=$(in_root nix-store --add /tmp/content)
for cache in ours other; do
  in_root nix copy --to "file:///$cache?compression=none" "$path" >/dev/null
done
serve() { # serve CACHE: leaves its port
  python3 -u -m http.server --bind 127.0.0.1 --directory "$root/$1" 0 >"$work/$1.port" 2>"$work/$1.log" &
  pids+=($!)
  port=
  for _ in $(seq 100); do
    port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$work/$1.port")
    [ -z "$port" ] || return 0
    read -rt 0.1 <> <(:) || true
  done
  fail "no server"
}
first() { # first: which cache is asked first for the path, of a Nix that does not have it
  in_root nix-store --delete "$path" >/dev/null
  : >"$work/ours.log"
  : >"$work/other.log"
  # What is known of the path itself is forgotten; what is known of the caches stays.
  for file in "$root"/home/.cache/nix/binary-cache-v*.sqlite; do
    [ ! -e "$file" ] || sqlite3 "$file" 'delete from NARs'
  done
  in_root nix-store --realise "$path" >/dev/null
  if grep -q '\.narinfo' "$work/ours.log"; then echo ours; else echo other; fi
}
is() { # is EXPECTED WHAT
  local found
  found=$(first)
  [ "$found" = "$1" ] || fail "$2: $found is asked first"
  echo "$2: $1 is asked first"
}

! grep -q Priority "$root/other/nix-cache-info" || fail "nix copy writes a Priority line"
echo 'Priority: 10' >>"$root/ours/nix-cache-info"
serve ours
ours=http://127.0.0.1:$port
serve other
other=http://127.0.0.1:$port

settings "$ours $other"
is other 'ours first in the list and with priority 10, the other without a line'

echo 'Priority: 20' >>"$root/other/nix-cache-info"
rm -rf "$root/home/.cache"
settings "$ours $other"
is ours 'ours 10, the other 20'
rm -rf "$root/home/.cache"
settings "$ours?priority=50 $other"
is other 'ours with ?priority=50, the other 20'
settings "$ours $other"
is other 'the same, after ?priority=50 was taken out'
rm -rf "$root/home/.cache"
is ours 'the same, after the cache of look-ups was deleted'
echo 'as stated'

#!/bin/sh
# uninstall.sh: takes away what install.sh of this tree put in place, with the same PREFIX, DESTDIR and SYSCONFDIR. What the service keeps
# (/var/lib/peernix, its configuration, its users) stays.
#
# First the line in nix.conf has to go: a Nix that knows a substituter and does not reach it any more ends with an error, or waits
# for each path, although its other caches have everything.
set -eu
cd "$(dirname "$0")/.."

prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
sysconf=${SYSCONFDIR:-/etc}
unit=$prefix/lib/systemd/system/peernix.service

# nix.custom.conf is what Determinate Nix includes.
naming=$(grep -lsE '^[^#]*(127\.0\.0\.1|\[::1\]|localhost):7649' "$root$sysconf"/nix/*.conf || true)
if [ -n "$naming" ]; then
  echo "uninstall: Nix still asks the gateway: take http://127.0.0.1:7649 out of" $naming "first and restart nix-daemon." >&2
  echo "uninstall: Without that, Nix does not go on with its other caches when the gateway is gone." >&2
  exit 1
fi

# Only what runs from here.
if [ -z "$root" ] && [ -d /run/systemd/system ] &&
  [ "$(systemctl show --property FragmentPath --value peernix.service 2>/dev/null)" = "$unit" ]; then
  systemctl disable --now peernix-gateway.socket peernix-share.socket peernix-varlink.socket peernix-admin.socket peernix.service
fi

# The list is what an installation into an empty folder makes, with stand-ins for the programs.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/programs" "$work/root"
for program in peernixd peernixctl peernix-notifier; do
  printf '#!/bin/sh\necho\n' >"$work/programs/$program"
  chmod 755 "$work/programs/$program"
done
DESTDIR=$work/root PREFIX=$prefix SYSCONFDIR=$sysconf scripts/install.sh "$work/programs"
(cd "$work/root" && find . -type f) | while IFS= read -r file; do
  rm -f "$root/${file#./}"
done
# Folders that only we had.
for folder in "$prefix/share/doc/peernix" "$prefix/share/peernix/varlink" "$prefix/share/peernix"; do
  rmdir "$root$folder" 2>/dev/null || true
done
if [ -z "$root" ]; then
  echo "Now, as root: systemctl daemon-reload"
fi

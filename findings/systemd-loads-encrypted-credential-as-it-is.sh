#!/bin/bash
# `LoadCredential=ID:NAME` of systemd, which looks for NAME in the credential stores, finds an encrypted one in /etc/credstore.encrypted and
# hands it over as it is, encrypted. Nothing of Peernix runs here.
#
# With: systemd 257 of Debian 13 (and 262 of sid, by the same steps), from Debian's packages, booted in a container. Needs root,
# mmdebstrap and systemd-container. Valid input: a credential made by `systemd-creds encrypt --name=NAME` into /etc/credstore.encrypted/NAME,
# where systemd.exec(5) has encrypted ones looked for by LoadCredentialEncrypted= and ImportCredential=, and services that print theirs.
#
# Seen on 2026-12-01:
#   - ImportCredential=NAME: the service gets what was encrypted;
#   - LoadCredential=ID:NAME: the service gets the text that `systemd-creds encrypt` wrote, without an error or a line in the journal. A
#     unit that has both, for older systemd and for newer, gets that one: what is loaded goes before what is imported;
#   - LoadCredential=ID:OTHER, of which there is nothing anywhere: the service starts without it.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo 'needs root, for a container' >&2; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "CHANGED: $*" >&2
  exit 1
}

root=$work/root
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus trixie "$root"
cat >"$root/usr/local/bin/try" <<'END'
#!/bin/sh
mkdir -p -m 700 /etc/credstore.encrypted
printf hello | systemd-creds encrypt --name=try.secret - /etc/credstore.encrypted/try.secret
for way in ImportCredential=try.secret LoadCredential=id:try.secret LoadCredential=id:try.other; do
  echo "== $way"
  systemd-run --quiet --pipe --wait --property="$way" sh -c 'cat "$CREDENTIALS_DIRECTORY"/* 2>/dev/null; true'
  echo
done >/result 2>&1
cat /etc/credstore.encrypted/try.secret >/encrypted
END
chmod 755 "$root/usr/local/bin/try"
cat >"$root/etc/systemd/system/try.service" <<'END'
[Service]
Type=oneshot
ExecStart=/usr/local/bin/try
ExecStopPost=systemctl --no-block poweroff
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
SYSTEMD_NSPAWN_LOCK=0 UNIFIED_CGROUP_HIERARCHY=1 timeout 120 unshare --mount --uts --ipc --net --pid --fork --mount-proc \
  systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --machine=try </dev/null >"$work/console" 2>&1 || true
[ -e "$root/result" ] || { cat "$work/console" >&2; fail 'the container did not come to the end of the test'; }

printf 'systemd %s\n' "$(chroot "$root" dpkg-query --show --showformat '${Version}' systemd)"
cat "$root/result"
answer() { sed -n "/^== $1\$/,/^==/{/^==/d;p}" "$root/result" | tr -d '\n'; }
[ "$(answer ImportCredential=try.secret)" = hello ] || fail 'ImportCredential= does not decrypt it'
[ "$(answer LoadCredential=id:try.secret)" = "$(tr -d '\n' <"$root/encrypted")" ] || fail 'LoadCredential= hands over something else'
[ -z "$(answer LoadCredential=id:try.other)" ] || fail 'there is something in the place of nothing'
echo "as seen"

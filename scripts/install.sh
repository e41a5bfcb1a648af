#!/bin/sh
# install.sh PROGRAMS: puts the programs in the folder PROGRAMS, and every file that belongs to them, where a distribution expects it.
#
# From the environment: PREFIX (default /usr/local) and DESTDIR as everywhere; SYSCONFDIR (default /etc); SYSTEMD_VERSION, for which
# the unit is written (default: the one installed here, else the newest). With PREFIX=/usr everything is found without more ado; below
# /usr/local, D-Bus and polkit of some distributions look nowhere.
set -eu
# Whatever the administrator's shell says: everybody may enter the folders and read what is in them.
umask 022
cd "$(dirname "$0")/.."

programs=${1:?the folder with the programs}
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
bin=$prefix/bin
lib=$prefix/lib/systemd
share=$prefix/share
sysconf=${SYSCONFDIR:-/etc}
version=${SYSTEMD_VERSION:-$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')}
version=${version:-999}

# put MODE FOLDER FILE...: a pattern that matches nothing is no file, and left out.
put() {
  mode=$1 folder=$root$2
  shift 2
  for file; do
    if [ -e "$file" ]; then install -D -m "$mode" "$file" "$folder/${file##*/}"; fi
  done
}

# since VERSION KEY...: settings that an older systemd would warn of are left out where it is older.
unknown=
since() {
  newer=$1
  shift
  if [ "$version" -ge "$newer" ]; then return; fi
  for key; do unknown="$unknown -e /^$key=/d"; done
}
since 254 FileDescriptorStorePreserve ImportCredential
if [ "$version" -ge 254 ]; then unknown="$unknown -e /^LoadCredential=/d"; fi
since 260 RefreshOnReload
since 262 XAttrEntryPoint XAttrListen

# fill FILE TARGET: with the place of the programs, and for the systemd that is there.
fill() {
  mkdir -p "$(dirname "$root$2")"
  # shellcheck disable=SC2086 # several arguments, none with a blank in it
  sed -e "s|@BINDIR@|$bin|g" $unknown "$1" >"$root$2"
  chmod 644 "$root$2"
}

for program in peernixd peernixctl peernix-notifier; do
  put 755 "$bin" "$programs/$program"
done

for unit in systemd/*.socket systemd/peernix.service; do
  fill "$unit" "$lib/system/${unit##*/}"
done
fill systemd/peernix-notifier.service "$lib/user/peernix-notifier.service"
install -D -m 644 systemd/peernix.preset "$root$lib/system-preset/80-peernix.preset"
install -D -m 644 systemd/peernix.catalog "$root$lib/catalog/peernix.catalog"
install -D -m 644 systemd/peernix.sysusers "$root$prefix/lib/sysusers.d/peernix.conf"
install -D -m 644 systemd/peernix.tmpfiles "$root$prefix/lib/tmpfiles.d/peernix.conf"
fill systemd/org.peernix.Notifier.desktop "$sysconf/xdg/autostart/peernix-notifier.desktop"
# Under the name that notifications give as their desktop-entry.
fill systemd/org.peernix.Notifier.desktop "$share/applications/org.peernix.Notifier.desktop"

put 644 "$share/dbus-1/system.d" dbus/*.conf
for activation in dbus/*.service; do
  if [ -e "$activation" ]; then fill "$activation" "$share/dbus-1/system-services/${activation##*/}"; fi
done
put 644 "$share/dbus-1/interfaces" dbus/*.xml dbus/interfaces/*.xml
put 644 "$share/polkit-1/actions" dbus/*.policy polkit/*.policy
put 644 "$share/polkit-1/rules.d" dbus/*.rules
put 644 "$share/peernix/varlink" varlink/*.varlink
put 644 "$share/peernix/monitoring" monitoring/*.yml monitoring/*.json
for section in 1 5 7 8; do
  put 644 "$share/man/man$section" docs/man/*."$section"
done
# complete SHELL FILE: what the program itself says; nothing if it cannot run here, as when it was built for another machine.
complete() {
  text=$("$programs/peernixctl" completion "$1" 2>/dev/null) || return 0
  mkdir -p "$(dirname "$root$share/$2")"
  printf '%s\n' "$text" >"$root$share/$2"
  chmod 644 "$root$share/$2"
}
complete bash bash-completion/completions/peernixctl
complete zsh zsh/site-functions/_peernixctl
complete fish fish/vendor_completions.d/peernixctl.fish
put 644 "$share/doc/peernix" README.md CHANGELOG.md docs/*.md docs/*.example.toml LICENSE-APACHE LICENSE-MIT THIRD-PARTY-NOTICES

if [ -z "$root" ]; then
  echo "Now, as root: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload"
fi

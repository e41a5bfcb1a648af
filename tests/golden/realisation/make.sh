#!/bin/bash
# Makes realisations by the real Nix: VERSION-NAME.doi, signed by the key in ../keys.
# usage: make.sh [ROOT…]     ROOT: the tree of a system with another version of Nix (chroot, so as root)
set -euo pipefail
cd "$(dirname "$0")"
build() { # the command before nix; the directory as this command sees it; the same as we see it
    local -a at=($1)
    local work=$2 ours=$3
    printf 'experimental-features = nix-command ca-derivations\nsubstituters =\nbuild-users-group =\nsandbox = false\nsecret-key-files = %s\n' "$work/key" >"$ours/nix.conf"
    cp ../keys/test-1.secret "$ours/key"
    cat >"$ours/default.nix" <<'NIX'
let
  make = name: outputs: deps: derivation {
    inherit name outputs deps;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "for output in $outputs; do eval \"echo ${name} $deps > \\$$output\"; done" ];
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  first = make "first" [ "out" "dev" ] [ ];
in make "second" [ "out" ] [ first.out first.dev ]
NIX
    local -a env=("${at[@]}" env "NIX_CONF_DIR=$work" "NIX_STORE_DIR=$work/store" "NIX_STATE_DIR=$work/state" "NIX_LOG_DIR=$work/log" "HOME=$work")
    local version
    version=$("${env[@]}" nix --version | sed 's/.* //')
    "${env[@]}" nix build --impure --no-link -f "$work/default.nix"
    "${env[@]}" nix copy --impure -f "$work/default.nix" --to "file://$work/cache?compression=none"
    local doi
    for doi in "$ours"/cache/realisations/*.doi; do
        local name
        name=$(jq -r .outPath "$doi")
        cp "$doi" "$version-${name#*-}.doi"
    done
}
mounts=()
directories=()
clean() {
    for mount in "${mounts[@]}"; do umount "$mount"; done
    chmod -R u+w "${directories[@]}" && rm -rf "${directories[@]}"
}
trap clean EXIT
work=$(mktemp -d)
directories+=("$work")
build "" "$work" "$work"
for root in "$@"; do
    work=$(mktemp -d -p "$root/tmp")
    directories+=("$work")
    mount -t proc proc "$root/proc" && mounts+=("$root/proc")
    mkdir -p "$root/dev/pts" && ln -sf pts/ptmx "$root/dev/ptmx"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" && mounts+=("$root/dev/pts")
    build "chroot $root" "/tmp/$(basename "$work")" "$work"
done

#!/bin/bash
# Makes the files beside it: NARs and listings by the real Nix, and what each Nix at hand says of the NARs in cases/.
# usage: make.sh [ROOT…]     ROOT: the tree of a system with another version of Nix (chroot, so as root)
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
mounted=()
clean() {
    for proc in "${mounted[@]}"; do umount "$proc"; done
    chmod -R u+w "$work" && rm -rf "$work"
}
trap clean EXIT
export NIX_CONF_DIR=$work NIX_STATE_DIR=$work/state
printf 'experimental-features = nix-command\nsubstituters =\nbuild-users-group =\n' >"$work/nix.conf"

# In another system nothing points to our directories.
within() {
    local root=$1
    shift
    chroot "$root" env -u NIX_CONF_DIR -u NIX_STATE_DIR "$@"
}

# What a file system can hold and an archive can get wrong.
trees=$work/trees
mkdir -p "$trees"/{empty,sizes,nested/a/b/c,nested/a.b,nested/a-b,names,links}
for size in 0 1 2 3 4 5 6 7 8 9 4096; do head -c "$size" /dev/zero | tr '\0' x >"$trees/sizes/$size"; done
printf 'regular\n' >"$trees/regular"
printf '#!/bin/sh\n' >"$trees/executable"
chmod +x "$trees/executable"
ln -s /nix/store/target "$trees/symlink"
printf a >"$trees/nested/a/b/c/file"
printf ab >"$trees/nested/a.b/executable"
chmod +x "$trees/nested/a.b/executable"
mkdir "$trees/nested/a/empty"
: >"$trees/nested/a-b/empty"
long=$(printf 'n%.0s' {1..255})
for name in ' ' 'a b' A a a~nix~case~hack~1 ... .hidden -- '"' '\' $'\n' $'\x01' $'\x7f' é 日本 "$long"; do
    printf %s "$name" >"$trees/names/$name"
done
ln -s .. "$trees/links/up"
ln -s ' ' "$trees/links/blank"
ln -s "$(printf 't%.0s' {1..4095})" "$trees/links/long"

cache=$work/cache
for tree in "$trees"/*; do
    name=$(basename "$tree")
    path=$(nix --store "$work/store" store add-path "$tree")
    nix --store "$work/store" copy --no-check-sigs --to "file://$cache?compression=none&write-nar-listing=true" "$path"
    hash=${path#/nix/store/}
    hash=${hash%%-*}
    cp "$cache/$(sed -n 's/^URL: //p' "$cache/$hash.narinfo")" "$name.nar"
    cp "$cache/$hash.ls" "$name.ls"
done

# What has no listing: a name that is no UTF-8. And the deepest tree that Nix still takes.
mkdir "$work/bytes"
printf x >"$work/bytes/"$'\xff\xfe'
nix-store --dump "$work/bytes" >bytes.nar
mkdir -p "$work/deep/$(printf 'd/%.0s' {2..64})"
nix-store --dump "$work/deep" >deep.nar

# The verdicts. same: taken, and dumped again as the same bytes; other: taken, but dumped as others.
python3 cases.py cases
verdict() { # NAR, then the command before nix-store
    local nar=$1 out
    shift
    out=$("$@" mktemp -d)
    if ! "$@" timeout 20 nix-store --restore "$out/x" <"$nar" 2>"$work/error"; then
        # A refusal is a message; a crash or a time-out is not one.
        if grep -q '^error' "$work/error"; then printf refused; else printf crash; fi
    elif "$@" nix-store --dump "$out/x" 2>/dev/null | cmp -s - "$nar"; then
        printf same
    else
        printf other
    fi
    "$@" rm -rf "$out"
}
for root in "$@"; do
    mount -t proc proc "$root/proc"
    mounted+=("$root/proc")
done
version() { "$@" nix-store --version | sed 's/.* //'; }

# The listing of one tree by the others.
for root in "$@"; do
    out=$(within "$root" mktemp -d)
    at=(within "$root" env "HOME=$out" nix --option substituters "" --extra-experimental-features nix-command --store "$out/store")
    within "$root" nix-store --restore "$out/nested" <nested.nar
    path=$("${at[@]}" store add-path "$out/nested")
    "${at[@]}" copy --no-check-sigs --to "file://$out/cache?compression=none&write-nar-listing=true" "$path"
    cp "$root$out"/cache/*.ls "nested-$(version within "$root").ls"
    within "$root" sh -c "chmod -R u+w $out && rm -rf $out"
done

{
    printf '# case'
    printf ' %s' "$(version)"
    for root in "$@"; do printf ' %s' "$(version within "$root")"; done
    printf '\n'
    for nar in cases/*.nar; do
        printf '%s %s' "$(basename "$nar" .nar)" "$(verdict "$nar")"
        for root in "$@"; do printf ' %s' "$(verdict "$nar" within "$root")"; done
        printf '\n'
    done
} >"$work/verdicts.txt"
mv "$work/verdicts.txt" verdicts.txt

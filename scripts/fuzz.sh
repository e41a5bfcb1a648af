#!/bin/bash
# Fuzzes every decoder for a while and fails on a finding.
#
# usage: fuzz.sh SECONDS [TARGET…]    without TARGET: all of them; 0 seconds: the seeds only, once
#
# Two targets run at once (FUZZ_JOBS). Corpora grow in target/fuzz/corpus, findings are in target/fuzz/artifacts, what
# libFuzzer said in target/fuzz/logs, and target/fuzz/report.json lists {target, seconds, executions, findings}.
# Once a finding is fixed, its file belongs into fuzz/corpus-seeds/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_FUZZ_VERSION=0.13.2
# Bounds for one input. Honest ones are read in milliseconds and a few MiB.
INPUT_SECONDS=10
INPUT_BYTES=16384
MEMORY_MIB=512

case ${1-} in
'' | *[!0-9]*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
seconds=$1
shift

if ! command -v c++ >/dev/null; then
    # libFuzzer is C++.
    if [ "$(id -u)" != 0 ]; then
        echo "fuzz.sh: a C++ compiler is missing; install g++" >&2
        exit 69
    fi
    apt-get install -y --no-install-recommends g++
fi
if ! command -v cargo-fuzz >/dev/null; then
    tools=$PWD/target/tools
    [ -x "$tools/bin/cargo-fuzz" ] ||
        cargo install cargo-fuzz --locked --version "$CARGO_FUZZ_VERSION" --root "$tools" --target-dir "$tools/build"
    PATH=$tools/bin:$PATH
fi

out=$PWD/target/fuzz
mkdir -p "$out"/{logs,results}
# No sanitizer: there is no unsafe code to watch, and without one the targets run three times as fast and on stable Rust.
build() {
    cargo fuzz build --sanitizer none --target-dir "$out/build" "$@"
}
programs=$out/build/$(rustc -vV | sed -n 's/^host: //p')/release
if [ $# = 0 ]; then
    mapfile -t targets < <(cargo fuzz list)
    build
else
    targets=("$@")
    for target in "${targets[@]}"; do
        if ! cargo fuzz list | grep -qxF -e "$target"; then
            echo "fuzz.sh: there is no target '$target' (see fuzz/Cargo.toml)" >&2
            exit 64
        fi
        build "$target"
    done
fi

fuzz() {
    local target=$1 log=$out/logs/$1.log artifacts=$out/artifacts/$1 corpus=$out/corpus/$1
    local seeds=fuzz/corpus-seeds/$1 dictionary=fuzz/dictionaries/$1.dict started=$SECONDS findings executions
    local -a options=("-max_total_time=$seconds") corpora=("$corpus")
    [ "$seconds" != 0 ] || options=(-runs=0)
    [ ! -e "$dictionary" ] || options+=("-dict=$dictionary")
    [ ! -e "$seeds" ] || corpora+=("$seeds")
    rm -rf "$artifacts"
    mkdir -p "$artifacts" "$corpus"
    "$programs/$target" "${options[@]}" "-artifact_prefix=$artifacts/" "-timeout=$INPUT_SECONDS" "-max_len=$INPUT_BYTES" \
        "-rss_limit_mb=$MEMORY_MIB" -print_final_stats=1 "${corpora[@]}" >"$log" 2>&1 &
    local pid=$! status=0
    trap 'kill "$pid" 2>/dev/null' TERM
    wait "$pid" || status=$?
    findings=$(find "$artifacts" -type f | wc -l)
    # A program that failed without leaving its input has found something all the same.
    [ "$status" = 0 ] || [ "$findings" != 0 ] || findings=1
    executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    printf '{"target": "%s", "seconds": %d, "executions": %d, "findings": %d}\n' \
        "$target" $((SECONDS - started)) "${executions:-0}" "$findings" | tee "$out/results/$target.json"
}

rm -f "$out"/results/*.json
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "${FUZZ_JOBS:-2}" ]; then
        wait -n
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
wait

{
    printf '[\n'
    cat "$out"/results/*.json | sed '$!s/$/,/; s/^/  /'
    printf ']\n'
} >"$out/report.json"
if grep -qv '"findings": 0}$' "$out"/results/*.json; then
    echo "fuzz.sh: findings are in $out/artifacts" >&2
    exit 1
fi

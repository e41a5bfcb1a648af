#!/bin/bash
# Runs two commands at the same time, each given as one argument, and shows what they say one after the other. Fails if one of them does.
set -uo pipefail
second_says=$(mktemp)
trap 'rm -f "$second_says"' EXIT
bash -c "$2" >"$second_says" 2>&1 &
second=$!
bash -c "$1"
first_status=$?
wait "$second"
second_status=$?
cat "$second_says"
exit $((first_status != 0 || second_status != 0))

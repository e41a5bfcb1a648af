#!/bin/bash
# Runs a command under a name and says how long it took: stage.sh NAME COMMAND…
name=$1
shift
start=$SECONDS
printf '\n== %s\n' "$name" >&2
"$@"
status=$?
printf '== %s: %s in %d s\n' "$name" "$([ $status = 0 ] && echo ok || echo FAILED)" $((SECONDS - start)) >&2
exit $status

#!/bin/bash
# A key of a NATS bucket that gets too old is gone without a word: whoever watches it never hears of that. Nothing of Peernix runs here.
#
# With: nats-server 2.10.27 (Debian 13), from Debian's archive, and nats-py 2.15.0, from PyPI. Needs root, for mmdebstrap and chroot.
# Valid input: a bucket of the key-value store whose keys get one second old, as leases are kept.
#
# Seen on 2026-11-30:
#   - after a second the key cannot be got any more, and can be created again, so that it is free for everybody;
#   - a watcher of the bucket is told of the put and of a delete, and of nothing when the key gets too old: who waits for a lease to end
#     has to try to take it;
#   - a put under the key's last revision makes it young again, and one under an older revision is refused.
set -euo pipefail

work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
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
mmdebstrap --quiet --variant=extract --include=nats-server --aptopt='APT::Install-Recommends "false"' trixie "$root" "$mirror"
for dir in bin sbin lib lib64; do
  if [ -e "$root/usr/$dir" ] && [ ! -e "$root/$dir" ]; then ln -s "usr/$dir" "$root/$dir"; fi
done
mkdir -p "$root"/{tmp,store}
said=$(chroot "$root" /usr/sbin/nats-server --version)
[[ $said == *2.10.27* ]] || fail "trixie has $said, not 2.10.27"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.15.0

chroot "$root" /usr/sbin/nats-server -a 127.0.0.1 -p -1 --ports_file_dir /tmp -js -sd /store >"$work/log" 2>&1 &
server=$!
for _ in $(seq 100); do
  ports=$(cat "$root"/tmp/nats-server_*.ports 2>/dev/null || true)
  [ -z "$ports" ] || break
  sleep 0.1 # poll
done
url=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["nats"][0])' "$ports")

"$work/venv/bin/python3" - "$url" <<'END' || fail "see above"
import asyncio
import sys

import nats
from nats.js.api import KeyValueConfig
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError


async def main() -> None:
    client = await nats.connect(sys.argv[1])
    leases = await client.jetstream().create_key_value(KeyValueConfig(bucket="leases", ttl=1))
    told = []
    watcher = await leases.watchall()

    async def listen() -> None:
        async for entry in watcher:
            if entry is not None:
                told.append(entry.operation or "PUT")

    listening = asyncio.create_task(listen())

    revision = await leases.create("site", b"one")
    await asyncio.sleep(0.7)
    renewed = await leases.update("site", b"one", last=revision)
    try:
        await leases.update("site", b"one", last=revision)
        raise SystemExit("an update under an old revision was taken")
    except KeyWrongLastSequenceError:
        print("an update under an old revision: refused")
    await asyncio.sleep(0.7)
    assert (await leases.get("site")).revision == renewed
    print("1.4 s after it was made, 0.7 s after its update: the key is there")
    await asyncio.sleep(1.5)
    try:
        await leases.get("site")
        raise SystemExit("the key is there although it is too old")
    except KeyNotFoundError:
        print("1.5 s later: the key is gone")
    print("told to a watcher by then:", told)
    assert told == ["PUT", "PUT"], told
    await leases.create("site", b"two")
    await leases.delete("site")
    await asyncio.sleep(0.3)
    print("after it was made anew and deleted:", told)
    assert told == ["PUT", "PUT", "PUT", "DEL"], told
    listening.cancel()
    await client.close()


asyncio.run(main())
END
echo "as seen"

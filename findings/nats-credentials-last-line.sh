#!/bin/bash
# A credentials file of NATS whose last line does not end with a line feed is read by the Python client and refused by the Rust one.
# Nothing of Peernix runs here.
#
# With: async-nats 0.51.0 (features: nkeys, ring), from crates.io, with its dependencies as of the run, and nats-py 2.15.0 with nkeys 0.2.1,
# from PyPI. Needs Rust and Python. Valid input: a credentials file as `nsc` writes it, once with the line feed at its end and once
# without, as editors and secret stores leave it.
#
# Seen on 2026-11-30:
#   - with it, `ConnectOptions::with_credentials` takes the file;
#   - without it, the same is refused ("cannot parse nkey from the credentials file"), before anything is sent;
#   - nats-py reads token and seed from both.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "CHANGED: $*" >&2
  exit 1
}

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.15.0 nkeys==0.2.1
# A key of no use: made here, and gone with the folder. The token is no token; nobody looks into it before there is a server.
"$work/venv/bin/python3" - "$work" <<'END'
import os
import sys

import nkeys

seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
text = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAiOiJKV1QifQ.e30.e30
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------"""
with open(f"{sys.argv[1]}/without.creds", "w") as file:
    file.write(text)
with open(f"{sys.argv[1]}/with.creds", "w") as file:
    file.write(text + "\n")
END

mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "creds"
version = "0.0.0"
edition = "2021"

[dependencies]
async-nats = { version = "=0.51.0", default-features = false, features = ["nkeys", "ring"] }
END
cat >"$work/src/main.rs" <<'END'
fn main() {
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    match async_nats::ConnectOptions::with_credentials(&text) {
        Ok(_) => println!("taken"),
        Err(error) => println!("refused: {error}"),
    }
}
END
cargo build --quiet --manifest-path "$work/Cargo.toml"
with=$("$work/target/debug/creds" "$work/with.creds")
without=$("$work/target/debug/creds" "$work/without.creds")
printf 'async-nats, with the line feed: %s\nasync-nats, without: %s\n' "$with" "$without"
[ "$with" = taken ] || fail "with the line feed: $with"
[[ $without == refused:* ]] || fail "without the line feed: $without"

"$work/venv/bin/python3" - "$work" <<'END' || fail "nats-py does not read both"
import sys

from nats.aio.client import Client

for name in ("with", "without"):
    client = Client()
    client._user_credentials = f"{sys.argv[1]}/{name}.creds"
    client._setup_nkeys_connect()
    token = bytes(client._user_jwt_cb()).decode().strip()
    assert token == "eyJ0eXAiOiJKV1QifQ.e30.e30", token
    assert client._signature_cb("nonce")
    print(f"nats-py, {name} the line feed: taken")
END
echo "as seen"

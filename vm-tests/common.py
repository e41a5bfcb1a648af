"""What the scripts share. The drivers run it right before each script, in the same names.

Nothing here or in a script may rely on where programs are or on what else is in the store: the same text runs on Debian and NixOS.
"""

import datetime
import importlib.util
import json
import time
from itertools import count as numbers

# The key that `common.nix` lets the machines trust. For tests only: everybody knows its secret half.
SECRET_KEY = "/etc/vm-test/secret-key"

# Where machines are slow, our driver says how many times as long everything takes; it stretches its own waiting by as much.
SLOWNESS = globals().get("patience", 1)

# Without the variable, Nix as root would not ask the nix-daemon.
REALISE = "env NIX_REMOTE=daemon nix-store --realise"

# Starts a command as a unit of its own. On NixOS units have no PATH to speak of.
TRANSIENT = 'systemd-run --quiet --setenv=PATH="$PATH"'

# `count` derivations, each with `size` random bytes and a reference to the one before, built without anything from nixpkgs.
CHAIN = """
{ name, count, size }:
let
  link = number: derivation {
    name = "${name}-${toString number}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-euc" "mkdir $out; head -c ${toString size} /dev/urandom >$out/data; echo $before >$out/before" ];
    PATH = "/run/current-system/sw/bin:/usr/bin:/bin";
    before = if number == 1 then "" else link (number - 1);
  };
in link count
"""


# Drivers of NixOS before 26.11 know numbers of seconds alone.
TAKES_DURATIONS = importlib.util.find_spec("test_driver") is None or importlib.util.find_spec("test_driver.duration") is not None


def seconds(count: float) -> datetime.timedelta | float:
    """A duration, as the driver wants it."""
    return datetime.timedelta(seconds=count) if TAKES_DURATIONS else count


def build(machine: Machine, name: str, count: int = 1, size: int = 1000, sign: bool = True) -> str:
    """Builds a chain of paths; returns the last, which has all others in its closure."""
    before = offered(machine) or 0
    machine.succeed(f"cat >/tmp/chain.nix <<'END'\n{CHAIN}\nEND")
    arguments = f"--argstr name {name} --arg count {count} --arg size {size}"
    path = machine.succeed(f"nix-build --no-out-link {arguments} /tmp/chain.nix").strip()
    if sign:
        machine.succeed(f"nix store sign --recursive --key-file {SECRET_KEY} {path}")
    # What is offered is told within a moment. Not all is: then there is nothing to wait for, and who asks for it finds that out.
    within(3, lambda: offered(machine) is None or offered(machine) >= before + count)
    return path


def within(limit: float, happens) -> bool:
    """Waits so many seconds for something that may not happen at all; whether it did."""
    end = time.monotonic() + limit * SLOWNESS
    while not happens():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)  # poll
    return True


def offered(machine: Machine) -> int | None:
    """How many paths a machine tells its peers that it has; `None` where there is no service."""
    status, text = machine.execute("curl --silent --fail --max-time 5 http://127.0.0.1:7649/metrics")
    values = [line.split()[1] for line in text.splitlines() if line.startswith("peernix_index_offered ")]
    return int(values[0]) if status == 0 and values else None


def hear_of(machine: Machine, path: str) -> bool:
    """Waits a moment until the gateway of a machine has heard that somebody has a path; whether it has."""
    hash = path.removeprefix("/nix/store/")[:32]
    ask = f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://127.0.0.1:7649/{hash}.narinfo"
    # 000: there is no gateway, and nothing to wait for.
    return within(5, lambda: machine.execute(ask)[1].strip() in ("200", "000"))


def closure(machine: Machine, path: str) -> dict[str, str]:
    """The closure of a path in the store of a machine: path → hash of its contents, as Nix computes it from the files now."""
    paths = machine.succeed(f"nix-store --query --requisites {path}").split()
    hashes = machine.succeed(f"for path in {' '.join(paths)}; do nix-hash --type sha256 --base32 $path; done").split()
    return dict(zip(paths, hashes, strict=True))


def has(machine: Machine, path: str) -> bool:
    """Whether the path is valid in the store of a machine."""
    return machine.execute(f"nix-store --check-validity {path} 2>/dev/null")[0] == 0


def realise(machine: Machine, path: str) -> None:
    """Lets Nix get a path from its substituters, through the nix-daemon."""
    hear_of(machine, path)
    machine.succeed(f"{REALISE} {path}")


def start_realise(machine: Machine, path: str) -> None:
    """As `realise`, but goes on at once. `finish_realise` waits for it."""
    hear_of(machine, path)
    machine.succeed(f"{TRANSIENT} --unit=realise --remain-after-exit {REALISE} {path}")


def finish_realise(machine: Machine, limit: float = 120) -> str:
    """Waits for what `start_realise` began, which has to succeed; returns what Nix said."""
    machine.wait_until_fails("systemctl show --property=SubState realise | grep -qx SubState=running", timeout=seconds(limit))
    said = machine.succeed("journalctl --sync; journalctl --unit=realise --output=cat")
    t.assertEqual(machine.get_unit_property("realise.service", "SubState"), "exited", said)
    machine.succeed("systemctl stop realise")
    return said


def serve_cache(machine: Machine, *paths: str, compression: str) -> None:
    """Makes a machine of `internet.nix` a binary cache that has these paths, on port 80. What it is asked for is in /tmp/requests."""
    machine.succeed(
        f"nix copy --to 'file:///srv/cache?compression={compression}' {' '.join(paths)}",
        f"{TRANSIENT} --unit=cache nginx -c /etc/vm-test/nginx.conf -g 'daemon off;'",
    )
    machine.wait_for_open_port(80)


def metric(machine: Machine, name: str) -> int:
    """The value of a counter; `name` with its labels."""
    text = machine.succeed("curl --silent --fail --max-time 5 http://127.0.0.1:7649/metrics")
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == name]
    return int(values[0]) if values else 0


def fetched(machine: Machine) -> int:
    """Bytes that came from peers so far."""
    return metric(machine, 'peernix_fetched_bytes_total{source="peer"}')


# What was asked for a moment ago is remembered.
never_asked = numbers()


def nowhere(machine: Machine, within: float, path: str | None = None) -> None:
    """Asks the gateway for what nobody has, or for a path that nobody who is there has: within that many seconds it has to say so, and
    never with an error of its own."""
    hash = path.removeprefix("/nix/store/")[:32] if path else f"{next(never_asked):032}"
    status, took = machine.succeed(
        f"curl --silent --output /dev/null --write-out '%{{http_code}} %{{time_total}}' http://127.0.0.1:7649/{hash}.narinfo"
    ).split()
    t.assertEqual(status, "404")
    t.assertLess(float(took), within * SLOWNESS)


def sent(machine: Machine) -> int:
    """Bytes that its share sent to others so far."""
    return metric(machine, 'peernix_http_sent_bytes_total{face="share"}')


def asked(machine: Machine, status: str) -> int:
    """How many narinfos its share was asked for so far that got such an answer: `2xx`, `4xx`."""
    return metric(machine, f'peernix_http_requests_total{{face="share",route="narinfo",status="{status}"}}')


def wait_for_peers(machine: Machine, count: int, limit: float = 60) -> None:
    """Waits until that many peers are online."""
    machine.wait_until_succeeds(
        f"curl --silent --fail http://127.0.0.1:7649/metrics | grep -qx 'peernix_peers_online {count}'", timeout=seconds(limit)
    )

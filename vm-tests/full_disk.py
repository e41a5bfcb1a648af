"""A full disk: what cannot be kept is refused with a reason, what is in force stays, and transfers go on."""

STATE = "/var/lib/peernix"
# A store of its own for Nix, on a disk that is too small.
SMALL = "/tmp/small"
SIZE = 30_000_000


def keys() -> list[tuple[str, str]]:
    """The signing keys and what they do."""
    return [(key["name"], key["state"]) for key in json.loads(machine.succeed("peernixctl --json=short keys"))]


def trusted() -> list[str]:
    """The names of the keys that are trusted."""
    return sorted(key["name"] for key in json.loads(machine.succeed("peernixctl --json=short trust")))


def refused(command: str) -> None:
    """What cannot be written down must not be done by halves; whoever asked is told why."""
    status, said = machine.execute(f"peernixctl {command} 2>&1")
    t.assertNotIn(status, (0, 3), said)
    t.assertRegex(said, "(?i)no space|disk|ENOSPC", command)


start_all()
for one in machines:
    one.wait_for_unit("peernix.service")
pid = machine.get_unit_property("peernix.service", "MainPID")
path = build(source, "disk", size=SIZE)
paths = closure(source, path)

with subtest("the state is on a small disk of its own"):
    machine.succeed(
        "peernixctl keys rotate",
        "systemctl stop peernix.service",
        f"cp -a {STATE} /tmp/state; mount -t tmpfs -o size=256k,mode=700 tmpfs {STATE}; cp -a /tmp/state/. {STATE}",
        f"chown --reference=/tmp/state {STATE}",
        "systemctl start peernix.service",
    )
    wait_for_peers(machine, 1)
    node, before, trust = machine.succeed(f"sha256sum {STATE}/node.key"), keys(), trusted()

with subtest("it is full: changes are refused, and nothing is lost"):
    machine.execute(f"cat /dev/zero >{STATE}/filler")
    machine.fail(f"echo more >{STATE}/more")
    refused("keys rotate")
    refused("trust add 'other-1:2bDQ1SvGOePXi7OD5Re5xXZt4SCR0coHZMpr/8t3jZ0='")
    refused("peers add 192.168.1.77:7650")
    t.assertEqual(keys(), before)
    t.assertEqual(trusted(), trust)

with subtest("a large path comes from the other machine all the same"):
    realise(machine, path)
    t.assertEqual(closure(machine, path), paths)

with subtest("so does a restart, as who it was"):
    machine.succeed("systemctl restart peernix.service")
    wait_for_peers(machine, 1)
    t.assertEqual(machine.succeed(f"sha256sum {STATE}/node.key"), node)
    t.assertEqual(keys(), before)
    t.assertEqual(trusted(), trust)

with subtest("with room again, changes are taken"):
    machine.succeed(f"rm {STATE}/filler", f"rm -f {STATE}/more", "peernixctl keys rotate")
    t.assertEqual(len(keys()), len(before) + 1)

with subtest("the disk of Nix is full: Nix gives up, the service does not"):
    pid = machine.get_unit_property("peernix.service", "MainPID")
    nix = f"nix-store --store {SMALL} --option substituters http://127.0.0.1:7649 --realise {path}"
    machine.succeed(f"mkdir {SMALL}; mount -t tmpfs -o size=20M tmpfs {SMALL}")
    machine.fail(nix)
    machine.succeed("curl --silent --fail --max-time 10 http://127.0.0.1:7649/nix-cache-info")
    t.assertEqual(metric(machine, "peernix_peers_banned_total"), 0)
    machine.succeed(f"mount -o remount,size=100M {SMALL}", nix)
    t.assertEqual(machine.get_unit_property("peernix.service", "MainPID"), pid)

"""The service as systemd sees it: start, status line, reload, watchdog, and a kill in the middle of a transfer."""

CONFIG = "/etc/peernix/config.toml"
UNIT = "peernix.service"
# A configuration on NixOS is a link into the store, which stays as it is.
ORIGINAL = "/tmp/original.toml"

# More than what is verified whole before Nix sees it.
SIZE = 24_000_000

# Holds the threads of the reactor, and lets all others run: PTRACE_SEIZE, PTRACE_INTERRUPT, and __WALL to hear of their end.
HOLD = """
import ctypes, os, sys
process, libc = sys.argv[1], ctypes.CDLL(None, use_errno=True)
for task in os.listdir(f"/proc/{process}/task"):
    with open(f"/proc/{process}/task/{task}/comm") as name:
        if name.read().strip() not in ("peernixd", "tokio-rt-worker"):
            continue
    for request in (0x4206, 0x4207):
        if libc.ptrace(request, int(task), None, None):
            sys.exit(os.strerror(ctypes.get_errno()))
try:
    while True:
        os.waitpid(-1, 0x40000000)
except ChildProcessError:
    pass
"""


def pid() -> str:
    """The main process of the service."""
    return machine.get_unit_property(UNIT, "MainPID")


def status_text() -> str:
    """What the service says about itself in `systemctl status`."""
    return machine.get_unit_property(UNIT, "StatusText")


def configure(more: str) -> None:
    """Appends to the original configuration."""
    # On NixOS the file has every section, and it may have one only once.
    machine.succeed(f"rm -f {CONFIG}; (grep -vxE '\\[log\\]|level = .*' {ORIGINAL} || true; echo '{more}') >{CONFIG}; chmod 644 {CONFIG}")


def lookup_is_logged(number: int) -> bool:
    """Whether the journal has something about a lookup that was not made before, as it does at level debug."""
    path = f"/{number:032}.narinfo"
    machine.execute(f"curl --silent http://127.0.0.1:7649{path}")
    machine.succeed("journalctl --sync")
    return machine.succeed(f"journalctl --unit={UNIT} --output=cat PEERNIX_PATH={path}") != ""


start_all()
machine.wait_for_unit(UNIT)
source.wait_for_unit(UNIT)

with subtest("`systemctl start` returns when the service answers"):
    # The sockets first: a peer that comes back would start the service again.
    machine.succeed("systemctl stop 'peernix-*.socket'", "systemctl stop peernix.service")
    machine.wait_for_closed_port(7649)
    machine.succeed(f"systemctl start {UNIT}")
    machine.require_unit_state(UNIT)
    machine.succeed("curl --silent --fail --max-time 10 http://127.0.0.1:7649/nix-cache-info | grep -q StoreDir")
    for socket in ("gateway", "share", "varlink", "admin"):
        machine.require_unit_state(f"peernix-{socket}.socket")

with subtest("`systemctl stop` leaves the gateway's socket, so that Nix never finds it gone"):
    machine.succeed(f"systemctl stop {UNIT}")
    machine.require_unit_state("peernix-gateway.socket")
    # Whoever asks next starts the service again.
    machine.succeed("curl --silent --fail --max-time 10 http://127.0.0.1:7649/nix-cache-info | grep -q StoreDir")
    machine.require_unit_state(UNIT)

with subtest("the status line tells how it does"):
    wait_for_peers(machine, 1)
    retry(lambda _: "1/1 peers online" in status_text(), seconds(30))
    machine.succeed(f"systemctl status {UNIT} | grep 'Status: .*peers online'")

with subtest("systemd hears what is counted"):
    told = "/run/systemd/report/org.peernix"
    if machine.execute("command -v varlinkctl")[0] == 0:
        told = machine.succeed(f"varlinkctl call --more {told} io.systemd.Metrics.List '{{}}'")
        t.assertIn("org.peernix.Lookups", told)
    report = machine.execute("command -v systemd-report || ls /usr/lib/systemd/systemd-report 2>/dev/null")[1].strip()
    log.log(f"systemd-report: {report or 'there is none'}")
    if report:
        listed = machine.succeed(f"{report} metrics --no-pager --no-legend org.peernix")
        for name in ["Lookups", "FetchedBytes", "Transfers", "Claims", "Peers", "MemoryBytes"]:
            t.assertIn(f"org.peernix.{name}", listed)

with subtest("a good configuration is taken without a restart"):
    machine.succeed(f"cp {CONFIG} {ORIGINAL}")
    before = pid()
    t.assertFalse(lookup_is_logged(1))
    configure("[log]\nlevel = \"debug\"")
    machine.succeed("systemctl reload peernix")
    t.assertTrue(lookup_is_logged(2))
    t.assertEqual(pid(), before)
    t.assertNotIn("failed", status_text())

with subtest("a bad one is refused, and the service goes on as it was"):
    configure("[log]\nlevel = \"loud\"")
    status, said = machine.execute("systemctl reload peernix 2>&1")
    t.assertEqual(status, 1, said)
    t.assertIn("failed", status_text())
    t.assertIn("level", status_text())
    machine.succeed(f"journalctl --unit={UNIT} --priority=err --output=cat | grep level")
    t.assertEqual(pid(), before)
    machine.require_unit_state(UNIT)
    machine.succeed("curl --silent --fail --max-time 10 http://127.0.0.1:7649/nix-cache-info")
    t.assertTrue(lookup_is_logged(3))

with subtest("a start with it fails, once, and says what is wrong"):
    # Through the socket it would be tried again for each connection.
    source.block()
    machine.fail(f"systemctl restart {UNIT}")
    machine.sleep(seconds(2))
    t.assertEqual(machine.get_unit_property(UNIT, "ExecMainStatus"), "78")
    t.assertEqual(machine.get_unit_property(UNIT, "ActiveState"), "failed")
    t.assertEqual(machine.get_unit_property(UNIT, "NRestarts"), "0")
    configure("")
    machine.succeed(f"systemctl reset-failed {UNIT}", f"systemctl start {UNIT}")
    source.unblock()
    wait_for_peers(machine, 1)

with subtest("a service that is killed in the middle of a transfer loses nothing"):
    path = build(source, "killed", size=SIZE)
    paths = closure(source, path)
    identity = machine.succeed("sha256sum /var/lib/peernix/node.key")
    before = pid()
    start_realise(machine, path)
    retry(lambda _: fetched(machine) > SIZE // 5, seconds(60))
    t.assertLess(fetched(machine), SIZE, "the transfer ended before the service did")
    machine.succeed(f"systemctl kill --signal=KILL {UNIT}")
    # Nix has seen it, and has got it all the same.
    t.assertIn("retrying", finish_realise(machine))
    t.assertEqual(closure(machine, path), paths)
    machine.wait_for_unit(UNIT)
    t.assertNotEqual(pid(), before)
    # By itself, and not because somebody connected.
    t.assertEqual(machine.get_unit_property(UNIT, "NRestarts"), "1")
    t.assertEqual(machine.succeed("sha256sum /var/lib/peernix/node.key"), identity)
    wait_for_peers(machine, 1)
    # Nothing half-written is left behind, and nothing that the source would have to clean up.
    machine.succeed("test -z \"$(find /var/lib/peernix /var/cache/peernix -name '.*.*')\"")
    machine.succeed("nix store verify --all --no-trust")

with subtest("the watchdog ends a service that hangs, and starts it again"):
    machine.succeed(
        f"mkdir -p /run/systemd/system/{UNIT}.d",
        f"printf '[Service]\\nWatchdogSec=4s\\n' >/run/systemd/system/{UNIT}.d/test.conf",
        "systemctl daemon-reload",
        f"systemctl restart {UNIT}",
    )
    before = pid()
    # Long enough for the watchdog to bite one that does not feed it.
    machine.sleep(seconds(6))
    t.assertEqual(pid(), before, "a healthy service was restarted")
    # Its reactor alone is blocked: its own watch notices, says so, and feeds the watchdog no more.
    machine.succeed(f"cat >/tmp/hold.py <<'END'\n{HOLD}\nEND")
    machine.succeed(f"python3 /tmp/hold.py {before}", timeout=seconds(60))
    retry(lambda _: pid() not in (before, "0"), seconds(30))
    machine.wait_for_unit(UNIT)
    machine.succeed(f"journalctl --unit={UNIT} --output=cat | grep 'no sign of life'")
    machine.succeed("curl --silent --fail --max-time 5 http://127.0.0.1:7649/nix-cache-info")
    # And all of it.
    before = pid()
    machine.succeed(f"kill -STOP {before}")
    retry(lambda _: pid() not in (before, "0"), seconds(30))
    machine.wait_for_unit(UNIT)
    machine.succeed(f"test $(journalctl --unit={UNIT} --output=cat | grep -ci 'watchdog timeout') -ge 2")
    machine.succeed("curl --silent --fail --max-time 5 http://127.0.0.1:7649/nix-cache-info")

with subtest("a key from outside that was replaced is taken by a reload, without a restart where systemd can do that"):
    version = int(machine.succeed("systemctl --version").split()[1])
    # What is not encrypted is taken by older ones as well.
    store = "/etc/credstore.encrypted" if version >= 254 else "/etc/credstore"
    encrypted = "systemd-creds encrypt --name=peernix.signing-key - -" if version >= 254 else "cat"

    def hand_over(name: str) -> None:
        machine.succeed(f"nix key generate-secret --key-name {name} | {encrypted} >{store}/peernix.signing-key")

    def signs() -> list[str]:
        keys = json.loads(machine.succeed("peernixctl keys list --json=short"))
        return [key["name"] for key in keys if key["state"] == "active"]

    machine.succeed(f"mkdir -p -m 700 {store}")
    hand_over("outside-1")
    configure("")
    machine.succeed(
        f"grep -qx '\\[keys\\]' {CONFIG} || echo '[keys]' >>{CONFIG}",
        f"sed -i '/^signing = /d; /^\\[keys\\]$/a signing = \"credential\"' {CONFIG}",
    )
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertEqual(signs(), ["outside-1"])
    before = pid()
    hand_over("outside-2")
    machine.succeed(f"systemctl reload {UNIT}")
    t.assertEqual(pid(), before)
    t.assertEqual(signs(), ["outside-2" if version >= 260 else "outside-1"])
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertEqual(signs(), ["outside-2"])

with subtest("nothing in the units is unknown to this systemd"):
    said = machine.succeed("journalctl --boot --output=cat | grep -E 'peernix[^ ]*[.](service|socket):[0-9]+' || true")
    t.assertEqual(said, "")

"""What administrators, disks and restores do to the service: it stays as closed as it was, says what is wrong, and does not run in circles."""

CONFIG = "/etc/peernix/config.toml"
UNIT = "peernix.service"
KEY = "/var/lib/peernix/node.key"

# Hands a state to the manager beside the one that the service has left, as sd_pid_notify_with_fds(3) does it; then the manager reads its
# units anew as often as a file says, which turns the order of what it keeps round.
PLANT = """
import array, fcntl, os, socket, subprocess
state = os.memfd_create("peernix-state", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
os.write(state, b'{"version":1,"written":1,"peers":null,"statistics":null}')
fcntl.fcntl(state, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
barrier, other = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.connect(os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1))
    for message, descriptor in ((b"FDSTORE=1\\nFDNAME=peernix-state", state), (b"BARRIER=1", other)):
        manager.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
os.close(other)
os.read(barrier, 1)
for _ in range(int(open("/run/reloads").read())):
    subprocess.run(["systemctl", "daemon-reload"], check=True)
subprocess.run("systemctl show --property=NFileDescriptorStore --value peernix.service >/run/kept", shell=True, check=True)
"""


def status_text() -> str:
    """What the service says about itself in `systemctl status`."""
    return machine.get_unit_property(UNIT, "StatusText")


def policy() -> str:
    """What is shared, as the service says."""
    return json.loads(machine.succeed("peernixctl status --json=short"))["sharePolicy"]


def trusted() -> list[str]:
    """The names of the keys that let a path in, as the service says."""
    return [key["name"] for key in json.loads(machine.succeed("peernixctl trust list --json=short"))]


def reload_fails(reason: str) -> None:
    """Reloads, which has to fail for this reason."""
    status, said = machine.execute("systemctl reload peernix 2>&1")
    t.assertEqual(status, 1, said)
    t.assertIn(reason, status_text())
    machine.succeed("journalctl --sync", f"journalctl --unit={UNIT} --priority=err --output=cat | grep --fixed-strings '{reason}'")
    machine.require_unit_state(UNIT)


start_all()
machine.wait_for_unit(UNIT)

with subtest("as Debian's packages and the README set it up, the service reaches the Nix daemon"):
    t.assertNotIn("daemon", json.dumps(json.loads(machine.succeed("peernixctl status --json=short"))["problems"]))
    own = build(machine, "own")
    machine.succeed(f"peernixctl pin {own}", f"peernixctl unpin {own}")

with subtest("one that is no member of the daemon's group says so, and which"):
    # NixOS lets everybody in.
    if machine.execute("test -e /usr/lib/sysusers.d/peernix.conf -a -d /nix/var/nix/daemon-socket")[0] == 0:
        machine.succeed("gpasswd --delete peernix nix-users", f"systemctl restart {UNIT}")
        status, said = machine.execute("peernixctl doctor 2>&1")
        t.assertRegex(said, "nix-daemon.*members of the group nix-users, and peernix is none")
        t.assertIn("usermod --append --groups nix-users peernix", said)
        status, said = machine.execute(f"peernixctl pin {own} 2>&1")
        t.assertNotEqual(status, 0)
        t.assertIn("nix-users", said)
        machine.succeed("usermod --append --groups nix-users peernix", f"systemctl restart {UNIT}", f"peernixctl pin {own}", f"peernixctl unpin {own}")

with subtest("a configuration that was in force and is gone changes nothing"):
    # A configuration on NixOS is a link into the store.
    machine.succeed(f"cp {CONFIG} /tmp/original.toml", f"rm {CONFIG}", f"sed '/^\\[share\\]/a policy = \"off\"' /tmp/original.toml >{CONFIG}")
    machine.succeed("systemctl reload peernix")
    t.assertEqual(policy(), "off")
    machine.succeed(f"mv {CONFIG} {CONFIG}.away")
    reload_fails(f"{CONFIG}: is gone")
    t.assertEqual(policy(), "off")
    machine.succeed(f"mv {CONFIG}.away {CONFIG}")

with subtest("nor does one that somebody else can write"):
    machine.succeed(f"sed -i 's/policy = .*/policy = \"signed\"/' {CONFIG}", f"chown nobody {CONFIG}")
    # In the user namespace of the service all strangers are one.
    reload_fails("belongs to the user id")
    t.assertEqual(policy(), "off")
    machine.succeed(f"chown root {CONFIG}", "systemctl reload peernix")
    t.assertEqual(policy(), "signed")

with subtest("nix.conf may be a link to anywhere, and nobody is trusted whom it does not name"):
    machine.succeed("mkdir -p /persist/nix", "mv /etc/nix/nix.conf /persist/nix/nix.conf", "ln -s /persist/nix/nix.conf /etc/nix/nix.conf")
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertEqual(trusted(), ["test-1"])
    machine.succeed("mv /persist/nix/nix.conf /persist/nix/away")
    reload_fails("/etc/nix/nix.conf cannot be read")
    t.assertEqual(trusted(), ["test-1"])
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertEqual(trusted(), [])
    t.assertIn("cannot be read", machine.succeed("peernixctl status"))
    t.assertIn("cannot be read", machine.execute("peernixctl doctor 2>&1")[1])
    machine.succeed("mv /persist/nix/away /persist/nix/nix.conf", "systemctl reload peernix")
    t.assertEqual(trusted(), ["test-1"])

with subtest("the counters of Prometheus begin with the process"):
    started = 'awk \'$1 == "process_start_time_seconds" { print $2 }\''
    fetch = "curl --silent --fail http://127.0.0.1:7649/metrics"
    for _ in range(20):
        nowhere(machine, 10)
    absent = 'peernix_lookups_total{result="absent"}'
    t.assertGreaterEqual(metric(machine, absent), 20)
    # What a restart takes over.
    machine.succeed(f"systemctl restart {UNIT}")
    t.assertLess(metric(machine, absent), 20)
    t.assertGreaterEqual(json.loads(machine.succeed("peernixctl stats --json=short"))["lookups"]["absent"], 20)
    before = float(machine.succeed(f"{fetch} | {started}"))
    for _ in range(5):
        nowhere(machine, 10)
    machine.succeed(f"systemctl kill --signal=KILL {UNIT}")
    retry(lambda _: machine.execute(fetch)[0] == 0, seconds(30))
    machine.wait_for_unit(UNIT)
    t.assertEqual(metric(machine, absent), 0)
    t.assertGreater(float(machine.succeed(f"{fetch} | {started}")), before)
    t.assertIn("peernix_build_info{version=", machine.succeed(fetch))

with subtest("of several states that systemd keeps, the newest is taken over, whatever order they come in"):
    machine.succeed(
        f"cat >/run/plant.py <<'END'\n{PLANT}\nEND",
        f"mkdir -p /run/systemd/system/{UNIT}.d",
        "printf '[Service]\\nNotifyAccess=all\\nExecStopPost=+%s /run/plant.py\\nEnvironment=PATH=%s\\n' \"$(command -v python3)\" \"$PATH\""
        f" >/run/systemd/system/{UNIT}.d/plant.conf",
        "systemctl daemon-reload",
    )
    for reloads in range(3):
        asked = json.loads(machine.succeed("peernixctl stats --json=short"))["lookups"]["absent"]
        nowhere(machine, 10)
        machine.succeed(f"echo {reloads} >/run/reloads", f"systemctl restart {UNIT}")
        t.assertEqual(machine.succeed("cat /run/kept").strip(), "2")
        t.assertGreater(json.loads(machine.succeed("peernixctl stats --json=short"))["lookups"]["absent"], asked)
    machine.succeed(f"rm /run/systemd/system/{UNIT}.d/plant.conf", "systemctl daemon-reload", f"systemctl restart {UNIT}")

with subtest("what stands in the way is named: a filter of system calls, a user namespace"):
    machine.succeed(
        f"mkdir -p /run/systemd/system/{UNIT}.d",
        f"printf '[Service]\\nSystemCallFilter=~landlock_create_ruleset\\n' >/run/systemd/system/{UNIT}.d/filter.conf",
        "systemctl daemon-reload",
        f"systemctl restart {UNIT}",
    )
    machine.succeed("journalctl --sync", f"journalctl --unit={UNIT} --output=cat | grep 'a filter of system calls, which .* forbids Landlock'")
    machine.succeed(f"rm /run/systemd/system/{UNIT}.d/filter.conf", "systemctl daemon-reload", f"systemctl restart {UNIT}")
    for transport in ("varlink", "dbus"):
        command = f"unshare --user peernixctl --transport {transport} reload"
        status, said = machine.execute(f"setpriv --reuid=65534 --regid=65534 --clear-groups {command} 2>&1")
        t.assertNotEqual(status, 0)
        t.assertIn("in a user namespace", said)

with subtest("a key that is root's is said once, with what to do, and the sockets stay"):
    machine.succeed(f"systemctl stop {UNIT}", f"chown root: {KEY}")
    machine.fail(f"systemctl start {UNIT}")
    machine.execute("curl --silent --max-time 2 http://127.0.0.1:7649/nix-cache-info")
    machine.sleep(seconds(3))
    t.assertEqual(machine.get_unit_property(UNIT, "ExecMainStatus"), "77")
    t.assertEqual(machine.get_unit_property(UNIT, "NRestarts"), "0")
    t.assertIn("node.key: belongs to the user id 0", status_text())
    t.assertIn("chown --recursive peernix: /var/lib/peernix", status_text())
    status, said = machine.execute("peernixctl status 2>&1")
    t.assertEqual(status, 3)
    t.assertIn("chown --recursive peernix:", said)
    t.assertIn("chown --recursive peernix:", machine.execute("peernixctl doctor 2>&1")[1])
    machine.require_unit_state("peernix-gateway.socket")
    # Who asks does not wait for what cannot be.
    status, said = machine.execute("timeout 10 peernixctl --transport dbus peers 2>&1")
    t.assertEqual(status, 3, said)
    t.assertIn("exit code 77", said)
    machine.succeed("chown --recursive peernix: /var/lib/peernix", f"systemctl reset-failed {UNIT}", f"systemctl start {UNIT}")

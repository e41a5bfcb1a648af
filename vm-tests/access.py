"""Who may do what, with the real buses, polkit and sockets: alice has no rights, bob is in the group peernix-admin.

What can be called is taken from the service itself, so that nothing is forgotten: all that is not known to ask only has to be refused.
"""

from xml.etree import ElementTree

NAME = "org.peernix.Peernix1"
ROOT = "/org/peernix/Peernix1"
MANAGER = f"{NAME}.Manager"
EVERYONE = "/run/peernix/org.peernix"
ADMIN = "/run/peernix/org.peernix.admin"
RULES = "/etc/polkit-1/rules.d/00-test.rules"

# What changes nothing, on either way.
DBUS_ASKS = {
    "Describe", "GetFleet", "GetHistory", "GetJob", "GetPeer", "GetStatistics", "GetStatus", "ListJobs", "ListKeys", "ListPaths", "ListPeers",
    "ListPins", "ListTransfers", "ListTrusted", "Ping", "PingPeer", "QueryPath", "Subscribe", "Unsubscribe",
}  # fmt: skip
VARLINK_ASKS = {
    "org.peernix.Fleet": {"Show"},
    "org.peernix.Keys": {"ExportPublic", "List", "ListTrusted"},
    "org.peernix.Manager": {
        "Describe", "DumpStatistics", "GetLogLevel", "ListHistory", "ListJobPaths", "ListJobs", "ListTransfers", "SubscribeEvents", "WatchJob",
    },
    "org.peernix.Peers": {"List", "Ping"},
    "org.peernix.Store": {"ListPins", "QueryPath"},
    "io.systemd.Metrics": {"Describe", "List"},
    "io.systemd.service": {"GetEnvironment", "GetLogLevel", "Ping"},
    "org.varlink.service": {"GetInfo", "GetInterfaceDescription"},
}  # fmt: skip
# Those of them that go on for ever.
ENDLESS = {"SubscribeEvents"}
# How busctl and systemctl say that something is refused: for good, or because nobody is there to type a password.
REFUSED = "Access denied|Authentication is required|Interactive authentication required"


def run_as(user: str, command: str) -> tuple[int, str]:
    """What a command of a user came to: status, everything it printed. Nobody is there to type a password."""
    return machine.execute(f"runuser -u {user} -- timeout 20 {command} </dev/null 2>&1")


def dbus_methods() -> list[tuple[str, str, str, str]]:
    """All that can be called over D-Bus: object, interface, method, signature. Of objects of a kind, one is enough."""
    found = {}
    for path in machine.succeed(f"busctl tree --list {NAME}").split():
        node = ElementTree.fromstring(machine.succeed(f"busctl introspect --xml-interface {NAME} {path}"))
        for interface in node.findall("interface"):
            for method in interface.iter("method"):
                signature = "".join(arg.get("type", "") for arg in method.iter("arg") if arg.get("direction") == "in")
                if interface.get("name", "").startswith(NAME):
                    found.setdefault((interface.get("name"), method.get("name")), (path, signature))
    return [(path, *name, signature) for name, (path, signature) in found.items()]


def dbus_call(path: str, interface: str, method: str, signature: str) -> str:
    """The command line that calls a method with arguments that make sense."""
    special = {"SetLogLevel": ["info"], "GetPeer": [peer], "PingPeer": [peer], "MeasurePeer": [peer], "QueryPath": [own], "GetJob": ["1"]}
    given = iter(special.get(method, []))
    arguments, rest = [], signature
    while rest:
        kind = next(kind for kind in ("a{sv}", "as", "s", "t", "u", "b") if rest.startswith(kind))
        rest = rest.removeprefix(kind)
        # A dictionary and a list without anything; a name that nothing has.
        arguments.append("0" if kind in ("a{sv}", "as") else next(given, "nothing" if kind == "s" else "1"))
    return f"busctl --quiet call {NAME} {path} {interface} {method} '{signature}' {' '.join(arguments)}"


def varlink_methods() -> list[tuple[str, str]]:
    """All that can be called over Varlink: interface, method."""
    methods = machine.succeed(f"varlinkctl list-methods {EVERYONE}").split()
    return [(interface, method) for interface, _, method in (name.rpartition(".") for name in methods)]


def varlink_call(socket: str, interface: str, method: str) -> str:
    """The command line that calls a method without arguments."""
    return f"varlinkctl call --more {socket} {interface}.{method} '{{}}'"


def allow(condition: str) -> None:
    """Lets polkit allow to alice what a condition on the action says."""
    machine.succeed(
        f"cat >{RULES} <<'END'\n"
        "polkit.addRule(function(action, subject) {\n"
        f"  if (subject.user == 'alice' && {condition}) return polkit.Result.YES;\n"
        "});\n"
        "END",
        f"chmod 644 {RULES}",
        "systemctl restart polkit.service",
    )


start_all()
for one in machines:
    one.wait_for_unit("peernix.service")
wait_for_peers(machine, 1)
machine.succeed(
    "useradd --create-home alice",
    "useradd --create-home --groups peernix-admin bob",
    f"mkdir -p $(dirname {RULES})",
)
own = build(machine, "own")
machine.succeed(f"ln -s {own} /nix/var/nix/gcroots/own")
peer = json.loads(machine.succeed("peernixctl peers --json=short"))[0]["id"]
# Now there are a peer, a key and a job.
machine.succeed("peernixctl keys rotate", "peernixctl gc --dry-run")

with subtest("everything is installed where the system looks for it"):
    machine.succeed(f"busctl list --activatable | grep -w {NAME}", f"pkaction --action-id {NAME}.pin")
    t.assertEqual(machine.succeed(f"stat --format=%a:%G {EVERYONE} {ADMIN}").split(), ["666:root", "660:peernix-admin"])

methods = dbus_methods()
asks = [call for call in methods if call[2] in DBUS_ASKS]
changes = [call for call in methods if call[2] not in DBUS_ASKS]
t.assertEqual({interface for _, interface, _, _ in methods}, {MANAGER, f"{NAME}.Peer", f"{NAME}.Key", f"{NAME}.Job"})
t.assertGreaterEqual(len(changes), 18)

with subtest("D-Bus: a user without rights may ask"):
    for call in asks:
        status, said = run_as("alice", dbus_call(*call))
        t.assertEqual(status, 0, f"{call}: {said}")
    t.assertIn("running", run_as("alice", f"busctl get-property {NAME} {ROOT} {MANAGER} State")[1])

with subtest("D-Bus: and change nothing"):
    for call in changes:
        status, said = run_as("alice", dbus_call(*call))
        t.assertNotEqual(status, 0, call)
        t.assertRegex(said, REFUSED, call)
    status, said = run_as("alice", "systemctl service-log-level peernix.service debug")
    t.assertNotEqual(status, 0)
    t.assertRegex(said, REFUSED)
    t.assertEqual(run_as("alice", "systemctl service-log-level peernix.service")[1], "info\n")
    t.assertEqual(run_as("alice", f"peernixctl --no-ask-password pin {own}")[0], 5)
    t.assertEqual(machine.succeed("peernixctl pins --json=short").strip(), "[]")

with subtest("D-Bus: members of the group may do what they may do on the other way, without a password"):
    t.assertEqual(run_as("bob", f"peernixctl --no-ask-password pin {own}"), (0, f"Pinned {own}.\n"))
    t.assertEqual(run_as("bob", f"peernixctl --transport dbus --no-ask-password unpin {own}")[0], 0)

with subtest("D-Bus: a rule of polkit allows what it names, and no more"):
    allow(f"action.id == '{NAME}.pin'")
    t.assertEqual(run_as("alice", f"peernixctl --transport dbus pin {own}"), (0, f"Pinned {own}.\n"))
    t.assertEqual(run_as("alice", f"peernixctl --transport dbus unpin {own}")[0], 0)
    t.assertEqual(run_as("alice", "peernixctl --no-ask-password drain")[0], 5)

with subtest("D-Bus: or everything"):
    allow(f"action.id.indexOf('{NAME}.') == 0")
    for call in changes:
        # It may fail, as there is no key `nothing`; it is not refused.
        t.assertNotRegex(run_as("alice", dbus_call(*call))[1], REFUSED, call)
    t.assertEqual(run_as("alice", "systemctl service-log-level peernix.service debug")[0], 0)
    t.assertEqual(run_as("alice", "systemctl service-log-level peernix.service")[1], "debug\n")
    machine.succeed("systemctl service-log-level peernix.service info", "peernixctl undrain", f"rm {RULES}")

methods = varlink_methods()
changes = [(interface, method) for interface, method in methods if method not in VARLINK_ASKS[interface]]
t.assertGreaterEqual(len(changes), 18)

with subtest("Varlink: the socket for everybody answers, and says what there is"):
    t.assertIn("peernixd", run_as("alice", f"varlinkctl info {EVERYONE}")[1])
    for interface in VARLINK_ASKS:
        t.assertIn(f"interface {interface}", run_as("alice", f"varlinkctl introspect {EVERYONE} {interface}")[1])
    for interface, method in methods:
        if method in VARLINK_ASKS[interface] - ENDLESS:
            t.assertNotRegex(run_as("alice", varlink_call(EVERYONE, interface, method))[1], "Permission ?[Dd]enied", method)
    # The one that was forgotten above comes back by itself; the key that was revoked stays to be seen.
    t.assertIn("revoked", run_as("alice", varlink_call(EVERYONE, "org.peernix.Keys", "List"))[1])

with subtest("Varlink: it changes nothing, for nobody"):
    for user in ("alice", "bob", "root"):
        for interface, method in changes:
            status, said = run_as(user, varlink_call(EVERYONE, interface, method))
            t.assertNotEqual(status, 0)
            t.assertIn("org.varlink.service.PermissionDenied", said, method)

with subtest("Varlink: the other one is for the group"):
    for interface, method in changes:
        status, said = run_as("alice", varlink_call(ADMIN, interface, method))
        t.assertNotEqual(status, 0)
        t.assertIn("Permission denied", said)
        t.assertNotRegex(run_as("bob", varlink_call(ADMIN, interface, method))[1], "Permission ?[Dd]enied", method)
    t.assertEqual(run_as("bob", f"peernixctl --transport varlink pin {own}"), (0, f"Pinned {own}.\n"))
    t.assertIn(own.rpartition("/")[2], run_as("alice", "peernixctl --transport varlink pins")[1])

with subtest("the bus starts the service when it is needed, and `status` does not"):
    # Peers and Nix would start it as well.
    machine.succeed("systemctl stop peernix-gateway.socket peernix-share.socket peernix.service")
    machine.fail("peernixctl status")
    machine.require_unit_state("peernix.service", "inactive")
    t.assertEqual(run_as("alice", f"busctl --quiet call {NAME} {ROOT} {MANAGER} GetStatus")[0], 0)
    machine.require_unit_state("peernix.service")

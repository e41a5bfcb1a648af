"""Machines without Peernix use the plain share as an ordinary binary cache."""

start_all()
a.wait_for_unit("peernix.service")
a.wait_for_open_port(5000)
clients = (client, old)
pid = a.get_unit_property("peernix.service", "MainPID")

with subtest("a closure, with all that Nix checks"):
    path = build(a, "plain", count=4, size=1_000_000)
    paths = closure(a, path)
    for machine in clients:
        machine.fail("command -v peernixd")
        machine.succeed("curl --silent --fail http://a:5000/nix-cache-info | grep -x 'StoreDir: /nix/store'")
        realise(machine, path)
        t.assertEqual(closure(machine, path), paths)
        machine.succeed(f"nix store verify --recursive {path}")

with subtest("what Nix asks a cache besides"):
    for machine in clients:
        t.assertIn("data", machine.succeed(f"nix store ls --store http://a:5000 {path}"))
        machine.succeed(f"nix path-info --store http://a:5000 --recursive {path}")
    client.succeed(f"nix store cat --store http://a:5000 {path}/before | grep plain-3")

with subtest("what nobody signed is not there"):
    unsigned = build(a, "unsigned", sign=False)
    for machine in clients:
        machine.fail(f"{REALISE} {unsigned}")
        machine.fail(f"nix path-info --store http://a:5000 {unsigned}")

with subtest("a pipe that breaks is Nix's own matter: the service goes on"):
    client.execute(f"timeout 0.2 curl --silent --limit-rate 10k http://a:5000/nar/{path[11:43]}.nar >/dev/null")
    for machine in clients:
        machine.succeed("curl --silent --fail http://a:5000/nix-cache-info")
    t.assertEqual(a.get_unit_property("peernix.service", "MainPID"), pid)

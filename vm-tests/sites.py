"""Two sites that NATS joins: what is built in one comes to the other, whoever speaks for it, and each works on when the server is gone."""


def site(machine: Machine) -> dict:
    """The site of a machine, as it says."""
    return json.loads(machine.succeed("peernixctl --json=short status"))["site"]


def sees(machine: Machine, other: str, state: str = "online") -> bool:
    """Waits until a machine says that another site is in a state."""
    return within(30, lambda: any(one["name"] == other and one["state"] == state for one in site(machine)["others"]))


def gateway(*machines: Machine) -> list[Machine]:
    """Who of them speaks for their site."""
    return [machine for machine in machines if site(machine)["gateway"]]


def serve_nats() -> None:
    hub.succeed(f"{TRANSIENT} --collect --unit=nats nats-server --jetstream --store_dir /var/lib/nats")
    hub.wait_for_open_port(4222)


start_all()
serve_nats()
for machine in [a, b, c, d]:
    machine.wait_for_unit("peernix.service")

with subtest("each machine knows its own site by multicast DNS, and the other one by NATS"):
    for machine, other in [(a, "paris"), (b, "paris"), (c, "berlin"), (d, "berlin")]:
        wait_for_peers(machine, 1)
        t.assertTrue(sees(machine, other))
    t.assertEqual((len(gateway(a, b)), len(gateway(c, d))), (1, 1))
    t.assertIn("paris online", a.succeed("peernixctl status"))

with subtest("a closure that c built comes to a"):
    path = build(c, "far", count=3, size=1_000_000)
    paths = closure(c, path)
    t.assertTrue(hear_of(a, path))
    realise(a, path)
    t.assertEqual(closure(a, path), paths)

with subtest("another machine speaks for the site when the one that did is gone"):
    (speaker,) = gateway(c, d)
    other = d if speaker is c else c
    later = build(other, "later")
    speaker.crash()
    t.assertTrue(within(10, lambda: gateway(other) == [other]))
    t.assertTrue(sees(b, "paris"))
    t.assertTrue(within(10, lambda: b.execute(f"{REALISE} {later}")[0] == 0))

with subtest("without the server each site works on alone, and says so"):
    hub.succeed("systemctl stop nats")
    near = build(a, "near")
    t.assertTrue(hear_of(b, near))
    realise(b, near)
    t.assertTrue(within(30, lambda: "Other sites cannot be reached" in b.succeed("peernixctl status")))
    nowhere(b, within=1)

with subtest("and both are joined again when it is back, with nothing of what it knew"):
    hub.succeed("rm -r /var/lib/nats")
    serve_nats()
    t.assertTrue(sees(a, "paris") and sees(other, "berlin"))

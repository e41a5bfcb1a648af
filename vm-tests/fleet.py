"""A fleet: one machine founds it, another joins by a code, a third stays outside; who was revoked is out, and all of it survives a reboot."""

CONFIG = "/etc/peernix/config.toml"


def control(machine: Machine, command: str) -> list | dict:
    """What `peernixctl` says as JSON."""
    return json.loads(machine.succeed(f"peernixctl --json=short {command}"))


def peer(machine: Machine, id: str) -> dict:
    """What a machine knows of another one."""
    return next((peer for peer in control(machine, "peers") if peer["id"] == id), {})


def refuses(machine: Machine, id: str, words: str) -> bool:
    """Waits until a machine says why another one is not let in, or does not let it in."""
    return within(30, lambda: words in peer(machine, id).get("refused", ""))


def online(machine: Machine, id: str) -> bool:
    return within(30, lambda: peer(machine, id).get("state") == "online")


def configure(machine: Machine, key: str) -> None:
    """Lets a machine let in the members of a fleet, and nobody else."""
    config = f"""
[share]
profile = "fleet"
public_keys = []
[gateway]
upstreams = []
[discovery]
interfaces = ["eth1"]
[fleet]
public_key = "{key}"
"""
    # On NixOS it is a link into the store.
    machine.succeed(f"rm {CONFIG}; cat >{CONFIG} <<'END'{config}END", "systemctl restart peernix.service")


start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
ids = {machine.name: control(machine, "status")["nodeId"] for machine in machines}

with subtest("a founds a fleet, whose key is its own"):
    founded = control(a, "fleet init --site home")
    t.assertTrue(founded["hasKey"])
    t.assertEqual(founded["membership"]["id"], ids["a"])
    key = founded["publicKey"]
    t.assertEqual(a.succeed("stat --format %a /var/lib/peernix/fleet.key").strip(), "600")
    a.fail("peernixctl fleet init")
    for machine in [a, b]:
        configure(machine, key)

with subtest("strangers are not let in, and both sides say why"):
    t.assertTrue(refuses(b, ids["a"], "does not let this machine in"))
    t.assertTrue(refuses(c, ids["a"], "does not let this machine in"))
    t.assertTrue(refuses(a, ids["c"], "no membership of the fleet was shown"))
    t.assertEqual(control(b, "status")["state"], "degraded")

with subtest("b joins by a code"):
    code = control(a, "fleet invite")["code"]
    b.fail(f"peernixctl fleet join {code[:-1]}{(int(code[-1]) + 1) % 10}")
    joined = control(b, f"fleet join {code}")
    t.assertEqual((joined["publicKey"], joined["membership"]["id"]), (key, ids["b"]))
    t.assertTrue(online(a, ids["b"]) and online(b, ids["a"]))
    b.fail(f"peernixctl fleet join {code}")

with subtest("what a built comes to b, and not to c"):
    built = build(a, "built", sign=False)
    own = next(key["publicKey"] for key in control(a, "keys") if key["state"] == "active")
    for machine in [b, c]:
        machine.succeed(f"peernixctl trust add '{own}'")
    get = f"{REALISE} --option narinfo-cache-negative-ttl 0 --option trusted-public-keys '{own}' {built}"
    t.assertTrue(within(10, lambda: b.execute(get)[0] == 0))
    c.fail(get)

with subtest("all of it survives a reboot"):
    b.shutdown()
    b.start()
    b.wait_for_unit("peernix.service")
    t.assertTrue(online(b, ids["a"]) and online(a, ids["b"]))
    t.assertEqual(control(b, "fleet")["membership"]["id"], ids["b"])

with subtest("who was revoked is out, also after a reboot of the one that has the key"):
    a.succeed(f"peernixctl fleet revoke {ids['b']}")
    t.assertTrue(refuses(a, ids["b"], "the membership was revoked"))
    t.assertTrue(refuses(b, ids["a"], "the membership was revoked"))
    a.shutdown()
    a.start()
    a.wait_for_unit("peernix.service")
    t.assertTrue(control(a, "fleet")["hasKey"])
    t.assertTrue(refuses(a, ids["b"], "the membership was revoked"))
    journal = a.succeed("journalctl --unit peernix --grep 'member of the fleet no more' --output cat")
    t.assertIn(ids["b"], journal)

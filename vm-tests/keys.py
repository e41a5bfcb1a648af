"""The keys of a machine that builds: what it signs is taken before, during and after a rotation, and not once the key is distrusted."""

CONFIG = "/etc/peernix/config.toml"


def control(machine: Machine, command: str) -> list | dict:
    """What `peernixctl` says as JSON."""
    return json.loads(machine.succeed(f"peernixctl --json=short {command}"))


def active() -> str:
    """The public key that a signs with."""
    return next(key["publicKey"] for key in control(a, "keys") if key["state"] == "active")


def states() -> list[str]:
    """What becomes of the keys of a, the oldest first."""
    return [key["state"] for key in sorted(control(a, "keys"), key=lambda key: key["name"])]


def get(path: str, *keys: str) -> str:
    """The command that lets Nix on b get a path; Nix trusts these keys, and asks again who signed it."""
    return f"{REALISE} --option narinfo-cache-positive-ttl 0 --option trusted-public-keys '{' '.join(keys)}' {path}"


def narinfo(path: str) -> str:
    """What the gateway of b says about a path: the status, and the narinfo."""
    name = path.removeprefix("/nix/store/")[:32]
    return b.succeed(f"curl --silent --write-out '%{{http_code}}' http://127.0.0.1:7649/{name}.narinfo")


start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")

with subtest("the machines are enrolled with each other"):
    nodes = [control(machine, "status")["nodeId"] for machine in machines]
    config = f"""
[share]
policy = "signed+own"
public_keys = []
[gateway]
upstreams = []
[discovery]
interfaces = ["eth1"]
[fleet]
mode = "static"
nodes = {json.dumps(nodes)}
"""
    for machine in machines:
        # On NixOS it is a link into the store.
        machine.succeed(f"rm {CONFIG}; cat >{CONFIG} <<'END'{config}END", "systemctl restart peernix.service")
    for machine in machines:
        wait_for_peers(machine, 1)

with subtest("what a built and nobody signed comes to b once b trusts the key of a"):
    built = build(a, "built", sign=False)
    old = active()
    t.assertEqual(narinfo(built)[-3:], "404")
    b.fail(get(built, old))
    b.succeed(f"peernixctl trust add '{old}'")
    t.assertTrue(hear_of(b, built))
    b.succeed(get(built, old))
    t.assertTrue(has(b, built))

with subtest("during a rotation both keys sign: whoever knows one of them takes it"):
    a.succeed("peernixctl keys rotate")
    new = active()
    t.assertNotEqual(new, old)
    t.assertEqual(states(), ["grace", "active"])
    during = build(a, "during", sign=False)
    t.assertTrue(hear_of(b, during))
    b.succeed(get(during, old))
    other = build(a, "other", sign=False)
    b.succeed(f"peernixctl trust add '{new}'", f"peernixctl trust remove '{old}'")
    t.assertTrue(hear_of(b, other))
    b.succeed(get(other, new))

with subtest("afterwards only the new one does"):
    a.succeed("peernixctl keys rotate --grace 0s")
    last = active()
    t.assertEqual(states(), ["grace", "retired", "active"])
    after = build(a, "after", sign=False)
    # b trusts the one that has just been retired, and does not know the last one yet.
    t.assertEqual(narinfo(after)[-3:], "404")
    b.fail(get(after, new))
    b.succeed(f"peernixctl trust add '{last}'")
    t.assertTrue(hear_of(b, after))
    t.assertIn(f"Sig: {last.partition(':')[0]}:", narinfo(after))
    b.succeed(get(after, last))

with subtest("what was built before the rotations is signed anew"):
    b.succeed(f"nix-store --delete {built}")
    t.assertFalse(has(b, built))
    b.succeed(get(built, last))

with subtest("once b distrusts the key, its gateway refuses what only that signed"):
    distrusted = build(a, "distrusted", sign=False)
    t.assertTrue(hear_of(b, distrusted))
    t.assertIn(f"Sig: {last.partition(':')[0]}:", narinfo(distrusted))
    b.succeed(f"peernixctl trust remove '{last}'")
    t.assertEqual(narinfo(distrusted)[-3:], "404")
    # Nix itself would take it.
    b.fail(get(distrusted, old, new, last))
    # Also after a restart.
    b.succeed("systemctl restart peernix.service")
    wait_for_peers(b, 1)
    b.fail(get(distrusted, old, new, last))

with subtest("a revoked key signs no more, and a says so"):
    b.succeed(f"peernixctl trust add '{last}'")
    b.succeed(get(distrusted, last))
    a.fail(f"peernixctl keys revoke {last.partition(':')[0]}")
    a.succeed("peernixctl keys rotate")
    a.succeed(f"peernixctl keys revoke --reason stolen {last.partition(':')[0]}")
    t.assertEqual(states()[-2:], ["revoked", "active"])
    revoked = build(a, "revoked", sign=False)
    b.fail(get(revoked, old, new, last))
    t.assertNotIn(last, a.succeed("peernixctl keys export"))
    b.succeed(f"peernixctl trust add '{active()}'")
    t.assertTrue(hear_of(b, revoked))
    b.succeed(get(revoked, active()))

"""Garbage is collected through D-Bus while a transfer goes on: what nothing needs goes, what is pinned, rooted or in transfer stays."""

MANAGER = "org.peernix.Peernix1 /org/peernix/Peernix1 org.peernix.Peernix1.Manager"
SIZE = 32_000_000


def collect(machine: Machine, options: str = "0") -> dict[str, str]:
    """Collects garbage and waits for the end: path → what became of it. Options as `busctl` takes a dictionary."""
    job = json.loads(machine.succeed(f"busctl --json=short call {MANAGER} CollectGarbage 'a{{sv}}' {options}"))["data"][0]
    prefix = f"org.peernix.Peernix1 {job} org.peernix.Peernix1.Job"
    machine.wait_until_fails(f"busctl get-property {prefix} State | grep -q running", timeout=seconds(60))
    state, message = (machine.succeed(f"busctl get-property {prefix} {name}") for name in ("State", "Message"))
    t.assertEqual(state, 's "done"\n', message)
    paths = json.loads(machine.succeed(f"busctl --json=short call {prefix} ListPaths tu 0 1000"))["data"][0]
    return {path["Path"]["data"]: path["Result"]["data"] for path in paths}


start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
for machine in machines:
    wait_for_peers(machine, 1)

with subtest("a store with garbage, and with what is not"):
    large = build(source, "large", size=SIZE)
    garbage = build(source, "garbage", count=3)
    pinned = build(source, "pinned", count=2)
    rooted = build(source, "rooted", count=2)
    alive = {path: set(closure(source, path)) for path in (pinned, rooted)}
    source.succeed(f"ln -s {rooted} /nix/var/nix/gcroots/test", f"peernixctl pin --reason 'machine test' {pinned}")
    t.assertIn("machine test", source.succeed("peernixctl pins"))

with subtest("a dry run names what would go, and takes nothing away"):
    dead = set(closure(source, garbage))
    would_go = collect(source, "1 DryRun b true")
    t.assertEqual(set(would_go.values()), {"dead"})
    t.assertLessEqual(dead | {large}, set(would_go))
    t.assertEqual((alive[pinned] | alive[rooted]) & set(would_go), set())
    t.assertTrue(has(source, garbage))

local = build(receiver, "local")

with subtest("Nix's own collection while a path is sent leaves it there, and what is pinned"):
    own = build(source, "own")
    start_realise(receiver, large)
    retry(lambda _: fetched(receiver) > SIZE // 16, seconds(60))
    # Not only because it is open just now: between two of its files nothing is.
    source.succeed(f"NIX_REMOTE=daemon nix-store --gc --print-roots | grep -F temp: | grep {large}")
    source.succeed(f"NIX_REMOTE=daemon nix-store --gc --print-dead | grep {own}")
    source.succeed("NIX_REMOTE=daemon nix-store --gc --max-freed 1", f"NIX_REMOTE=daemon nix-store --delete {own}")
    for path in (large, pinned):
        source.fail(f"NIX_REMOTE=daemon nix-store --delete {path}")

with subtest("so does a collection through D-Bus, which takes the garbage"):
    # Nix's own collection has taken one path, whichever it found first.
    dead = {path for path in dead if has(source, path)}
    t.assertGreaterEqual(len(dead), 2)
    gone = {path for path, result in collect(source).items() if result == "deleted"}
    t.assertLess(fetched(receiver), SIZE, "the transfer ended before the collection")
    t.assertLessEqual(dead, gone)

with subtest("and so does the one that receives"):
    t.assertIn(local, collect(receiver))
    t.assertFalse(has(receiver, local))
    t.assertLess(fetched(receiver), SIZE, "the transfer ended before the collection")

with subtest("the transfer has noticed nothing"):
    paths = closure(source, large)
    said = finish_realise(receiver)
    t.assertNotIn("retrying", said)
    t.assertEqual(closure(receiver, large), paths)

with subtest("what went is gone, and all else is as it was"):
    source.succeed(*(f"test ! -e {path}" for path in dead))
    for path in (large, *alive[pinned], *alive[rooted]):
        t.assertTrue(has(source, path), path)
    source.succeed("nix store verify --all --no-trust")

with subtest("what is needed no more is garbage"):
    # The one that sent it keeps its hold on the path for half a minute, unless it is restarted.
    source.succeed(f"peernixctl unpin {pinned}", "systemctl restart peernix.service")
    gone = collect(source)
    t.assertLessEqual(alive[pinned] | {large}, set(gone))
    t.assertFalse(has(source, pinned))
    t.assertTrue(has(source, rooted))

with subtest("a run stops when it has freed enough"):
    build(source, "many", count=20, size=100_000)
    gone = collect(source, "1 MaxFreed t 500000")
    t.assertGreaterEqual(len(gone), 5)
    t.assertLess(len(gone), 19)

"""What one machine has, the others get from it; they find each other by multicast DNS alone."""

start_all()

with subtest("the service starts and the machines find each other"):
    for machine in machines:
        machine.wait_for_unit("peernix.service")
    for machine in machines:
        wait_for_peers(machine, 2)

with subtest("what nobody has is an error at once"):
    nowhere(b, within=1)
    b.fail(f"{REALISE} /nix/store/00000000000000000000000000000000-nowhere")

with subtest("a closure that a built comes to b through the nix-daemon"):
    path = build(a, "exchange", count=5, size=3_000_000)
    paths = closure(a, path)
    t.assertEqual(len(paths), 5)
    t.assertFalse(has(b, path))
    realise(b, path)
    t.assertEqual(closure(b, path), paths)
    stats = json.loads(b.succeed("peernixctl stats --json=short"))
    t.assertEqual(stats["lookups"]["peer"], 5)
    t.assertEqual(stats["transfers"]["completed"], 5)
    t.assertGreaterEqual(stats["bytesFromPeers"], 15_000_000)
    t.assertEqual([source["name"] for source in stats["sources"]], ["a"])
    b.succeed(f"nix store verify --recursive {path}")

with subtest("and from b to c, when a is gone"):
    a.shutdown()
    realise(c, path)
    t.assertEqual(closure(c, path), paths)

with subtest("what nobody signed stays where it is"):
    unsigned = build(b, "unsigned", sign=False)
    answered, saved = asked(b, "2xx"), metric(c, "peernix_index_saved_requests_total")
    c.fail(f"{REALISE} {unsigned}")
    t.assertFalse(has(c, unsigned))
    # Not only because Nix on c would not take it: b does not even say that it has it.
    t.assertEqual(asked(b, "2xx"), answered)
    t.assertGreater(metric(c, "peernix_index_saved_requests_total"), saved)

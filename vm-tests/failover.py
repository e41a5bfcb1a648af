"""A transfer survives the sudden end of its source: it goes on from another one, in the same answer to Nix."""

start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
for machine in machines:
    wait_for_peers(machine, 2)

SIZE = 40_000_000

with subtest("two machines have the path"):
    path = build(a, "failover", size=SIZE)
    paths = closure(a, path)
    realise(b, path)
    before = {source: sent(source) for source in (a, b)}

with subtest("the one that sends crashes in the middle"):
    start_realise(c, path)
    retry(lambda _: fetched(c) > SIZE // 4, seconds(60))
    source = max(before, key=lambda source: sent(source) - before[source])
    source.crash()
    t.assertLess(fetched(c), SIZE, "the transfer ended before its source did")

with subtest("Nix has noticed nothing"):
    said = finish_realise(c)
    t.assertNotIn("retrying", said)
    t.assertNotIn("error", said)
    t.assertEqual(closure(c, path), paths)
    t.assertGreaterEqual(metric(c, "peernix_transfer_failovers_total"), 1)
    # What had arrived before the crash was not asked for again.
    t.assertLess(fetched(c), SIZE + SIZE // 8)

with subtest("the machine that crashed comes back, and its store is shared again"):
    source.start()
    for machine in machines:
        wait_for_peers(machine, 2)
    other = a if source is b else b
    other.block()
    wait_for_peers(c, 1)
    c.succeed(f"nix-store --delete {path}")
    realise(c, path)
    t.assertEqual(closure(c, path), paths)

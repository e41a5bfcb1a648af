"""The network is cut and heals: lookups stay quick, transfers go on from whoever is left, and all find each other again."""

start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
for machine in machines:
    wait_for_peers(machine, 2)

SIZE = 40_000_000

with subtest("a source disappears without a word in mid-transfer: the other takes over"):
    path = build(a, "first", size=SIZE)
    paths = closure(a, path)
    realise(b, path)
    before = {source: sent(source) for source in (a, b)}
    start_realise(c, path)
    retry(lambda _: fetched(c) > SIZE // 4, seconds(60))
    source = max(before, key=lambda source: sent(source) - before[source])
    source.block()
    # Nobody says that it is gone: that its silence is enough shows in how soon.
    retry(lambda _: metric(c, "peernix_transfer_failovers_total") >= 1, seconds(5))
    said = finish_realise(c)
    t.assertNotIn("retrying", said)
    t.assertEqual(closure(c, path), paths)
    wait_for_peers(c, 1)
    source.unblock()
    wait_for_peers(c, 2)

with subtest("a machine that is cut off answers Nix at once, and never with an error of its own"):
    only_a = build(a, "second")
    c.block()
    # Right after the cut, when it does not know yet, as well as later.
    nowhere(c, within=1, path=only_a)
    for _ in range(5):
        nowhere(c, within=1)
    c.fail(f"{REALISE} {only_a}")
    wait_for_peers(c, 0)
    # For a moment they may be there yet, as when one address goes before the next one comes; then nobody waits for them.
    c.wait_until_succeeds("! peernixctl peers --json=short | grep --quiet '\"state\": *\"suspect\"'", timeout=seconds(30))
    nowhere(c, within=0.25)

with subtest("the others go on"):
    realise(b, only_a)

with subtest("the network heals"):
    c.unblock()
    for machine in machines:
        wait_for_peers(machine, 2)
    # That nobody answered is remembered for half a second.
    c.wait_until_succeeds(f"{REALISE} {only_a}", timeout=seconds(10))
    t.assertTrue(has(c, only_a))

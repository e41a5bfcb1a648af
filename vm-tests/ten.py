"""Ten machines ask for the same closure at once: if one of them has it, the Internet is asked no more; if none has, all get it."""

COUNT = 5
SIZE = 300_000


def downloads() -> int:
    """How many NARs came from the Internet so far."""
    return int(internet.succeed("grep -c 'GET /nar/' /tmp/requests || true"))


start_all()
ten = [machine for machine in machines if machine is not internet]
path = build(internet, "popular", count=COUNT, size=SIZE)
paths = closure(internet, path)
cold = build(internet, "news", count=COUNT, size=SIZE)
serve_cache(internet, path, cold, compression="none")
for machine in ten:
    machine.wait_for_unit("peernix.service")

with subtest("all find each other"):
    for machine in ten:
        wait_for_peers(machine, len(ten) - 1)

with subtest("one gets the closure from the Internet"):
    realise(ten[0], path)
    t.assertEqual(downloads(), COUNT)

with subtest("the others ask for it at once, and get it from each other"):
    for machine in ten[1:]:
        # Until then they would not know better than to ask the Internet.
        machine.wait_until_succeeds(
            f"curl --silent http://127.0.0.1:7649/metrics | grep -qx 'peernix_index_entries {COUNT}'", timeout=seconds(20)
        )
    for machine in ten[1:]:
        start_realise(machine, path)
    for machine in ten[1:]:
        t.assertNotIn("error", finish_realise(machine))
        t.assertEqual(closure(machine, path), paths)
    log.log(f"NARs from the Internet: {downloads()}; bytes from peers: {[fetched(machine) for machine in ten]}")
    t.assertEqual(downloads(), COUNT)
    for machine in ten[1:]:
        t.assertGreaterEqual(fetched(machine), COUNT * SIZE)

with subtest("what none of them has, all get when they ask at once"):
    before = downloads()
    news = closure(internet, cold)
    for machine in ten:
        start_realise(machine, cold)
    for machine in ten:
        t.assertNotIn("error", finish_realise(machine))
        t.assertEqual(closure(machine, cold), news)
    # One for all, once there are claims; today it is a matter of who is how much later than the others.
    log.log(f"NARs from the Internet: {downloads() - before} of {COUNT} paths for {len(ten)} machines")

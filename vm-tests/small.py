"""A small machine: within a hard limit of memory, many large transfers at once end well, and the service lives."""

LIMIT = 192
COUNT = 12
SIZE = 20_000_000

start_all()
for one in machines:
    one.wait_for_unit("peernix.service")
wait_for_peers(machine, 1)
machine.succeed(f"systemctl set-property --runtime peernix.service MemoryMax={LIMIT}M MemorySwapMax=0 TasksMax=64")
pid = machine.get_unit_property("peernix.service", "MainPID")

with subtest("many transfers at once"):
    paths = [build(source, f"large{number}", size=SIZE) for number in range(COUNT)]
    machine.succeed(f"{REALISE} --option http-connections {COUNT} --max-jobs {COUNT} {' '.join(paths)}")
    for path in paths:
        t.assertTrue(has(machine, path))

with subtest("clients that read nothing hold a bounded amount of memory"):
    machine.succeed(
        f"for path in {' '.join(paths)}; do"
        " hash=${path#/nix/store/}; hash=${hash%%-*};"
        " url=$(curl --silent --fail http://127.0.0.1:7649/$hash.narinfo | sed -n 's/^URL: //p');"
        " for number in 1 2 3; do"
        "  (curl --silent --limit-rate 1k --max-time 15 http://127.0.0.1:7649/$url >/dev/null || true) & done;"
        " done; wait"
    )
    machine.succeed("curl --silent --fail --max-time 5 http://127.0.0.1:7649/nix-cache-info")

with subtest("the service was never killed for it"):
    t.assertEqual(machine.get_unit_property("peernix.service", "MainPID"), pid)
    peak = int(machine.succeed(f"sed -n 's/^VmHWM:\\s*\\([0-9]*\\) kB/\\1/p' /proc/{pid}/status"))
    log.log(f"most memory in use: {peak / 1024:.0f} MiB")
    t.assertLess(peak * 1024, LIMIT * 2**20)

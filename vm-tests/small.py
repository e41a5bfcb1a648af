"""A small machine: within a hard limit of memory, many large transfers at once end well, and the service lives."""

# What the service may have, in MiB, with what the kernel holds for it: a connection to a reader that does not read, up to 4 MiB.
LIMIT = 192
# What it may take of that by itself.
OWN = 128
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
    # One by one, as a dozen questions at once take an emulated machine longer than a peer may take. Then they are remembered.
    gateway = "http://127.0.0.1:7649"
    narinfos = [f"{gateway}/{path.removeprefix('/nix/store/')[:32]}.narinfo" for path in paths]
    urls = [
        machine.wait_until_succeeds(f"curl --silent --fail {narinfo} | sed -n 's/^URL: //p'", timeout=seconds(30)).strip()
        for narinfo in narinfos
    ]
    machine.succeed(f"{REALISE} --option http-connections {COUNT} --max-jobs {COUNT} {' '.join(paths)}")
    for path in paths:
        t.assertTrue(has(machine, path))

with subtest("clients that read nothing hold a bounded amount of memory"):
    machine.succeed(
        f"for url in {' '.join(urls)}; do"
        " for number in 1 2 3; do"
        f"  (curl --silent --limit-rate 1k --max-time 15 --write-out '%{{http_code}}\\n' --output /dev/null {gateway}/$url >>/tmp/answers"
        "   || true) & done;"
        " done; wait"
    )
    answers = machine.succeed("cat /tmp/answers").split()
    log.log(f"what they were answered: { {answer: answers.count(answer) for answer in set(answers)} }")
    t.assertGreater(answers.count("200"), COUNT)
    machine.succeed(f"curl --silent --fail --max-time 5 {gateway}/nix-cache-info")

with subtest("the service was never killed for it"):
    t.assertEqual(machine.get_unit_property("peernix.service", "MainPID"), pid)
    peak = int(machine.succeed(f"sed -n 's/^VmHWM:\\s*\\([0-9]*\\) kB/\\1/p' /proc/{pid}/status"))
    log.log(f"most memory in use: {peak / 1024:.0f} MiB")
    t.assertLess(peak, OWN * 1024)

"""What one machine got from the Internet, the others have when the Internet is gone: they still build."""

start_all()

with subtest("the Internet has a signed binary cache"):
    path = build(internet, "public", count=3, size=500_000)
    later = build(internet, "later")
    paths = closure(internet, path)
    serve_cache(internet, path, later, compression="xz")

for machine in (a, b, c):
    machine.wait_for_unit("peernix.service")
for machine in (a, b, c):
    wait_for_peers(machine, 2)

with subtest("a gets a closure from there, through its gateway"):
    realise(a, path)
    t.assertEqual(closure(a, path), paths)
    t.assertGreater(metric(a, 'peernix_fetched_bytes_total{source="upstream"}'), 1_400_000)
    t.assertEqual(internet.succeed("grep -c 'GET /nar/.* 200' /tmp/requests").strip(), "3")

with subtest("c, which the Internet does not reach, gets it from a"):
    realise(c, path)
    t.assertEqual(closure(c, path), paths)

with subtest("the Internet is gone: b builds what needs the closure"):
    internet.block()
    before = fetched(b)
    b.succeed(
        "cat >/tmp/user.nix <<'END'\n"
        "derivation {\n"
        '  name = "user"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/run/current-system/sw/bin:/usr/bin:/bin";\n'
        f'  args = [ "-euc" "cat $needed/data >$out" ]; needed = builtins.storePath {path};\n'
        "}\n"
        "END"
    )
    built = b.succeed("NIX_REMOTE=daemon nix-build --no-out-link /tmp/user.nix").strip()
    b.succeed(f"cmp {built} {path}/data")
    t.assertEqual(closure(b, path), paths)
    t.assertGreaterEqual(fetched(b) - before, 1_500_000)

with subtest("and what nobody has is soon said to be nowhere"):
    for machine in (a, b, c):
        # The first to ask waits for the one that may only be slow; from then on it costs nothing.
        nowhere(machine, within=12)
        nowhere(machine, within=1)
    b.fail(f"{REALISE} {later}")

with subtest("the Internet is back"):
    internet.unblock()
    b.wait_until_succeeds(f"{REALISE} {later}", timeout=seconds(60))

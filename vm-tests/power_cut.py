"""The power is cut right after an answer: what was answered with success is still so when the machine is back."""

ADDED = "other-1:2bDQ1SvGOePXi7OD5Re5xXZt4SCR0coHZMpr/8t3jZ0="


def told(command: str) -> list | dict:
    """What `peernixctl` says as JSON."""
    return json.loads(machine.succeed(f"peernixctl --json=short {command}"))


start_all()
for one in machines:
    one.wait_for_unit("peernix.service")
wait_for_peers(machine, 1)
# What Nix itself writes is not what this is about.
path = build(machine, "pinned")
large = build(machine, "large", size=30_000_000)
machine.succeed("sync")
node = told("status")["nodeId"]
peer = told("peers")[0]["id"]

# Each change is followed by a cut of its own, with no time for the kernel to write anything by itself.
for change, holds in (
    ("keys rotate", lambda: [key["state"] for key in told("keys")] == ["active"]),
    ("keys rotate", lambda: sorted(key["state"] for key in told("keys")) == ["active", "grace"]),
    (f"trust add '{ADDED}'", lambda: ADDED in [key["publicKey"] for key in told("trust")]),
    (f"pin {path}", lambda: [pin["path"] for pin in told("pins")] == [path]),
    (f"peers block {peer}", lambda: ["blocked" in one for one in told("peers") if one["id"] == peer] == [True]),
):
    with subtest(f"a cut after `peernixctl {change.split()[0]}`"):
        machine.succeed(f"peernixctl {change}")
        machine.crash()
        machine.start()
        machine.wait_for_unit("peernix.service")
        t.assertTrue(holds(), f"`{change}` was forgotten")
        t.assertEqual(told("status")["nodeId"], node)

with subtest("a cut in the middle of a transfer"):
    machine.succeed(f"peernixctl peers unblock {peer}")
    wait_for_peers(other, 1)
    start_realise(other, large)
    retry(lambda _: fetched(other) > 0, seconds(30))
    machine.succeed("echo lost >/root/unsynced")
    machine.crash()
    t.assertFalse(has(other, large), "the transfer ended before the cut")
    machine.start()
    machine.wait_for_unit("peernix.service")
    # It was a power cut indeed: what nobody asked to be written was not.
    machine.fail("grep lost /root/unsynced")
    machine.succeed("nix store verify --all --no-trust")
    wait_for_peers(other, 1)
    other.wait_until_succeeds(f"{REALISE} {large}", timeout=seconds(60))

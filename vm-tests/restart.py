"""Fifty clients ask without a pause while the service restarts twenty times and is upgraded: none is refused or cut off before its answer,
and what the other machine has is found all the time."""

CLIENTS = 50
RESTARTS = 20

# Half of the clients make a connection for each request. The others keep theirs; they may find it closed, as HTTP allows, and then
# ask again on a new one. Half of each ask for what the service itself knows, the others for a path of another machine, which has to be
# asked. Prints, when a line comes on its standard input: requests answered and what went wrong.
LOAD = r"""
import collections, http.client, json, sys, threading

done = threading.Event()
counts = collections.Counter()
lock = threading.Lock()

def ask(connection, target):
    connection.request("GET", target)
    response = connection.getresponse()
    body = response.read()
    expected = {"/nix-cache-info": b"StoreDir"}.get(target, b"NarHash")
    return f"status {response.status}" if response.status != 200 else "answered" if expected in body else "another body"

def client(keeps, target):
    connection, fresh = None, True
    while not done.is_set():
        fresh = connection is None
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", 7649, timeout=60)
            outcome = ask(connection, target)
            if connection.sock is None or not keeps:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            # Before a byte of the answer: HTTP allows it, and Nix asks again.
            idle = not fresh and isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))
            outcome = "closed while idle" if idle else f"{type(error).__name__} on {'a new' if fresh else 'an old'} connection"
            connection.close()
            connection = None
        with lock:
            counts[outcome] += 1

targets = ("/nix-cache-info", sys.argv[2])
threads = [threading.Thread(target=client, args=(number % 2 == 0, targets[number // 2 % 2])) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
sys.stdin.readline()
done.set()
for thread in threads:
    thread.join()
print(json.dumps(counts))
"""


def pid() -> str:
    """The main process of the service."""
    return machine.get_unit_property("peernix.service", "MainPID")


def restart() -> str:
    """Restarts the service; gives its new main process."""
    machine.succeed("systemctl restart peernix.service")
    return pid()


start_all()
for one in machines:
    one.wait_for_unit("peernix.service")

wait_for_peers(machine, 1)
path = build(other, "asked-for")
t.assertTrue(hear_of(machine, path))

with subtest("twenty restarts under load"):
    machine.succeed(f"cat >/tmp/load.py <<'END'\n{LOAD}\nEND", "mkfifo /tmp/stop")
    arguments = f"{CLIENTS} /{path.removeprefix('/nix/store/')[:32]}.narinfo"
    machine.succeed(f"{TRANSIENT} --unit=load bash -c 'python3 /tmp/load.py {arguments} <>/tmp/stop >/tmp/counts'")
    pids = set()
    for _ in range(RESTARTS):
        pids.add(restart())
    t.assertEqual(len(pids), RESTARTS)

with subtest("and an upgrade: another program in the place of the first"):
    machine.succeed(
        "mkdir -p /run/upgraded /run/systemd/system/peernix.service.d",
        f"cp $(readlink -f /proc/{pid()}/exe) /run/upgraded/peernixd",
        "printf '[Service]\\nExecStart=\\nExecStart=/run/upgraded/peernixd\\nExecPaths=/run/upgraded\\n'"
        " >/run/systemd/system/peernix.service.d/upgrade.conf",
        "systemctl daemon-reload",
    )
    upgraded = restart()
    t.assertEqual(machine.succeed(f"readlink /proc/{upgraded}/exe").strip(), "/run/upgraded/peernixd")

with subtest("nobody has noticed"):
    machine.succeed("echo >/tmp/stop")
    machine.wait_until_succeeds("test -s /tmp/counts", timeout=seconds(90))
    counts = json.loads(machine.succeed("cat /tmp/counts"))
    log.log(f"what became of the requests: {counts}")
    t.assertGreater(counts.pop("answered"), RESTARTS * CLIENTS)
    counts.pop("closed while idle", None)
    t.assertEqual(counts, {})

with subtest("the other machine has it back"):
    wait_for_peers(other, 1)

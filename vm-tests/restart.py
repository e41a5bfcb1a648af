"""Fifty clients ask without a pause while the service restarts twenty times: none is refused or cut off before its answer."""

CLIENTS = 50
RESTARTS = 20

# Half of the clients make a connection for each request. The others keep theirs; they may find it closed, as HTTP allows, and then
# ask again on a new one. Prints, when a line comes on its standard input: requests answered and what went wrong.
LOAD = r"""
import collections, http.client, json, sys, threading

done = threading.Event()
counts = collections.Counter()
lock = threading.Lock()

def ask(connection):
    connection.request("GET", "/nix-cache-info")
    response = connection.getresponse()
    body = response.read()
    return f"status {response.status}" if response.status != 200 else "answered" if b"StoreDir" in body else "another body"

def client(keeps):
    connection, fresh = None, True
    while not done.is_set():
        fresh = connection is None
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", 7649, timeout=60)
            outcome = ask(connection)
            if connection.sock is None or not keeps:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            outcome = f"{type(error).__name__} on a new connection" if fresh else "closed while idle"
            connection.close()
            connection = None
        with lock:
            counts[outcome] += 1

threads = [threading.Thread(target=client, args=(number % 2 == 0,)) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
sys.stdin.readline()
done.set()
for thread in threads:
    thread.join()
print(json.dumps(counts))
"""

start_all()
for one in machines:
    one.wait_for_unit("peernix.service")

with subtest("twenty restarts under load"):
    machine.succeed(f"cat >/tmp/load.py <<'END'\n{LOAD}\nEND", "mkfifo /tmp/stop")
    machine.succeed(f"systemd-run --quiet --unit=load bash -c 'python3 /tmp/load.py {CLIENTS} <>/tmp/stop >/tmp/counts'")
    pids = set()
    for _ in range(RESTARTS):
        machine.succeed("systemctl restart peernix.service")
        pids.add(machine.get_unit_property("peernix.service", "MainPID"))
    t.assertEqual(len(pids), RESTARTS)
    machine.succeed("echo >/tmp/stop")
    machine.wait_until_succeeds("test -s /tmp/counts", timeout=90)
    counts = json.loads(machine.succeed("cat /tmp/counts"))
    log.log(f"what became of the requests: {counts}")
    t.assertGreater(counts.pop("answered"), RESTARTS * CLIENTS)
    counts.pop("closed while idle", None)
    t.assertEqual(counts, {})

with subtest("the other machine has it back"):
    wait_for_peers(other, 1)

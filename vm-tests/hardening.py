"""What the running service cannot do, seen from inside its sandbox."""

UNIT = "peernix.service"
# Where the service may write. All else that is writable in its view of the files is private to it and empty at its start.
OWN = {"/var/lib/peernix", "/var/cache/peernix", "/run/peernix"}
PRIVATE = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}

# Tries what a service that was taken over would try, and prints what worked. Runs in the sandbox of the unit.
PROBE = r"""
import ctypes, json, mmap, os, socket

def attempt(action):
    try:
        action()
    except OSError:
        return False
    return True

libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if function(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "refused")

def executable_memory():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()

def set_user_id():
    open("/tmp/program", "w").close()
    os.chmod("/tmp/program", 0o4755)

print(json.dumps({
    # It may: without these, the probe would prove nothing.
    "read the store": attempt(lambda: os.listdir("/nix/store")),
    "write state": attempt(lambda: open("/var/lib/peernix/probe", "w").close()),
    "AF_INET6": attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM)),
    "AF_NETLINK": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    # It must not.
    "write /etc": attempt(lambda: open("/etc/probe", "w").close()),
    "write /usr": attempt(lambda: open("/usr/probe", "w").close()),
    "write the store": attempt(lambda: open("/nix/store/probe", "w").close()),
    "write the database": attempt(lambda: open("/nix/var/nix/db/db.sqlite", "r+").close()),
    "read /home": attempt(lambda: os.listdir("/home/alice")),
    "read /root": attempt(lambda: os.listdir("/root/secret")),
    "read shadow": attempt(lambda: open("/etc/shadow").close()),
    "see other processes": attempt(lambda: os.stat("/proc/1")),
    "read kernel messages": attempt(lambda: open("/dev/kmsg").close()),
    "open a disk": attempt(lambda: os.stat("/dev/vda")),
    "change the kernel": attempt(lambda: open("/proc/sys/kernel/hostname", "w").close()),
    "new user namespace": attempt(lambda: call(libc.unshare, 0x10000000)),
    "new mount namespace": attempt(lambda: call(libc.unshare, 0x00020000)),
    "new network namespace": attempt(lambda: call(libc.unshare, 0x40000000)),
    "mount": attempt(lambda: call(libc.mount, b"none", b"/tmp", b"tmpfs", 0, None)),
    "chroot": attempt(lambda: os.chroot("/tmp")),
    "become root": attempt(lambda: os.setuid(0)),
    "AF_PACKET": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "AF_VSOCK": attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
    "AF_ALG": attempt(lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)),
    "executable memory": attempt(executable_memory),
    "real time": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    "set the clock": attempt(lambda: __import__("time").clock_settime(0, 0)),
    "set-user-id files": attempt(set_user_id),
    "keep a key": attempt(lambda: call(lambda *a: min(libc.syscall(*a), 0), 248, b"user", b"probe", b"x", 1, -2)),
}))
"""
MAY = {"read the store", "write state", "AF_INET6", "AF_NETLINK"}

# What else root may in there, without any capability: see what belongs to root.
ROOT_MAY = {"read shadow", "see other processes"}

# Prints every directory that the user of the service may write to, in the mount namespace of a process: no program can be executed
# in there, so a running one has to go in.
WALK = r"""
import ctypes, json, os, pwd, sys
user = pwd.getpwnam("peernix")
groups = os.getgrouplist("peernix", user.pw_gid)
if len(sys.argv) > 1 and ctypes.CDLL(None).setns(os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY), 0) != 0:
    sys.exit("cannot enter the mount namespace")
os.setgroups(groups)
os.setresgid(*[user.pw_gid] * 3)
os.setresuid(*[user.pw_uid] * 3)
writable = []
for directory, below, _ in os.walk("/"):
    if directory == "/":
        below.remove("proc")
    if os.access(directory, os.W_OK):
        writable.append(directory)
print(json.dumps(writable))
"""


def writable(process: str = "") -> set[str]:
    """The directories that are writable to the service's user, as a process sees the files; without one: outside of any sandbox."""
    return set(json.loads(machine.succeed(f"python3 /tmp/walk.py {process}")))


def properties(pid: str) -> dict[str, str]:
    """What the kernel says of a process."""
    return dict(line.split(":\t", 1) for line in machine.succeed(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)


def probe(unit: str, more: str) -> set[str]:
    """What a program can do in the sandbox of the service, with `more` lines of [Service]."""
    machine.succeed(
        f"cat >/run/probe.py <<'END'\n{PROBE}\nEND",
        # The unit as it is, but for the program; that one may be executed and read.
        "systemctl cat peernix.service | grep -vE '^(Type|ExecStart|ExecReload|BusName|WatchdogSec|Alias|Also|ExecPaths|NoExecPaths|Restart)='"
        f" >/run/systemd/system/{unit}.service",
        f"printf '[Service]\\nType=oneshot\\nExecStart=%s /run/probe.py\\n{more}' $(readlink -f $(command -v python3))"
        f" >>/run/systemd/system/{unit}.service",
        "systemctl daemon-reload",
        f"systemctl start {unit}.service",
        "rm -f /var/lib/peernix/probe",
        "journalctl --sync",
    )
    result = json.loads(machine.succeed(f"journalctl --unit={unit}.service --output=cat | grep '^{{'"))
    return {what for what, worked in result.items() if worked}


start_all()
machine.wait_for_unit(UNIT)
pid = machine.get_unit_property(UNIT, "MainPID")

with subtest("the process has no rights"):
    status = properties(pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        t.assertEqual(int(status[name], 16), 0, name)
    t.assertEqual(status["NoNewPrivs"], "1")
    t.assertEqual(status["Seccomp"], "2")
    user = machine.succeed("id -u peernix").strip()
    t.assertNotEqual(user, "0")
    t.assertEqual(set(status["Uid"].split()), {user})
    t.assertEqual(machine.succeed(f"cat /proc/{pid}/limits | grep 'Max core file size'").split()[4:6], ["0", "0"])
    for namespace in ("mnt", "user", "ipc", "uts"):
        machine.succeed(f"test $(readlink /proc/{pid}/ns/{namespace}) != $(readlink /proc/1/ns/{namespace})")

with subtest("in its view of the files it can write to its own directories only"):
    machine.succeed(
        f"cat >/tmp/walk.py <<'END'\n{WALK}\nEND",
        "mkdir -p /home/alice /root/secret /srv/files /opt/files",
        "chmod a+rwx /home/alice /srv/files /opt/files",
    )
    # Outside of the sandbox nothing but the user keeps it from them.
    t.assertLessEqual(OWN | {"/home/alice", "/srv/files", "/opt/files"}, writable())
    seen = writable(pid)
    t.assertLessEqual(OWN, seen)
    foreign = {path for path in seen if not any(f"{path}/".startswith(f"{own}/") for own in OWN | PRIVATE)}
    t.assertEqual(foreign, set())

with subtest("a program in the same sandbox can do nothing else either"):
    t.assertEqual(probe("probe", ""), MAY)

with subtest("nor can root in it: that is not for want of rights alone"):
    t.assertEqual(probe("probe-root", "User=root\\nGroup=root\\nPrivateUsers=no\\n"), MAY | ROOT_MAY)

with subtest("it runs no other program"):
    machine.succeed("nsenter --target 1 --mount /bin/sh -c true")
    # On NixOS programs are where libraries are, which it needs: there only what the service forbids itself (Landlock) keeps it from them.
    if not machine.succeed("readlink -f /bin/sh").startswith("/nix/store/"):
        machine.fail(f"nsenter --target {pid} --mount /bin/sh -c true")

with subtest("with all that, it works"):
    path = build(other, "hardened", count=3)
    wait_for_peers(machine, 1)
    realise(machine, path)
    t.assertTrue(has(machine, path))

with subtest("systemd itself has nothing to say against the units"):
    units = "peernix.service peernix-gateway.socket peernix-share.socket peernix-varlink.socket peernix-admin.socket"
    t.assertEqual(machine.succeed(f"systemd-analyze verify --man=no {units} 2>&1 | grep -i peernix || true"), "")
    machine.succeed(f"systemd-analyze security --no-pager --threshold=10 {UNIT}")

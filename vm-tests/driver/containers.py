"""Machines as containers: systemd as PID 1, booted by systemd-nspawn, on bridges in the network namespace of the test.

Everything here runs inside the namespaces that `session.py` was started in (mounts, processes, network), so nothing outlives
the test. What containers cannot do: they share the kernel of the host (no limits by cgroup controllers that the host does not
hand out, no BPF LSM), and `crash` kills all processes at once but does not lose what the kernel has not written to disk yet.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from driver.declaration import MachineDeclaration
from driver.errors import TestError
from driver.network import Network, ip
from driver.tree import Layers

# What of `declaration.NEEDS` this back end has.
CAPABILITIES: frozenset[str] = frozenset()
# How many times as long as the tests say things may take.
PATIENCE = 1
# nspawn exits with it when the machine asked for a reboot (`--keep-unit` leaves that to a service manager, here: to us).
EXIT_REBOOT = 133
# What systemd-nspawn 252 forbids and the sandboxing of units, or of a service by itself, needs.
SYSTEM_CALLS = "bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
# How long a machine may take to boot, in seconds. It takes 2.
BOOT_TIMEOUT = 60
# How often meanwhile is looked whether it still does, in seconds.
BOOT_LOOK = 0.5
# A signal to systemd as PID 1, as offset from SIGRTMIN: power off.
POWER_OFF = 4
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "USER": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}


def missing() -> str | None:
    """Why this back end cannot run here, if so."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("systemd-nspawn", "nsenter", "ip", "mmdebstrap"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/setup installs what the tests need)"
    if not os.access(cgroup_root(), os.W_OK):
        return f"{cgroup_root()} is not writable"
    return None


def cgroup_root() -> Path:
    """Where the version 2 hierarchy of control groups is: the second place on a host that still has version 1 controllers."""
    hybrid = Path("/sys/fs/cgroup/unified")
    return hybrid if hybrid.is_dir() else Path("/sys/fs/cgroup")


class Containers:
    """The machines of one test and the networks between them."""

    def __init__(self, declarations: list[MachineDeclaration], layers: Layers, directory: Path, cgroup: Path) -> None:
        self._declarations = declarations
        self._layers = layers
        self._directory = directory
        self._cgroup = cgroup
        self._network = Network(sorted({vlan for machine in declarations for vlan in machine.vlans}))

    def machine(self, declaration: MachineDeclaration, console: Callable[[str], None], errors: IO[str]) -> Container:
        """Prepares a machine: its root and its network. It is not booted yet."""
        number = self._declarations.index(declaration) + 1
        directory = self._directory / declaration.name
        root = self._layers.prepare(declaration, self._declarations, directory)
        ports = self._network.plug_in(number, declaration)
        return Container(declaration.name, root, self._cgroup / declaration.name, ports, console, errors)


class Container:
    """One machine. Its root outlives `crash` and `shutdown`, like a disk."""

    def __init__(
        self, name: str, root: Path, cgroup: Path, ports: list[str], console: Callable[[str], None], errors: IO[str]
    ) -> None:
        self.name = name
        self._root = root
        self._cgroup = cgroup
        self._ports = ports
        self._console = console
        self._errors = errors
        self._uuid = str(uuid.uuid4())
        self._process: subprocess.Popen[str] | None = None
        self._notify: socket.socket | None = None
        self._leader: int | None = None

    def boot(self) -> None:
        """Starts systemd as PID 1 of the machine; does not wait for it."""
        self._cgroup.mkdir(parents=True, exist_ok=True)
        path = f"{self._root.parent}/notify"
        Path(path).unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._notify.bind(path)
        self._leader = None
        # Neither machined nor a system manager of the host are asked for anything. The signal is the one that makes systemd
        # power off. All capabilities and SYSTEM_CALLS: as much of the sandboxing of units as possible works inside.
        arguments = [
            "systemd-nspawn", "--quiet", f"--directory={self._root}", f"--machine={self.name}", f"--uuid={self._uuid}",
            "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{self.name}", "--console=read-only",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no", f"--kill-signal=SIGRTMIN+{POWER_OFF}",
            "--notify-ready=yes", "--capability=all", f"--system-call-filter={SYSTEM_CALLS}",
            "--setenv=SYSTEMD_LOG_COLOR=0", "--setenv=SYSTEMD_COLORS=0", "--boot",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": path,
            "SYSTEMD_NSPAWN_LOCK": "0",
            # The host may still have controllers of version 1; the machines get version 2 only.
            "UNIFIED_CGROUP_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        }
        self._process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=lambda: self._enter(self._cgroup),
        )

    def pump_console(self) -> int:
        """Hands every line of the console on until the machine is off. Returns how it went off."""
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            self._console(line.rstrip("\r\n"))
        return self._process.wait()

    def connect(self) -> None:
        """Waits until the machine has booted."""
        if self._leader is not None:
            return
        assert self._notify
        self._notify.settimeout(BOOT_LOOK)
        end = time.monotonic() + BOOT_TIMEOUT
        leader = None
        while True:
            try:
                message = self._notify.recv(4096).decode().splitlines()
            except TimeoutError:
                if not self.is_on():
                    raise TestError(f"{self.name} went off while it booted; see {self.name}.console") from None
                if time.monotonic() > end:
                    raise TestError(f"{self.name} did not boot within {BOOT_TIMEOUT} s; see {self.name}.console") from None
                continue
            for line in message:
                key, _, value = line.partition("=")
                if key == "X_NSPAWN_LEADER_PID":
                    leader = int(value)
                elif (key, value) == ("READY", "1") and leader is not None:
                    self._leader = leader
                    return

    def is_on(self) -> bool:
        """Whether the machine runs or boots."""
        return self._process is not None and self._process.poll() is None

    def is_connected(self) -> bool:
        """Whether it has booted, as far as `connect` knows."""
        return self._leader is not None

    def command(self, command: list[str]) -> list[str]:
        """The command line that runs `command` inside the machine."""
        return ["nsenter", f"--target={self._leader}", "-m", "-p", "-n", "-u", "-i", "-C", "--", *command]

    def popen(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Runs a command inside the machine as root. Its standard error goes to the log of the test unless said otherwise."""
        init = next(self._cgroup.glob("**/init.scope"))
        return subprocess.Popen(
            self.command(command),
            env=ENVIRONMENT,
            cwd="/",
            # Without it the command would belong to no unit of the machine, which logind and polkit cannot handle.
            preexec_fn=lambda: self._enter(init),
            **{"stdin": subprocess.DEVNULL, "stderr": self._errors, **options},  # type: ignore[call-overload]
        )

    def crash(self) -> None:
        """Kills all processes of the machine at once."""
        if self.is_on():
            os.kill(self._wait_for_leader(), signal.SIGKILL)

    def power_off(self) -> None:
        """Asks systemd to power off."""
        if self.is_on():
            os.kill(self._wait_for_leader(), signal.SIGRTMIN + POWER_OFF)

    def set_link(self, up: bool) -> None:
        """Plugs the cable of the first interface in or out: it gains or loses its carrier."""
        if not self._ports:
            raise TestError(f"{self.name} is in no network")
        ip("link", "set", self._ports[0], "up" if up else "down")

    def _wait_for_leader(self) -> int:
        self.connect()
        assert self._leader is not None
        return self._leader

    @staticmethod
    def _enter(cgroup: Path) -> None:
        (cgroup / "cgroup.procs").write_text("0")

"""Machines in QEMU: each has a kernel of its own, a disk, and taps on the bridges in the network namespace of the test.

QEMU emulates (TCG), as hardware virtualisation is rarely to be had in a container: a boot takes 20 s, and all is about ten times
slower than in containers. `crash` kills QEMU, which is a power cut: what the kernel of the machine has not written to its disk
is lost, and the next boot replays the journal of the file system. What it did write is there, though, asked to flush or not.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from driver.declaration import MachineDeclaration
from driver.errors import TestError
from driver.network import Network, mac
from driver.remote import Agent, Command
from driver.tree import HERE, Layers

# What of `declaration.NEEDS` this back end has.
CAPABILITIES = frozenset({"cgroup-limits", "power-cut"})
# How many times as long as in containers things may take.
PATIENCE = 10
# `[gateway] budget_ms` of a service whose configuration does not say, in milliseconds: the service's own default.
BUDGET = 300
# How long a machine may take to boot, in seconds. It takes 20, and three at once on two cores a minute.
BOOT_TIMEOUT = 300
# Size of the disk of a machine: a sparse file in memory.
DISK = "4G"
AGENT = "usr/lib/vm-test/agent"
# Without the usual dependencies, so that there is somebody to ask when the boot hangs.
AGENT_UNIT = f"""
[Unit]
DefaultDependencies=no
IgnoreOnIsolate=yes
[Service]
ExecStart=/usr/bin/python3 /{AGENT}
KillMode=process
"""
# HPET: the kernel measures the TSC against a timer when it boots, and gets it wrong on a busy host; its clock would run at any speed.
KERNEL_COMMAND_LINE = "console=ttyS0 quiet mitigations=off clocksource=hpet tsc=unstable no_timer_check nowatchdog panic=-1"


def missing() -> str | None:
    """Why this back end cannot run here, if so."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("ip", "mmdebstrap", "mke2fs", "xz"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/setup installs what the tests need)"
    if not os.access("/dev/net/tun", os.W_OK):
        return "/dev/net/tun is not there"
    return None


class Qemu:
    """The machines of one test and the networks between them."""

    def __init__(self, declarations: list[MachineDeclaration], layers: Layers, directory: Path, tools: Path) -> None:
        self._declarations = declarations
        self._layers = layers
        self._directory = directory
        self._tools = tools
        self._network = Network(sorted({vlan for machine in declarations for vlan in machine.vlans}))

    def machine(self, declaration: MachineDeclaration, console: Callable[[str], None], errors: IO[str]) -> Emulated:
        """Prepares a machine: its disk and its network. It is not booted yet."""
        number = self._declarations.index(declaration) + 1
        directory = self._directory / declaration.name
        slow = dataclasses.replace(declaration, settings=slowed(declaration.settings))
        root = self._layers.prepare(slow, self._declarations, directory)
        taps, script = self._network.plug_in_taps(number, declaration)
        units = root / "etc/systemd/system"
        for file, text in {
            # The initrd runs it.
            root / "etc/vm-test/network": script,
            root / AGENT: (HERE / "driver/agent.py").read_text(),
            units / "vm-test-agent.service": AGENT_UNIT,
        }.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        wants = units / "sysinit.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "vm-test-agent.service").symlink_to("../vm-test-agent.service")
        disk = directory / "disk"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", root, disk, DISK], stdout=subprocess.DEVNULL, check=True)
        macs = [mac(number, vlan) for vlan in declaration.vlans]
        ports = list(zip(taps, macs, strict=True))
        return Emulated(declaration.name, self._tools, disk, declaration.memory, ports, console, errors)


def slowed(settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration that gives everybody PATIENCE times as long: to answer a lookup, and to do something while a path is sent."""
    settings = copy.deepcopy(settings)
    gateway = settings.setdefault("gateway", {})
    gateway["budget_ms"] = PATIENCE * gateway.get("budget_ms", BUDGET)
    share = settings.get("share", {})
    if limit := re.fullmatch(r"(\d+)MiB", share.get("upload_limit", "")):
        share["upload_limit"] = f"{1024 * int(limit[1]) // PATIENCE}KiB"
    return settings


class Emulated:
    """One machine. Its disk outlives `crash` and `shutdown`."""

    def __init__(
        self,
        name: str,
        tools: Path,
        disk: Path,
        memory: int,
        ports: list[tuple[str, str]],
        console: Callable[[str], None],
        errors: IO[str],
    ) -> None:
        self.name = name
        self._tools = tools
        self._disk = disk
        self._memory = memory
        self._ports = ports
        self._console = console
        self._errors = errors
        self._id = uuid.uuid4().hex
        self._process: subprocess.Popen[str] | None = None
        self._agent: Agent | None = None
        self._monitor: IO[bytes] | None = None
        self._booted = threading.Event()
        self._connecting = threading.Lock()

    def boot(self) -> None:
        """Turns the machine on; does not wait for it."""
        agent, agent_inside = socket.socketpair()
        monitor, monitor_inside = socket.socketpair()
        tree = self._tools / "tools/usr"
        libraries = tree / "lib/x86_64-linux-gnu"
        append = f"{KERNEL_COMMAND_LINE} systemd.machine_id={self._id}"
        arguments = [
            tree / "lib64/ld-linux-x86-64.so.2", "--library-path", f"{libraries}:{libraries}/pulseaudio",
            tree / "bin/qemu-system-x86_64", "-L", tree / "share/qemu", "-L", tree / "share/seabios",
            "-machine", "q35", "-accel", "tcg,tb-size=256", "-cpu", "max", "-m", self._memory, "-smp", 1,
            "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio",
            "-kernel", self._tools / "kernel", "-initrd", self._tools / "initrd", "-append", append,
            "-drive", f"file={self._disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={agent_inside.fileno()}",
            "-device", "virtserialport,chardev=agent,name=vm-test.agent",
            "-chardev", f"socket,id=monitor,fd={monitor_inside.fileno()}", "-mon", "chardev=monitor,mode=control",
        ]  # fmt: skip
        for index, (tap, address) in enumerate(self._ports):
            # romfile: nobody boots from the network.
            arguments += [
                "-netdev", f"tap,id=net{index},ifname={tap},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=net{index},id=eth{index + 1},mac={address},romfile=",
            ]  # fmt: skip
        self._booted.clear()
        self._process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(agent_inside.fileno(), monitor_inside.fileno()),
        )
        agent_inside.close()
        monitor_inside.close()
        self._agent = Agent(agent)
        self._monitor = monitor.makefile("rwb")

    def pump_console(self) -> int:
        """Hands every line of the console on until the machine is off. A reboot from inside ends it as well."""
        assert self._process and self._process.stdout
        for line in self._process.stdout:
            self._console(line.rstrip("\r\n"))
        self._booted.clear()
        return self._process.wait()

    def connect(self) -> None:
        """Waits until the machine has booted."""
        if self._booted.is_set():
            return
        with self._connecting:
            assert self._agent
            if not self._agent.wait(BOOT_TIMEOUT):
                raise TestError(f"{self.name} did not boot within {BOOT_TIMEOUT} s")
            wait = ["timeout", str(BOOT_TIMEOUT), "systemctl", "is-system-running", "--wait"]
            with self.popen(wait, stdout=subprocess.PIPE) as process:
                state = process.communicate()[0].decode().strip()
            # Containers say as little about a unit that failed.
            if state not in ("running", "degraded"):
                raise TestError(f"{self.name} did not boot within {BOOT_TIMEOUT} s; it is '{state}'")
            self._booted.set()

    def is_on(self) -> bool:
        """Whether the machine runs or boots."""
        return self._process is not None and self._process.poll() is None

    def is_connected(self) -> bool:
        """Whether it has booted, as far as `connect` knows."""
        return self._booted.is_set()

    def popen(
        self, command: list[str], *, stdin: int | IO[bytes] = subprocess.DEVNULL, stdout: int | IO[bytes] | None = None
    ) -> Command:
        """Runs a command inside the machine as root. Its standard error goes to the log of the test."""
        assert self._agent
        return self._agent.run(command, stdin, stdout, self._errors)

    def crash(self) -> None:
        """Cuts the power."""
        if self._process:
            self._process.kill()

    def power_off(self) -> None:
        """Asks systemd to power off."""
        if self.is_on():
            self.connect()
            self.popen(["systemctl", "poweroff", "--no-block"], stdout=subprocess.DEVNULL)

    def set_link(self, up: bool) -> None:
        """Plugs the cable of the first interface in or out: it gains or loses its carrier."""
        if not self._ports:
            raise TestError(f"{self.name} is in no network")
        self._ask("qmp_capabilities")
        self._ask("set_link", name="eth1", up=up)

    def _ask(self, command: str, **arguments: object) -> None:
        """Has QEMU do something (QMP). Events and the greeting come in between."""
        assert self._monitor
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._monitor.flush()
        for line in self._monitor:
            answer = json.loads(line)
            # The second time, what was negotiated already is no command any more.
            if "return" in answer or command == "qmp_capabilities" and "error" in answer:
                return
            if "error" in answer:
                raise TestError(f"{self.name}: {command}: {answer['error'].get('desc')}")
        raise TestError(f"{self.name} went off")

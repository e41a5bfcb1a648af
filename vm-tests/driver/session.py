"""Runs one test. Started by the runner, once for each test, in namespaces of its own: mounts, processes and network.

So whatever happens, nothing of a test outlives this process: the kernel ends the machines and removes mounts and networks.

usage: python3 -m driver.session OPTIONS (a JSON object with the fields of `Options`)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
import unittest
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from driver import containers, declaration, helpers, qemu
from driver.errors import TestError
from driver.helpers import PollingCondition, retry
from driver.log import Logger
from driver.machine import Back, Machine
from driver.tree import Layers


@dataclass
class Options:
    """What the runner tells a session."""

    script: str
    # The tree of machines that name none.
    tree: str
    # Suite → root tree.
    trees: dict[str, str]
    # Suite → where Peernix is installed for it.
    installed: dict[str, str]
    # Where logs go.
    results: str
    # The control group of this test; the runner removes it.
    cgroup: str
    # QEMU, a kernel and an initrd; None: the machines are containers.
    tools: str | None
    # How long the test may take, in seconds.
    timeout: int
    verbose: bool

    def to_json(self) -> str:
        """For the command line."""
        return json.dumps(asdict(self))


def main(argument: str) -> int:
    """Runs the test; returns the exit status."""
    options = Options(**json.loads(argument))
    results = Path(options.results)
    with (results / "log").open("w", buffering=1) as file:
        log = Logger(file, options.verbose)
        machines: list[Machine] = []
        signal.signal(signal.SIGALRM, _too_long(options.timeout))
        signal.alarm(options.timeout)
        try:
            script = Path(options.script)
            names = _globals(_machines(options, script, log, machines), log)
            for part in (script.parent / "common.py", script):
                exec(compile(part.read_text(), part, "exec"), names)
            return 0
        # The script is somebody else's code: whatever it raises, `exit` included, the journals are worth having.
        except (Exception, SystemExit) as error:
            signal.alarm(0)
            log.log(f"FAILED: {_explain(error, Path(options.script).parent)}")
            for machine in machines:
                machine.save_journal()
            return 1


def _too_long(seconds: int) -> Callable[[int, object], None]:
    def stop(_signal: int, _frame: object) -> None:
        raise TestError(f"took longer than {seconds} s")

    return stop


def _machines(options: Options, script: Path, log: Logger, machines: list[Machine]) -> list[Machine]:
    # Names of network namespaces are kept in files; these are ours alone. What the machines write is kept in memory.
    Path("/run/netns").mkdir(exist_ok=True)
    work = Path(options.results) / "work"
    work.mkdir()
    for place in ("/run/netns", str(work)):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    declared = declaration.load(script)
    trees, installed = ({suite: Path(path) for suite, path in paths.items()} for paths in (options.trees, options.installed))
    layers = Layers(trees, installed, options.tree)
    backend: containers.Containers | qemu.Qemu
    if options.tools is None:
        backend = containers.Containers(declared.machines, layers, work, Path(options.cgroup))
    else:
        helpers.patience = qemu.PATIENCE
        backend = qemu.Qemu(declared.machines, layers, work, Path(options.tools))
    for one in declared.machines:

        def make(console: Callable[[str], None], one: declaration.MachineDeclaration = one) -> Back:
            return backend.machine(one, console, log.file)

        machines.append(Machine(one.name, make, log, Path(options.results), conditions))
    return machines


# The conditions that hold now, innermost last.
conditions: list[PollingCondition] = []


def _globals(machines: list[Machine], log: Logger) -> dict[str, Any]:
    """What a script finds without importing anything."""

    def start_all() -> None:
        for machine in machines:
            machine.start()

    def join_all() -> None:
        for machine in machines:
            machine.wait_for_shutdown()

    def polling_condition(
        function: Callable[[], bool | None] | None = None,
        *,
        seconds_interval: float = 2.0,
        description: str | None = None,
    ) -> Any:
        if function is None:
            return lambda f: PollingCondition(f, conditions, seconds_interval, description)
        return PollingCondition(function, conditions, seconds_interval, description)

    def serial(on: bool) -> Callable[[], None]:
        return lambda: setattr(log, "serial", on)

    names = {
        "machines": machines,
        "start_all": start_all,
        "join_all": join_all,
        "subtest": lambda name: log.nested(f"subtest: {name}"),
        "retry": retry,
        "polling_condition": polling_condition,
        "serial_stdout_on": serial(True),
        "serial_stdout_off": serial(False),
        "t": unittest.TestCase(),
        "log": log,
        "Machine": Machine,
        "patience": helpers.patience,
    }
    by_name = {machine.name.replace("-", "_"): machine for machine in machines}
    if len(machines) == 1:
        by_name["machine"] = machines[0]
    return names | by_name


def _explain(error: BaseException, scripts: Path) -> str:
    """What went wrong, and at which lines of the script."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == scripts]
    where = "".join(f"\n  {Path(frame.filename).name}:{frame.lineno}: {frame.line}" for frame in frames)
    if isinstance(error, (TestError, AssertionError)):
        # On one line, for the table.
        return f"{' '.join(str(error).split())}{where}"
    return f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}{where}"


if __name__ == "__main__":
    status = main(sys.argv[1])
    # At once, whatever threads there are: it is the first process of its namespace, and all others end with it.
    sys.stdout.flush()
    os._exit(status)

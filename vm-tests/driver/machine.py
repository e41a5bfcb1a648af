"""A machine as the scripts see it: the interface of the NixOS test driver on top of a back end.

What each method does and how long it waits is as in the NixOS manual, "Writing Tests"; comments tell where it differs.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from driver import helpers
from driver.containers import EXIT_REBOOT, Container
from driver.errors import TestError
from driver.helpers import TIMEOUT, Duration, PollingCondition, as_seconds, retry
from driver.log import Logger
from driver.qemu import Emulated

# A machine of either back end.
Back = Container | Emulated

# How long a machine may take to tell its journal after a failure, in seconds.
JOURNAL_TIMEOUT = 10
# How long the end of a machine may go unnoticed when its commands have ended already, in seconds.
END_TIMEOUT = 5

# Colours and what else is meant for a terminal.
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")


class Machine:
    """One machine of the test."""

    def __init__(
        self,
        name: str,
        make: Callable[[Callable[[str], None]], Back],
        log: Logger,
        results: Path,
        conditions: list[PollingCondition],
    ) -> None:
        self.name = name
        self._log = log
        self._results = results
        self._conditions = conditions
        self._console_file = (results / f"{name}.console").open("w", buffering=1)
        self._console: list[str] = []
        # How much of the console `wait_for_console_text` has looked at.
        self._console_seen = 0
        self._console_news = threading.Condition()
        self._pump: threading.Thread | None = None
        self._reboot = threading.Event()
        # What the script wants: a machine that goes off by itself is a failure, not something to boot again.
        self._wanted_on = False
        self._vm = make(self._console_line)

    # -- power ---------------------------------------------------------------------------------------------------------

    def start(self, allow_reboot: bool = False) -> None:
        """Boots the machine unless it is on. The first command waits until it is up."""
        if self.is_up():
            return
        self._log.log(f"{self.name}: start")
        self._wanted_on = True
        self._reboot.clear()
        if allow_reboot:
            self._reboot.set()
        if self._pump:
            self._pump.join()
        self._vm.boot()
        self._pump = threading.Thread(target=self._keep_on, name=f"console of {self.name}", daemon=True)
        self._pump.start()

    def connect(self) -> None:
        """Waits until the machine has booted; starts it first if it is off."""
        if self._wanted_on and not self.is_up() and not self._reboot.is_set():
            raise self._went_off()
        self.start()
        self._vm.connect()

    def is_up(self) -> bool:
        """Whether it is on."""
        return self._vm.is_on()

    def shutdown(self) -> None:
        """Powers off in an orderly way, and waits for it."""
        if self.is_up():
            self._log.log(f"{self.name}: shutdown")
            self._reboot.clear()
            self._vm.power_off()
            self.wait_for_shutdown()

    def crash(self) -> None:
        """Takes the power away (see the back end for what that means)."""
        if self.is_up():
            self._log.log(f"{self.name}: crash")
            self._reboot.clear()
            self._vm.crash()
            self.wait_for_shutdown()

    def reboot(self) -> None:
        """Reboots in an orderly way. Unlike in the NixOS driver it needs no `start(allow_reboot=True)`."""
        self._log.log(f"{self.name}: reboot")
        self.shutdown()
        self.start()

    def wait_for_shutdown(self) -> None:
        """Waits until the machine is off."""
        if self._pump:
            limit = TIMEOUT * helpers.patience
            self._pump.join(limit)
            if self._pump.is_alive():
                raise TestError(f"{self.name} is still on after {limit} s")
        self._wanted_on = False

    def block(self) -> None:
        """Pulls the network cable of the first network."""
        self._log.log(f"{self.name}: block")
        self._vm.set_link(up=False)

    def unblock(self) -> None:
        """Plugs it in again."""
        self._log.log(f"{self.name}: unblock")
        self._vm.set_link(up=True)

    # -- commands ------------------------------------------------------------------------------------------------------

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: Duration | None = TIMEOUT
    ) -> tuple[int, str]:
        """Runs a command in bash with `set -euo pipefail`; returns its exit status and standard output.

        Waits until standard output is closed. Standard error goes to the log of the test. Unlike in the NixOS driver, each
        command is a process of its own, so several threads of a script may run commands in one machine at once.
        """
        for condition in list(self._conditions):
            condition.check()
        self.connect()
        script = ["bash", "-c", f"cd /tmp; set -euo pipefail; {command}"]
        if timeout is not None:
            script = ["timeout", str(as_seconds(timeout) * helpers.patience), *script]
        if not check_output:
            self._vm.popen(script, stdout=subprocess.DEVNULL)
            return -2, ""
        process = self._vm.popen(script, stdout=subprocess.PIPE)
        output = process.communicate()[0].decode(errors="replace")
        status = process.wait()
        if status != 0 and self._wanted_on and not self._stays_on(killed=status < 0):
            raise self._went_off()
        return (status if check_return else -1), output

    def succeed(self, *commands: str, timeout: Duration | None = None) -> str:
        """Runs commands that have to succeed; returns all they print."""
        outputs = []
        for command in commands:
            with self._nested(f"must succeed: {command}"):
                status, output = self.execute(command, timeout=timeout)
                if status != 0:
                    self._log.log(output)
                    raise TestError(f"{self.name}: command `{command}` failed (exit code {status})")
                outputs.append(output)
        return "".join(outputs)

    def fail(self, *commands: str, timeout: Duration | None = None) -> str:
        """Runs commands that have to fail; returns all they print."""
        outputs = []
        for command in commands:
            with self._nested(f"must fail: {command}"):
                status, output = self.execute(command, timeout=timeout)
                if status == 0:
                    self._log.log(output)
                    raise TestError(f"{self.name}: command `{command}` unexpectedly succeeded")
                outputs.append(output)
        return "".join(outputs)

    def wait_until_succeeds(self, command: str, timeout: Duration = TIMEOUT) -> str:
        """Repeats a command until it succeeds; returns what it printed then."""
        return self._wait_until(command, lambda status: status == 0, "succeed", timeout)

    def wait_until_fails(self, command: str, timeout: Duration = TIMEOUT) -> str:
        """Repeats a command until it fails; returns what it printed then."""
        return self._wait_until(command, lambda status: status != 0, "fail", timeout)

    def sleep(self, secs: Duration) -> None:
        """Lets time go by in the machine."""
        self.succeed(f"sleep {as_seconds(secs)}")

    # -- units ---------------------------------------------------------------------------------------------------------

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Runs `systemctl q`, or `systemctl --user q` as a user."""
        if user is not None:
            quoted = q.replace("'", "\\'")
            return self.execute(
                f"su -l {user} --shell /bin/sh -c $'XDG_RUNTIME_DIR=/run/user/`id -u` systemctl --user {quoted}'"
            )
        return self.execute(f"systemctl {q}")

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Starts a unit."""
        return self.systemctl(f"start {jobname}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """Stops a unit."""
        return self.systemctl(f"stop {jobname}", user)

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        status, lines = self.systemctl(f"--no-pager show '{unit}'", user)
        if status != 0:
            raise TestError(f"{self.name}: retrieving systemctl info for unit '{unit}' failed (exit code {status})")
        pairs = (line.partition("=") for line in lines.splitlines())
        return {key: value for key, equals, value in pairs if equals}

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        status, lines = self.systemctl(f"--no-pager show '{unit}' --property='{property}'", user)
        if status != 0:
            raise TestError(f"{self.name}: retrieving property '{property}' of unit '{unit}' failed (exit code {status})")
        _, equals, value = lines.strip().partition("=")
        if not equals:
            raise TestError(f"{self.name}: unit '{unit}' has no property '{property}'")
        return value

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Fails unless the unit is in that state now."""
        state = self.get_unit_property(unit, "ActiveState")
        if state != require_state:
            raise TestError(f"{self.name}: expected unit '{unit}' to be in state '{require_state}' but it is '{state}'")

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: Duration = TIMEOUT) -> None:
        """Waits until a unit is active. Fails at once if it failed, or if it is inactive and nothing will start it."""

        def active(_: bool) -> bool:
            state = self.get_unit_property(unit, "ActiveState", user)
            if state == "failed":
                raise TestError(f"{self.name}: unit '{unit}' reached state '{state}'")
            if state == "inactive" and "No jobs" in self.systemctl("list-jobs --full 2>&1", user)[1]:
                # It may have become active between the two questions.
                if self.get_unit_property(unit, "ActiveState", user) == "inactive":
                    raise TestError(f"{self.name}: unit '{unit}' is inactive and there are no pending jobs")
            return state == "active"

        with self._nested(f"waiting for unit {unit}"):
            retry(active, timeout)

    # -- files, ports, console -----------------------------------------------------------------------------------------

    def wait_for_file(self, filename: str, timeout: Duration = TIMEOUT) -> None:
        """Waits until a file exists."""
        with self._nested(f"waiting for file {filename}"):
            retry(lambda _: self.execute(f"test -e {filename}")[0] == 0, timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: Duration = TIMEOUT) -> None:
        """Waits until a TCP port accepts connections."""
        with self._nested(f"waiting for TCP port {port} on {addr}"):
            retry(lambda _: self._port_is_open(port, addr), timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: Duration = TIMEOUT) -> None:
        """Waits until a TCP port accepts no connections any more."""
        with self._nested(f"waiting for TCP port {port} on {addr} to be closed"):
            retry(lambda _: not self._port_is_open(port, addr), timeout)

    def wait_for_open_unix_socket(self, addr: str, is_datagram: bool = False, timeout: Duration = TIMEOUT) -> None:
        """Waits until a process listens on a Unix socket."""
        flags = "-uU" if is_datagram else "-U"
        with self._nested(f"waiting for unix socket {addr}"):
            retry(lambda _: self.execute(f"nc -z {flags} {addr}")[0] == 0, timeout)

    def get_console_log(self) -> str:
        """Everything on the console so far, the journal included."""
        with self._console_news:
            return "\n".join(self._console)

    def wait_for_console_text(self, regex: str, timeout: Duration | None = None) -> None:
        """Waits until the console shows something that no earlier call has seen."""
        pattern = re.compile(regex)
        with self._nested(f"waiting for {regex} to appear on console"), self._console_news:

            def shown() -> bool:
                text = "\n".join(self._console[self._console_seen :])
                return pattern.search(text) is not None

            limit = None if timeout is None else as_seconds(timeout) * helpers.patience
            if not self._console_news.wait_for(shown, limit):
                raise TestError(f"{self.name}: '{regex}' did not appear on the console within {limit} s")
            self._console_seen = len(self._console)

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file or a directory of this host to `target` in the machine."""
        origin = Path(source)
        with subprocess.Popen(
            ["tar", "--create", "--dereference", "--directory", origin.parent, origin.name], stdout=subprocess.PIPE
        ) as archive:
            # What comes out of the archive has the name of the origin.
            name, place = shlex.quote(origin.name), shlex.quote(target)
            self._unpack(archive, f'd=$(mktemp -d); tar -x -C "$d"; mkdir -p "$(dirname {place})"; mv -T "$d"/{name} {place}')

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copies a file or a directory of the machine into the results of the test, below `target_dir`."""
        destination = self._results / target_dir
        destination.mkdir(parents=True, exist_ok=True)
        self.connect()
        path = Path(source)
        command = ["tar", "--create", "--dereference", "--directory", str(path.parent), path.name]
        with self._vm.popen(command, stdout=subprocess.PIPE) as archive, tempfile.TemporaryDirectory() as unpacked:
            subprocess.run(["tar", "--extract", "--directory", unpacked], stdin=archive.stdout, check=True)
            shutil.move(f"{unpacked}/{path.name}", destination / path.name)

    # The name that older scripts use.
    copy_from_vm = copy_from_machine

    def log(self, text: str) -> None:
        """Writes to the log of the test."""
        self._log.log(f"{self.name}: {text}")

    def save_journal(self) -> None:
        """Keeps the journal among the results, if the machine is there to tell."""
        if self.is_up() and self._vm.is_connected():
            with (self._results / f"{self.name}.journal").open("wb") as file:
                limit = ["timeout", str(JOURNAL_TIMEOUT)]
                self._vm.popen([*limit, "journalctl", "--no-pager", "--output=short-monotonic", "--all"], stdout=file).wait()

    # ------------------------------------------------------------------------------------------------------------------

    def _wait_until(self, command: str, done: Callable[[int], bool], what: str, timeout: Duration) -> str:
        output = ""

        def attempt(last: bool) -> bool:
            nonlocal output
            if last:
                self._log.log(f"Last try of `{command}`; it printed: {output}")
            status, output = self.execute(command, timeout=timeout)
            return done(status)

        with self._nested(f"waiting for {what}: {command}"):
            retry(attempt, timeout)
        return output

    def _port_is_open(self, port: int, address: str) -> bool:
        return self.execute(f"nc -z {address} {port}")[0] == 0

    def _unpack(self, archive: subprocess.Popen[bytes], script: str) -> None:
        self.connect()
        if self._vm.popen(["bash", "-euc", script], stdin=archive.stdout).wait() != 0:
            raise TestError(f"{self.name}: cannot unpack what is copied to it")

    def _stays_on(self, killed: bool) -> bool:
        """Whether the machine is on and does not go off right now: `killed` is a command that was, as all are by its end."""
        if killed and self._pump:
            self._pump.join(END_TIMEOUT)
        return self.is_up()

    def _went_off(self) -> TestError:
        last = [line for line in self._console[-50:] if line.strip()][-1:]
        return TestError(f"{self.name} went off by itself; {self.name}.console ends with: {''.join(last)}")

    def _keep_on(self) -> None:
        while self._vm.pump_console() == EXIT_REBOOT and self._reboot.is_set():
            self._vm.boot()

    def _console_line(self, line: str) -> None:
        line = ESCAPES.sub("", line)
        self._console_file.write(line + "\n")
        self._log.console(self.name, line)
        with self._console_news:
            self._console.append(line)
            self._console_news.notify_all()

    def _nested(self, text: str):  # type: ignore[no-untyped-def]
        return self._log.nested(f"{self.name}: {text}")

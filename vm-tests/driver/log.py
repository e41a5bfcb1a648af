"""The log of one test: what the script did, what the machines printed, and how long it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


class Logger:
    """Writes to a file and, if wanted, to standard output. Lines are indented by subtest and carry seconds since the start."""

    def __init__(self, file: IO[str], echo: bool) -> None:
        self.file = file
        self._echo = echo
        self._depth = 0
        self._start = time.monotonic()
        self.serial = False

    def log(self, text: str) -> None:
        """Writes one entry."""
        stamp = f"{time.monotonic() - self._start:8.2f} "
        for line in text.splitlines() or [""]:
            self._write(f"{stamp}{'  ' * self._depth}{line}\n")

    # The names that scripts for NixOS use.
    info = log
    warning = log
    error = log

    def console(self, machine: str, line: str) -> None:
        """A line of a machine's console: only with `serial_stdout_on()`. The file of the console has it in any case."""
        if self.serial:
            self._write(f"{machine} # {line}\n")

    @contextmanager
    def nested(self, text: str) -> Iterator[None]:
        """Everything inside is a step of `text`; says at the end how long it took."""
        self.log(text)
        self._depth += 1
        start = time.monotonic()
        try:
            yield
        finally:
            self._depth -= 1
        self.log(f"({time.monotonic() - start:.2f} s)")

    def _write(self, text: str) -> None:
        # Commands in the machines write their standard error to the same file.
        self.file.write(text)
        self.file.flush()
        if self._echo:
            sys.stdout.write(text)
            sys.stdout.flush()

"""Commands inside a machine in QEMU: the driver's end of the serial port whose other end is `agent.py`."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import threading
from typing import IO

from driver.agent import CHUNK, ERRORS, EXIT, HEADER, HELLO, INPUT, OUTPUT, RUN

# What a command ended with whose machine went off, as if it had been killed.
LOST = -9


class Agent:
    """The connection to one machine, for as long as it is on."""

    def __init__(self, port: socket.socket) -> None:
        self._port = port
        self._sending = threading.Lock()
        self._commands: dict[int, Command] = {}
        self._number = 0
        self._ready = threading.Event()
        self._closed = False
        threading.Thread(target=self._receive, daemon=True).start()

    def wait(self, timeout: float) -> bool:
        """Waits until the machine answers; False if it does not, or went off."""
        return self._ready.wait(timeout) and not self._closed

    def run(self, command: list[str], stdin: int | IO[bytes], stdout: int | IO[bytes] | None, stderr: IO[str]) -> Command:
        """Starts a command."""
        with self._sending:
            self._number += 1
            number = self._number
            one = self._commands[number] = Command(stdout, stderr)
        order = {"command": command, "stdin": stdin != subprocess.DEVNULL, "stdout": stdout != subprocess.DEVNULL, "stderr": True}
        self._send(number, RUN, json.dumps(order).encode())
        if not isinstance(stdin, int):
            threading.Thread(target=self._feed, args=(number, stdin), daemon=True).start()
        if self._closed:
            one.end(LOST)
        return one

    def _feed(self, number: int, source: IO[bytes]) -> None:
        while part := os.read(source.fileno(), CHUNK):
            self._send(number, INPUT, part)
        self._send(number, INPUT, b"")

    def _send(self, number: int, kind: int, body: bytes) -> None:
        with self._sending:
            try:
                self._port.sendall(HEADER.pack(number, kind, len(body)) + body)
            except OSError:
                # The machine went off: `_receive` sees it as well, and tells everybody.
                pass

    def _receive(self) -> None:
        with self._port.makefile("rb") as frames:
            while len(header := _read(frames, HEADER.size)) == HEADER.size:
                number, kind, length = HEADER.unpack(header)
                body = _read(frames, length)
                if kind == HELLO:
                    self._ready.set()
                elif command := self._commands.get(number):
                    if kind == OUTPUT:
                        command.output(body)
                    elif kind == ERRORS and body:
                        command.errors(body)
                    elif kind == EXIT:
                        del self._commands[number]
                        command.end(int(body))
        self._closed = True
        self._ready.set()
        for command in list(self._commands.values()):
            command.end(LOST)


class Command:
    """A command that runs in the machine; what of `subprocess.Popen` the driver uses."""

    def __init__(self, stdout: int | IO[bytes] | None, stderr: IO[str]) -> None:
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = None
        self._stderr = stderr
        self._ended = threading.Event()
        # By way of a queue, so that a slow reader holds up no other command.
        self._output: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        target = None
        if stdout == subprocess.PIPE:
            reading, target = os.pipe()
            self.stdout = os.fdopen(reading, "rb")
        elif stdout is not None and not isinstance(stdout, int):
            target = os.dup(stdout.fileno())
        self._writer = threading.Thread(target=self._write, args=(target,), daemon=True)
        self._writer.start()

    def communicate(self) -> tuple[bytes, None]:
        """All that the command prints."""
        assert self.stdout
        output = self.stdout.read()
        self.wait()
        self.stdout.close()
        return output, None

    def wait(self) -> int:
        """Waits for the end; returns the exit status."""
        self._ended.wait()
        self._writer.join()
        assert self.returncode is not None
        return self.returncode

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout:
            self.stdout.close()
        self.wait()

    def output(self, part: bytes) -> None:
        """The agent sent some of standard output; empty: its end."""
        self._output.put(part)

    def errors(self, part: bytes) -> None:
        """The agent sent some of standard error."""
        self._stderr.write(part.decode(errors="replace"))
        self._stderr.flush()

    def end(self, status: int) -> None:
        """The command ended, or its machine did."""
        if self.returncode is None:
            self.returncode = status
            self._output.put(b"")
            self._ended.set()

    def _write(self, target: int | None) -> None:
        while part := self._output.get():
            if target is not None:
                try:
                    while part:
                        part = part[os.write(target, part) :]
                except BrokenPipeError:
                    os.close(target)
                    target = None
        if target is not None:
            os.close(target)


def _read(frames: IO[bytes], length: int) -> bytes:
    try:
        return frames.read(length)
    except OSError:
        return b""

#!/usr/bin/env python3
"""Runs commands inside a machine in QEMU for the driver, which is at the other end of a virtio serial port. Part of the machine, not of
the driver: `qemu.py` installs it and speaks the same frames.

A frame is a header (number of the command, kind, length) and a body. From the driver: RUN (JSON) and INPUT (empty: its end); to the
driver: HELLO (number 0), OUTPUT and ERRORS (empty: their end), EXIT (the status as text, after the end of both that are wanted).
"""

import glob
import json
import os
import struct
import subprocess
import sys
import threading
import time

HEADER = struct.Struct("!IBI")
HELLO, RUN, INPUT, OUTPUT, ERRORS, EXIT = range(6)
# Largest body, in bytes.
CHUNK = 65536
# As in `containers.py`.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "HOME": "/root",
    "USER": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
}

sending = threading.Lock()


def open_port() -> int:
    """The port appears some time after the kernel has started; there is no udev to tell."""
    while not (ports := glob.glob("/dev/vport*p1")):
        time.sleep(0.05)
    return os.open(ports[0], os.O_RDWR | os.O_CLOEXEC)


def send(port: int, number: int, kind: int, body: bytes = b"") -> None:
    """Writes one frame."""
    rest = memoryview(HEADER.pack(number, kind, len(body)) + body)
    with sending:
        while rest:
            rest = rest[os.write(port, rest) :]


def receive(port: int, length: int) -> bytes:
    """Reads that many bytes. A port that the driver has not opened yet reads as ended."""
    body = b""
    while len(body) < length:
        part = os.read(port, length - len(body))
        if not part:
            time.sleep(0.05)
        body += part
    return body


def forward(port: int, number: int, kind: int, pipe: int) -> None:
    """Sends on what a command prints, and its end."""
    while part := os.read(pipe, CHUNK):
        send(port, number, kind, part)
    send(port, number, kind)
    os.close(pipe)


def run(port: int, number: int, order: dict, stdin: int) -> None:
    """Runs one command from its start to its end."""
    ends = {}
    streams = {}
    for name, kind in (("stdout", OUTPUT), ("stderr", ERRORS)):
        if order[name]:
            ends[kind], streams[name] = os.pipe()
        else:
            streams[name] = subprocess.DEVNULL
    try:
        process = subprocess.Popen(order["command"], env=ENVIRONMENT, cwd="/", stdin=stdin, start_new_session=True, **streams)
    except OSError as error:
        print(error, file=sys.stderr)
        process = None
    finally:
        for end in (stdin, *streams.values()):
            if end >= 0:
                os.close(end)
    threads = {kind: threading.Thread(target=forward, args=(port, number, kind, pipe)) for kind, pipe in ends.items()}
    for thread in threads.values():
        thread.start()
    status = process.wait() if process else 127
    # What stays in the background may keep standard error.
    if OUTPUT in threads:
        threads[OUTPUT].join()
    send(port, number, EXIT, str(status).encode())


def main() -> None:
    """Serves the driver until the machine is off."""
    port = open_port()
    # Where the input of a command goes, while it has one.
    inputs: dict[int, int] = {}
    send(port, 0, HELLO)
    while True:
        number, kind, length = HEADER.unpack(receive(port, HEADER.size))
        body = receive(port, length)
        if kind == RUN:
            order = json.loads(body)
            if order["stdin"]:
                stdin, inputs[number] = os.pipe()
            else:
                stdin = os.open("/dev/null", os.O_RDONLY)
            threading.Thread(target=run, args=(port, number, order, stdin), daemon=True).start()
        elif kind == INPUT and number in inputs:
            if body:
                try:
                    while body:
                        body = body[os.write(inputs[number], body) :]
                except BrokenPipeError:
                    os.close(inputs.pop(number))
            else:
                os.close(inputs.pop(number))


if __name__ == "__main__":
    main()

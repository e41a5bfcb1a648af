"""The networks between the machines of a test: a bridge for each, in the network namespace of the test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from driver.declaration import MachineDeclaration


def ip(*arguments: str) -> None:
    """Runs `ip`."""
    subprocess.run(["ip", *arguments], check=True)


def addresses(machine: int, vlan: int) -> tuple[str, str]:
    """The addresses of a machine (by number) in a network, as in NixOS tests."""
    return f"192.168.{vlan}.{machine}", f"2001:db8:{vlan:x}::{machine:x}"


def mac(machine: int, vlan: int) -> str:
    """The hardware address of a machine in a network, as in NixOS tests."""
    return f"52:54:00:12:{vlan:02x}:{machine:02x}"


def hosts_file(machines: list[MachineDeclaration], own: str) -> str:
    """/etc/hosts: every machine under its name, by its address in its first network."""
    lines = ["127.0.0.1 localhost", "::1 localhost", f"127.0.0.2 {own}"]
    for number, machine in enumerate(machines, 1):
        if machine.name != own and machine.vlans:
            lines += [f"{address} {machine.name}" for address in addresses(number, machine.vlans[0])]
    return "\n".join(lines) + "\n"


class Network:
    """Bridges `br1`, `br2` … that flood everything, as the hubs of NixOS tests do: multicast reaches all."""

    def __init__(self, vlans: Iterable[int]) -> None:
        ip("link", "set", "lo", "up")
        for vlan in vlans:
            ip("link", "add", f"br{vlan}", "type", "bridge", "mcast_snooping", "0")
            ip("link", "set", f"br{vlan}", "up")

    def plug_in(self, number: int, machine: MachineDeclaration) -> list[str]:
        """Makes the network namespace of a machine and its interfaces eth1 …; returns the names of their other ends."""
        namespace = machine.name
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        ports = []
        for index, vlan in enumerate(machine.vlans, 1):
            port, interface = f"m{number}v{vlan}", f"eth{index}"
            # fmt: off
            ip("link", "add", port, "type", "veth", "peer", "name", interface,
               "address", mac(number, vlan), "netns", namespace)
            # fmt: on
            ip("link", "set", port, "master", f"br{vlan}", "up")
            ip("-n", namespace, "link", "set", interface, "up")
            v4, v6 = addresses(number, vlan)
            ip("-n", namespace, "address", "add", f"{v4}/24", "brd", "+", "dev", interface)
            ip("-n", namespace, "address", "add", f"{v6}/64", "dev", interface, "nodad")
            ports.append(port)
        return ports

    def plug_in_taps(self, number: int, machine: MachineDeclaration) -> tuple[list[str], str]:
        """Makes the taps of a machine with a kernel of its own; returns their names, and what that kernel has to be told."""
        taps, script = [], ["ip link set lo up"]
        # From the last, as eth0 is not to become eth1 before that is eth2.
        for index, vlan in reversed(list(enumerate(machine.vlans, 1))):
            tap, interface = f"m{number}v{vlan}", f"eth{index}"
            ip("tuntap", "add", tap, "mode", "tap")
            ip("link", "set", tap, "master", f"br{vlan}", "up")
            v4, v6 = addresses(number, vlan)
            script += [
                f"ip link set eth{index - 1} name {interface}",
                f"ip link set {interface} up",
                f"ip address add {v4}/24 brd + dev {interface}",
                f"ip address add {v6}/64 dev {interface} nodad",
            ]
            taps.insert(0, tap)
        return taps, "\n".join(script) + "\n"

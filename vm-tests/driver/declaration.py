"""Reads `NAME.toml`: which machines a test has, what they are, and what the test needs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The trees that `make-tree` knows.
TREES = ("trixie", "trixie-desktop", "bookworm")
# Longest run of a test that does not say otherwise, in seconds.
TIMEOUT = 300
# Memory of a machine that does not say otherwise, in MiB.
MEMORY = 768

# What a test may need that not every back end has, and how its absence is explained.
NEEDS = {
    "own-kernel": "a kernel of its own in each machine",
    "cgroup-limits": "enforced limits of memory, tasks and CPU",
    "power-cut": "a disk that survives a power cut",
    "network-delay": "delay and loss in the network (netem)",
}


@dataclass
class MachineDeclaration:
    """One machine of a test."""

    name: str
    # Root tree; None: the one that the test runs with.
    tree: str | None
    # Numbers of the networks it is plugged into: eth1, eth2 … in this order.
    vlans: list[int]
    # Whether Peernix is installed and enabled.
    peernix: bool
    # /etc/peernix/config.toml.
    settings: dict[str, Any]
    # /etc/nix/nix.conf.
    nix: dict[str, Any]
    # In MiB, where machines have memory of their own.
    memory: int
    # Files below /etc: name without /etc/ → contents.
    etc: dict[str, str]


@dataclass
class Declaration:
    """One test."""

    name: str
    script: Path
    machines: list[MachineDeclaration]
    # The test runs once with each of them.
    trees: list[str]
    needs: list[str] = field(default_factory=list)
    timeout: int = TIMEOUT


class DeclarationError(Exception):
    """A declaration says what cannot be."""


def load(script: Path) -> Declaration:
    """The declaration beside a script, on top of `common.toml`. Unknown keys are refused: a misspelt one would change what is tested."""
    file = script.with_suffix(".toml")
    try:
        table = tomllib.loads(file.read_text())
        machines = table.pop("machines")
        base = tomllib.loads(script.with_name("common.toml").read_text())
        common = _merged(base, table.pop("common", {}))
        declaration = Declaration(
            name=script.stem,
            script=script,
            # In the order of the NixOS driver, which numbers them by sorted name.
            machines=[_machine(name, _merged(common, machines[name])) for name in sorted(machines)],
            trees=table.pop("trees", ["trixie"]),
            needs=table.pop("needs", []),
            timeout=table.pop("timeout", TIMEOUT),
        )
        _refuse("the file", table)
    except (OSError, tomllib.TOMLDecodeError, KeyError, DeclarationError) as error:
        raise DeclarationError(f"{file}: {error!r}") from error
    for need in declaration.needs:
        if need not in NEEDS:
            raise DeclarationError(f"{file}: unknown need '{need}'; there are {', '.join(NEEDS)}")
    for tree in declaration.trees + [machine.tree for machine in declaration.machines if machine.tree]:
        if tree not in TREES:
            raise DeclarationError(f"{file}: unknown tree '{tree}'; there are {', '.join(TREES)}")
    return declaration


def _machine(name: str, table: dict[str, Any]) -> MachineDeclaration:
    machine = MachineDeclaration(
        name=name,
        tree=table.pop("tree", None),
        vlans=table.pop("vlans", [1]),
        peernix=table.pop("peernix", True),
        settings=table.pop("settings", {}),
        nix=table.pop("nix", {}),
        memory=table.pop("memory", MEMORY),
        etc=table.pop("etc", {}),
    )
    _refuse(f"machine {name}", table)
    return machine


def _refuse(where: str, rest: dict[str, Any]) -> None:
    if rest:
        raise DeclarationError(f"unknown keys in {where}: {', '.join(rest)}")


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, table by table."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def to_toml(settings: dict[str, Any]) -> str:
    """Tables of plain values as TOML, for /etc/peernix/config.toml."""
    lines = []
    for section, keys in settings.items():
        lines.append(f"[{section}]")
        # Strings, numbers, booleans and lists of them are spelt alike in JSON and TOML.
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def to_nix_conf(settings: dict[str, Any]) -> str:
    """nix.conf: lists are separated by spaces."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(text(item) for item in value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    return "".join(f"{key} = {text(value)}\n" for key, value in settings.items())

"""Reads `NAME.nix`: which machines a test has, what they are, and what the test needs."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The trees that `make-tree` knows.
TREES = ("trixie", "trixie-desktop", "bookworm", "sid")
# Longest run of a test that does not say otherwise, in seconds.
TIMEOUT = 300
# Memory of a machine that does not say otherwise, in MiB.
MEMORY = 768

# What a test may need that not every back end has, and how its absence is explained.
NEEDS = {
    "cgroup-limits": "enforced limits of memory, tasks and CPU",
    "power-cut": "a disk that survives a power cut",
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
    # Trees it runs with only when they are named: what they consist of is another thing every day.
    smoke: list[str]
    needs: list[str] = field(default_factory=list)
    timeout: int = TIMEOUT


class DeclarationError(Exception):
    """A declaration says what cannot be."""


def load(script: Path) -> Declaration:
    """The declaration beside a script, on top of `common.nix`. Unknown keys are refused: a misspelt one would change what is tested."""
    file = script.with_suffix(".nix")
    test = _evaluate(file)
    try:
        nodes = test.pop("nodes", None)
        if not nodes:
            raise DeclarationError("there are no nodes")
        common = _merged(_evaluate(script.with_name("common.nix")), test.pop("defaults", {}))
        declaration = Declaration(
            name=script.stem,
            script=script,
            # In the order of the NixOS driver, which numbers them by sorted name.
            machines=[_machine(name, _merged(common, nodes[name])) for name in sorted(nodes)],
            trees=test.pop("trees", ["trixie"]),
            smoke=test.pop("smoke", []),
            needs=test.pop("needs", []),
            timeout=test.pop("timeout", TIMEOUT),
        )
        _refuse("the file", test)
    except DeclarationError as error:
        raise DeclarationError(f"{file}: {error}") from error
    for need in declaration.needs:
        if need not in NEEDS:
            raise DeclarationError(f"{file}: unknown need '{need}'; there are {', '.join(NEEDS)}")
    for tree in declaration.trees + declaration.smoke + [machine.tree for machine in declaration.machines if machine.tree]:
        if tree not in TREES:
            raise DeclarationError(f"{file}: unknown tree '{tree}'; there are {', '.join(TREES)}")
    return declaration


def _evaluate(file: Path) -> dict[str, Any]:
    """What a .nix file says. It is plain data: there is no nixpkgs here to call anything of."""
    # No store is read or made, and nothing is asked of a nix-daemon.
    command = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", str(file)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise DeclarationError("nix-instantiate is not installed, which reads the .nix files (scripts/setup installs it)") from None
    if done.returncode != 0:
        raise DeclarationError(f"{file}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _machine(name: str, node: dict[str, Any]) -> MachineDeclaration:
    """Of the options of NixOS, those that are known here."""
    # Tables of `common.nix` are in all nodes, and this takes everything out of its own.
    node = copy.deepcopy(node)

    def take(*path: str, default: Any) -> Any:
        *outer, last = path
        table = node
        for key in outer:
            table = table.get(key, {})
        return table.pop(last, default)

    machine = MachineDeclaration(
        name=name,
        tree=take("vmTest", "tree", default=None),
        vlans=take("virtualisation", "vlans", default=[1]),
        peernix=take("services", "peernix", "enable", default=True),
        settings=take("services", "peernix", "settings", default={}),
        nix=take("nix", "settings", default={}),
        memory=take("virtualisation", "memorySize", default=MEMORY),
        etc={file: entry.pop("text", "") for file, entry in node.get("environment", {}).get("etc", {}).items()},
    )
    _refuse(f"machine {name}", node)
    return machine


def _refuse(where: str, rest: dict[str, Any]) -> None:
    """Fails if there is anything left but empty tables."""
    left = list(_leaves(rest))
    if left:
        raise DeclarationError(f"unknown keys in {where}: {', '.join(left)}")


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


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

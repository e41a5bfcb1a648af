"""The layers that the root of a machine consists of: what Debian installs, what Peernix installs, what the machine itself wrote."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from driver.declaration import MachineDeclaration, to_nix_conf, to_toml
from driver.network import hosts_file

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent
# What the units are written for.
SYSTEMD_VERSIONS = {"trixie": "257", "trixie-desktop": "257", "bookworm": "252", "sid": "262"}


# What is installed in the machines.
PROGRAMS = ("peernixd", "peernixctl", "peernix-notifier")


class PreparationError(Exception):
    """What tests need cannot be made; says what to do."""


def make_trees(suites: set[str]) -> dict[str, Path]:
    """The root trees of these suites; those that are missing are made, side by side."""
    makers = {suite: subprocess.Popen([HERE / "make-tree", suite], stdout=subprocess.PIPE, text=True) for suite in suites}
    trees = {}
    for suite, maker in makers.items():
        output, _ = maker.communicate()
        if maker.returncode != 0:
            raise PreparationError(f"make-tree {suite} failed with exit status {maker.returncode}; it says why above")
        trees[suite] = Path(output.strip())
    return trees


def make_qemu() -> Path:
    """QEMU, a kernel and an initrd."""
    made = subprocess.run([HERE / "make-qemu"], stdout=subprocess.PIPE, text=True)
    if made.returncode != 0:
        raise PreparationError(f"make-qemu failed with exit status {made.returncode}; it says why above")
    return Path(made.stdout.strip())


def install(destination: Path, programs: Path, suites: set[str]) -> dict[str, Path]:
    """Installs the programs in a folder, and all that belongs to them, as a package of each suite would: by suite, where."""
    absent = [program for program in PROGRAMS if not os.access(programs / program, os.X_OK)]
    if absent:
        raise PreparationError(f"{programs} has no {', '.join(absent)}: run `make debug`, or name another folder with --programs")
    installed = {}
    for suite in suites:
        installed[suite] = destination / suite
        where = {"PREFIX": "/usr", "DESTDIR": str(installed[suite]), "SYSTEMD_VERSION": SYSTEMD_VERSIONS[suite]}
        subprocess.run([REPOSITORY / "scripts/install.sh", programs], env={**os.environ, **where}, check=True)
    return installed


class Layers:
    """Where the layers are."""

    def __init__(self, trees: dict[str, Path], installed: dict[str, Path], tree: str) -> None:
        self._trees = trees
        self._installed = installed
        # For machines that name none.
        self._tree = tree

    def prepare(self, machine: MachineDeclaration, machines: list[MachineDeclaration], directory: Path) -> Path:
        """The root of a machine with all that its declaration says."""
        root = self.mount(machine, directory)
        etc = {"hosts": hosts_file(machines, machine.name), "hostname": f"{machine.name}\n"}
        if machine.settings:
            etc["peernix/config.toml"] = to_toml(machine.settings)
        if machine.nix:
            etc["nix/nix.conf"] = to_nix_conf(machine.nix)
        for name, text in {**etc, **machine.etc}.items():
            file = root / "etc" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return root

    def mount(self, machine: MachineDeclaration, directory: Path) -> Path:
        """Mounts the root of a machine in `directory`, which holds what it writes. Its units are enabled."""
        suite = machine.tree or self._tree
        lower = [self._trees[suite]]
        if machine.peernix:
            lower.insert(0, self._installed[suite])
        upper, work, root = (directory / name for name in ("upper", "work", "root"))
        for path in (upper, work, root):
            path.mkdir(parents=True)
        options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work},index=off,metacopy=off"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
        if machine.peernix:
            units = [
                unit.name
                for unit in sorted((self._installed[suite] / "usr/lib/systemd/system").glob("peernix*"))
                if unit.suffix in (".service", ".socket") and "[Install]" in unit.read_text()
            ]
            subprocess.run(["systemctl", f"--root={root}", "--quiet", "enable", *units], check=True)
        # The console shows the journal, as it does in NixOS tests.
        journal = root / "etc/systemd/journald.conf.d/console.conf"
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text("[Journal]\nForwardToConsole=yes\nMaxLevelConsole=info\n")
        return root

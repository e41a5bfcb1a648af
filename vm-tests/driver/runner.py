"""Runs tests and prints a table. Each test is a process in namespaces of its own (`session.py`)."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from driver import containers, declaration, qemu, tree
from driver.declaration import NEEDS, Declaration
from driver.session import Options

SCRIPTS = tree.HERE
# In the order in which they are preferred: the quickest first.
BACKENDS = {"containers": containers, "qemu": qemu}
# For each test the first back end that has what it needs.
AUTO = "auto"
# Not a test: what all scripts share.
COMMON = "common"
# How long a session may take to end after its time is over, in seconds: it saves journals.
GRACE = 60
# How the names of control groups begin.
CGROUP = "peernix-vm"


@dataclass
class Outcome:
    """What came of one test with one tree; a line of the table."""

    test: str
    backend: str
    # "ok", "FAILED" or "SKIPPED".
    result: str
    seconds: float
    reason: str = ""


@dataclass
class Job:
    """One test with one tree."""

    test: Declaration
    tree: str
    backend: str

    @property
    def name(self) -> str:
        """As it stands in the table. Most tests run with one tree only."""
        return f"{self.test.name}@{self.tree}" if len(self.test.trees + self.test.smoke) > 1 else self.test.name


def main() -> int:
    """Returns the exit status: 0 if nothing failed, 1 if something did, 64 for a wrong command line."""
    arguments = _arguments()
    try:
        jobs = list(_selected(arguments.names, arguments.backend))
    except declaration.DeclarationError as error:
        print(f"vm-tests: {error}", file=sys.stderr)
        return 64
    if arguments.list:
        print("\n".join(job.name for job in jobs))
        return 0
    arguments.results.mkdir(parents=True, exist_ok=True)
    # For as long as the runner lives.
    lock = (arguments.results / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"vm-tests: another run writes to {arguments.results}; name another folder with --results", file=sys.stderr)
        return 1
    try:
        outcomes = asyncio.run(_run_all(jobs, arguments))
    except tree.PreparationError as error:
        print(f"vm-tests: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    _print_table(outcomes)
    report = arguments.results / "report.json"
    report.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    bad = {"FAILED"} | ({"SKIPPED"} if arguments.require_all else set())
    return 1 if any(outcome.result in bad for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR", tree.REPOSITORY / "target"))
    parser = argparse.ArgumentParser(prog="vm-tests/run", description="Runs the machine tests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="NAME or NAME@TREE; without any: all")
    parser.add_argument(
        "--backend",
        choices=[AUTO, *BACKENDS],
        help="auto: containers, and qemu for what they cannot do (default: the environment's VM, or auto)",
    )
    parser.add_argument("--programs", type=Path, default=target / "debug", help="folder of the programs (target/debug)")
    parser.add_argument("--jobs", "-j", type=int, default=1, help="how many tests in containers run at once (1)")
    parser.add_argument("--verbose", "-v", action="store_true", help="show the logs while the tests run")
    parser.add_argument("--list", action="store_true", help="only name the tests")
    parser.add_argument("--require-all", action="store_true", help="a test that is skipped counts as failed")
    parser.add_argument("--results", type=Path, default=target / "vm-tests", help="where logs go (target/vm-tests)")
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or os.environ.get("VM") or AUTO
    if arguments.backend not in (AUTO, *BACKENDS):
        parser.error(f"VM is '{arguments.backend}'; there are {', '.join([AUTO, *BACKENDS])}")
    arguments.results = arguments.results.resolve()
    return arguments


def _selected(names: list[str], backend: str) -> Iterator[Job]:
    scripts = {script.stem: script for script in sorted(SCRIPTS.glob("*.py")) if script.stem != COMMON}
    for name in names or scripts:
        stem, _, wanted = name.partition("@")
        if stem not in scripts:
            raise declaration.DeclarationError(f"there is no test '{stem}'; there are {', '.join(scripts)}")
        test = declaration.load(scripts[stem])
        known = test.trees + test.smoke
        if wanted and wanted not in known:
            raise declaration.DeclarationError(f"{stem} does not run with the tree '{wanted}', but with {', '.join(known)}")
        for suite in known if wanted else test.trees:
            if wanted in ("", suite):
                yield Job(test, suite, _backend(test) if backend == AUTO else backend)


def _backend(test: Declaration) -> str:
    """The first back end that has all that a test needs; the first of all if none does, which then says what it lacks."""
    able = (name for name, backend in BACKENDS.items() if backend.CAPABILITIES.issuperset(test.needs))
    return next(able, next(iter(BACKENDS)))


async def _run_all(jobs: list[Job], arguments: argparse.Namespace) -> list[Outcome]:
    results: Path = arguments.results
    outcomes = [_obstacle(job) for job in jobs]
    able = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome is None]
    if able:
        _remove_old_cgroups()
        suites = {machine.tree or job.tree for job in able for machine in job.test.machines}
        trees = tree.make_trees(suites)
        tools = tree.make_qemu() if any(BACKENDS[job.backend] is qemu for job in able) else None
        shutil.rmtree(results / "installed", ignore_errors=True)
        installed = tree.install(results / "installed", arguments.programs.resolve(), suites)
    seats = asyncio.Semaphore(arguments.jobs)
    # Whoever needs all seats waits for them alone: two that have some each would wait for ever.
    waiting = asyncio.Lock()

    async def one(job: Job, outcome: Outcome | None) -> Outcome:
        if outcome:
            return outcome
        # Machines that are emulated need the host for themselves: what the service waits for, it waits for no longer than elsewhere.
        wanted = arguments.jobs if BACKENDS[job.backend] is qemu else 1
        async with waiting:
            for _ in range(wanted):
                await seats.acquire()
        try:
            return await _run(job, trees, installed, tools, arguments)
        finally:
            for _ in range(wanted):
                seats.release()

    return await asyncio.gather(*map(one, jobs, outcomes))


def _obstacle(job: Job) -> Outcome | None:
    """What comes of a test that cannot run here with its back end; None if it can."""
    backend = BACKENDS[job.backend]
    lacking = [NEEDS[need] for need in job.test.needs if need not in backend.CAPABILITIES]
    if lacking:
        return Outcome(job.name, job.backend, "SKIPPED", 0.0, f"needs {' and '.join(lacking)}")
    if reason := backend.missing():
        # Not a matter of the back end but of this host: CI says that it has everything.
        result = "FAILED" if os.environ.get("PEERNIX_LAB_REQUIRE") == "all" else "SKIPPED"
        return Outcome(job.name, job.backend, result, 0.0, reason)
    return None


async def _run(
    job: Job, trees: dict[str, Path], installed: dict[str, Path], tools: Path | None, arguments: argparse.Namespace
) -> Outcome:
    backend = BACKENDS[job.backend]
    timeout = job.test.timeout * backend.PATIENCE
    results = arguments.results / job.name
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    print(f"vm-tests: {job.name} …", file=sys.stderr)
    start = time.monotonic()
    with _cgroup(job.name) as cgroup:
        options = Options(
            script=str(job.test.script),
            tree=job.tree,
            trees={suite: str(path) for suite, path in trees.items()},
            installed={suite: str(path) for suite, path in installed.items()},
            results=str(results),
            cgroup=str(cgroup),
            tools=str(tools) if backend is qemu else None,
            timeout=timeout,
            verbose=arguments.verbose,
        )
        # Whoever of the three is killed, all below it end too: the session is the first process of its namespace. (`setpriv`:
        # when the runner is killed.)
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--", sys.executable, "-m", "driver.session", options.to_json()),
            cwd=SCRIPTS,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        reason = ""
        try:
            # The session ends itself in time, and says where it was; this is for one that cannot.
            status = await asyncio.wait_for(process.wait(), timeout + GRACE)
        except asyncio.TimeoutError:
            status, reason = 1, f"took longer than {timeout} s, and did not end when told to"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    seconds = time.monotonic() - start
    if status == 0:
        return Outcome(job.name, job.backend, "ok", round(seconds, 1))
    reason = f"{reason or _last_words(results / 'log')} (see {results})"
    return Outcome(job.name, job.backend, "FAILED", round(seconds, 1), reason)


@contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """A control group for one test, removed with everything below it. The process id tells which runner it belongs to."""
    cgroup = containers.cgroup_root() / f"{CGROUP}-{os.getpid()}-{name}"
    cgroup.mkdir()
    try:
        yield cgroup
    finally:
        # The kernel has killed the processes already, but takes a moment to bury the last of them.
        for _ in range(100):
            _remove_cgroup(cgroup)
            if not cgroup.exists():
                break
            time.sleep(0.05)


def _remove_old_cgroups() -> None:
    """Removes what runners left that were killed; it is all that outlives them."""
    for cgroup in containers.cgroup_root().glob(f"{CGROUP}-*"):
        if not Path(f"/proc/{cgroup.name.removeprefix(f'{CGROUP}-').partition('-')[0]}").exists():
            _remove_cgroup(cgroup)


def _remove_cgroup(cgroup: Path) -> None:
    for path, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            os.rmdir(path)


def _last_words(log: Path) -> str:
    """The line of the log that says why."""
    marks = [line for line in log.read_text(errors="replace").splitlines() if "FAILED: " in line] if log.exists() else []
    return marks[-1].partition("FAILED: ")[2] if marks else "ended without a word"


def _print_table(outcomes: list[Outcome]) -> None:
    width = max([4, *(len(outcome.test) for outcome in outcomes)])
    print(f"{'test':{width}}  {'back end':10}  {'result':7}  seconds")
    for outcome in outcomes:
        line = f"{outcome.test:{width}}  {outcome.backend:10}  {outcome.result:7}  {outcome.seconds:7.1f}"
        print(f"{line}  {outcome.reason}".rstrip())

"""Check of the installation and of the folder of runs: what works, what does not, and what to do about it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.table import Table

from tsc_marl.errors import UserError
from tsc_marl.paths import PRETRAINED, TEMPORARY, home
from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.engine import binary
from tsc_marl.tracking import checkpoint, connection, leftovers

PYTHON = (3, 11)
"""Oldest Python that the program runs on."""
PINNED = ("libsumo", "traci", "sumolib")
"""Packages that must have the version of SUMO."""
OTHERS = ("torch", "mlflow", "sumo-rl")
"""Packages whose versions move results or the store."""
TEMPORARY_BYTES = 100e6
"""Least free space for temporary files [bytes]: the trip files of some episodes."""
WIDTH = 80


@dataclass(frozen=True)
class Check:
    """One finding."""

    what: str
    finding: str
    todo: str = ""
    """What to do; empty where all is well."""
    stops: bool = True
    """Whether the program stops at it, where something is to do."""

    @property
    def state(self) -> str:
        return "ok" if not self.todo else "problem" if self.stops else "note"


def checks() -> list[Check]:
    """Return all findings, in the order of the table."""
    return [
        check
        for part in (_python, _sumo, _packages, _disks, _store, _display, _leftovers, _networks, _policy)
        for check in part()
    ]


def table(found: list[Check]) -> Table:
    """Return the findings as a table that fits 80 columns."""
    shown = Table(title="check of the installation", title_justify="left", width=WIDTH)
    shown.add_column("check", no_wrap=True)
    shown.add_column("state", no_wrap=True)
    shown.add_column("finding; what to do", overflow="fold")
    for check in found:
        shown.add_row(check.what, check.state, f"{check.finding}; {check.todo}" if check.todo else check.finding)
    return shown


def _python() -> Iterator[Check]:
    oldest = ".".join(map(str, PYTHON))
    finding = f"{platform.python_version()} ({sys.executable})"
    yield Check("Python", finding, "" if sys.version_info >= PYTHON else f"install {oldest} or newer: make install PYTHON=…")


def _sumo() -> Iterator[Check]:
    versions = {name: _version(name) for name in ("eclipse-sumo", *PINNED)}
    pinned = next(iter(_needed("eclipse-sumo").specifier)).version
    wrong = [f"{name} {own}" for name, own in versions.items() if own != pinned]
    todo = f"{', '.join(wrong)} instead of {pinned}: make install" if wrong else ""
    yield Check("SUMO packages", f"{', '.join(versions)} {'are' if not wrong else 'are not all'} {pinned}", todo)
    try:
        done = subprocess.run([binary("sumo"), "--version"], capture_output=True, text=True, check=False, timeout=60)
        printed = re.search(r"sumo (\d[\w.]*)", done.stdout, re.IGNORECASE)
        finding = printed[1] if printed else " ".join((done.stdout + done.stderr).split())[:200]
        todo = "" if finding == pinned else f"expected {pinned}: make install"
    except (OSError, subprocess.TimeoutExpired, UserError) as error:
        finding, todo = str(error), "make install"
    yield Check("SUMO program", finding, todo)


def _packages() -> Iterator[Check]:
    for name in OTHERS:
        own, needed = _version(name), _needed(name)
        fits = own is not None and needed.specifier.contains(own.partition("+")[0], prereleases=True)
        yield Check(name, own or "not installed", "" if fits else f"expected {needed}: make install")


def _disks() -> Iterator[Check]:
    places = ("folder of runs", home(), connection.FREE_BYTES), ("temporary files", Path(tempfile.gettempdir()), TEMPORARY_BYTES)
    for what, folder, least in places:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        finding = f"{folder}, {free / 1e9:.1f} GB free"
        if not (there.is_dir() and os.access(there, os.W_OK)):
            yield Check(what, finding, f"it cannot be written: set {'TSC_MARL_HOME' if folder == home() else 'TMPDIR'}")
        else:
            yield Check(what, finding, "" if free >= least else f"free some space: {least / 1e6:.0f} MB are needed")


def _store() -> Iterator[Check]:
    file = connection.sqlite_file()
    if file is not None and not file.exists():
        yield Check("tracking store", f"none yet; the first training makes {connection.uri()}")
        return
    try:
        client = connection.PatientClient(connection.connect(writes=False))
        if file is not None:
            connection.wait_for_lock(file, writes=True)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        leftovers.end_dead_runs(client)
        runs = _count(client, experiments, ""), _count(client, experiments, "attributes.status = 'RUNNING'")
    except UserError as error:
        cause, _, todo = str(error).rpartition("; ")
        yield Check("tracking store", cause or todo, todo)
        return
    finding = f"{connection.uri()}, schema of MLflow {version('mlflow')}, {runs[0]} runs, {runs[1]} of them running"
    yield Check("tracking store", finding)


def _count(client: Any, experiments: list[str], where: str) -> int:
    number, token = 0, None
    while True:
        page = client.search_runs(experiments, where, page_token=token)
        number, token = number + len(page), page.token
        if not token:
            return number


def _display() -> Iterator[Check]:
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    yield Check("display", display or "none", "" if display else "only watch needs one, for sumo-gui", stops=False)


def _leftovers() -> Iterator[Check]:
    old = [path for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*") if "-" not in path.name]
    finding = f"{len(old)} temporary folders of an earlier version: {old[0]}, …" if old else "none"
    yield Check("leftovers", finding, "remove them when no training of it is running" if old else "", stops=False)


def _networks() -> Iterator[Check]:
    names, wrong = scenario.available(), list[str]()
    for name in names:
        try:
            road_network.of(scenario.load(name))
        except UserError as error:
            wrong.append(str(error))
    yield Check("networks", f"{len(names) - len(wrong)} of {len(names)} can be read", "; ".join(wrong))


def _policy() -> Iterator[Check]:
    try:
        saved = checkpoint.load(PRETRAINED)
        saved.policy(saved.network).check_version()
        yield Check("pretrained", f"{saved.origin}, drives any network: make evaluate POLICY=pretrained")
    except UserError as error:
        yield Check("pretrained", str(error), "make install")


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _needed(name: str) -> Requirement:
    """Return what this package requires of another one."""
    needed = map(Requirement, requires("tsc_marl") or ())
    return next((entry for entry in needed if entry.name == name), Requirement(name))

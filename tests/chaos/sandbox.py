"""A home of its own for one trial, and the processes that run in it."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_S = 240
"""No command of the campaign may take longer."""


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    words: tuple[str, ...]

    @property
    def forks(self) -> bool:
        return any("multiprocessing.forkserver" in word for word in self.words)


class Command:
    """A running command line; its output is in files."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self.words = words
        self.out, self.err = log.with_suffix(".out"), log.with_suffix(".err")
        self.begun = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tsc_marl", *words],
                cwd=log.parent, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def text(self) -> str:
        return self.out.read_text(encoding="utf-8", errors="replace") + self.err.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float = LONGEST_S) -> int | None:
        """Return the exit code, None when it still runs."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def wait_until(self, condition: Callable[[], object], seconds: float = LONGEST_S) -> bool:
        """Return whether a condition came true before the command ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False


class Sandbox:
    """Folder of one trial, with a home (`TSC_MARL_HOME`) and a folder of temporary files; the home may lie elsewhere."""

    def __init__(self, folder: Path, template: Path | None = None, home: Path | None = None) -> None:
        self.folder, self.home, self.temporary = folder, home or folder / "home", folder / "tmp"
        folder.mkdir(parents=True)
        self.temporary.mkdir()
        if template is None:
            self.home.mkdir()
        else:
            shutil.copytree(template, self.home)
            self._move_store(template)
        self.commands: list[Command] = []
        self.environment: dict[str, str] = {}

    def _move_store(self, before: Path) -> None:
        """Let the copied store name artifacts in this home."""
        if (self.home / "mlflow.db").is_file():
            with contextlib.closing(sqlite3.connect(self.home / "mlflow.db")) as store, store:
                for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
                    store.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(before), str(self.home)))

    def start(self, words: list[str]) -> Command:
        own = {"TSC_MARL_HOME": str(self.home), "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        self.commands.append(
            Command(words, inherited | path | own | self.environment, self.folder / f"command{len(self.commands)}")
        )
        return self.commands[-1]

    def run(self, words: list[str], seconds: float = LONGEST_S) -> tuple[int | None, str]:
        """Run a command to its end; return its exit code, None for one that does not end, and its output."""
        command = self.start(words)
        code = command.wait(seconds)
        if code is None:
            self.end_processes()
        return code, command.text()

    def processes(self) -> list[Process]:
        """Return the processes of this home, from /proc."""
        mark, found = f"TSC_MARL_HOME={self.home}\0".encode(), []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if mark not in (path / "environ").read_bytes() + b"\0":
                    continue
                stat = (path / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has just ended
                continue
            if stat[0] != "Z":
                found.append(Process(int(path.name), int(stat[1]), tuple(words)))
        return found

    def of_kind(self, kind: str, command: Command) -> list[int]:
        """Return the processes of a kind: main, forkserver, worker, child (a training that study started), server."""
        if kind == "main":
            return [command.process.pid] if command.process.poll() is None else []
        every = self.processes()
        servers = {p.pid for p in every if p.forks and not any(q.forks for q in every if q.pid == p.parent)}
        chosen = {
            "forkserver": lambda p: p.pid in servers,
            "worker": lambda p: p.parent in servers,
            "child": lambda p: p.parent == command.process.pid and "--resume" in p.words,
            "server": lambda p: p.pid != command.process.pid and "mlflow" in p.words,
        }[kind]
        return sorted(p.pid for p in every if chosen(p))

    def all_ended(self, seconds: float = 15) -> bool:
        end = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def end_processes(self) -> None:
        """Kill what still runs in this home, by process id."""
        for process in self.processes():
            send(process.pid, signal.SIGKILL)
        for command in self.commands:
            command.wait(5)

    def left_behind(self) -> Iterator[str]:
        """Yield what a command that has ended must not leave."""
        if not self.all_ended():
            names = sorted({" ".join(p.words)[:80] for p in self.processes()})
            yield f"processes are left: {'; '.join(names)}"
            self.end_processes()
        every = sorted(path.name for path in self.temporary.iterdir())
        if names := [name for name in every if not name.startswith("torchinductor_")]:  # torch's cache, one a user
            kinds = sorted({name.rstrip("0123456789abcdefghijklmnopqrstuvwxyz_")[:12] or name[:9] for name in names})
            yield f"{len(names)} temporary files are left: {', '.join(kinds)}"
        if number := self.running():
            yield f"{number} runs stay RUNNING in the store"

    def running(self) -> int:
        """Return the number of runs in the store that are RUNNING."""
        return len(self.query("select 1 from runs where status = 'RUNNING' and lifecycle_stage = 'active'"))

    def query(self, sql: str) -> list[tuple]:
        path = self.home / "mlflow.db"
        if not path.is_file():
            return []
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as store:
                return store.execute(sql).fetchall()
        except sqlite3.Error:  # not a store, or one without tables yet
            return []

    def close(self, keep: bool) -> None:
        self.end_processes()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def clear(folder: Path) -> None:
    """End the processes of all sandboxes in a folder, by process id, and unmount its disks."""
    mark = f"TSC_MARL_HOME={folder}/".encode()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(path.name) != os.getpid() and mark in (path / "environ").read_bytes():
                send(int(path.name), signal.SIGKILL)
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def problems(text: str, code: int | None) -> Iterator[str]:
    """Yield what is wrong with the output and exit code of a command that was not killed."""
    if code is None:
        yield "it does not end"
    elif code not in (0, 2, 130, 141):
        yield f"exit code {code}"
    _, found, after = text.partition("Traceback (most recent call last):\n")
    if found:
        reason = next((line for line in after.splitlines() if not line.startswith(" ")), "cut short")
        yield f"a traceback: {reason[:120]}"
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code == 2 and len(errors) != 1:
        yield f"exit code 2 with {len(errors)} error lines"

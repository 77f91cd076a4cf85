"""Many trainings: networks x algorithms x seeds, side by side, each its own process; what is finished is not done again."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tsc_marl import console
from tsc_marl.config import as_dict, parse
from tsc_marl.errors import UserError
from tsc_marl.paths import home
from tsc_marl.sim.scenario import reference
from tsc_marl.tracking.store import EVALUATION, FINISHED, uri
from tsc_marl.training.loop import COMMAND, MEASURED, prepare, run_lock

LOG = "log.txt"
STOP_S = 60
"""A training that is told to stop may take so long to save its checkpoint."""


@dataclass(frozen=True)
class Trial:
    """One training of the study."""

    net: str
    algorithm: str
    seed: int
    line: tuple[str, ...]
    """Command line of `train`."""
    episodes: int
    digest: str
    """Of all settings."""

    @property
    def name(self) -> str:
        return f"{self.algorithm} s{self.seed} on {self.net}"

    @property
    def folder(self) -> Path:
        """Where it lies: the name says what it is, and tells other settings apart."""
        return home() / "runs" / f"study-{self.net}-{self.algorithm}-s{self.seed}-{self.digest}"

    @property
    def finished(self) -> bool:
        return (self.folder / FINISHED).exists()

    @property
    def is_locked(self) -> bool:
        """Whether another process is training it."""
        if not self.folder.exists():
            return False
        try:
            with run_lock(self.folder):
                return False
        except UserError:
            return True

    def episodes_done(self) -> int:
        """Return how many training episodes its log tells of."""
        if self.finished:
            return self.episodes
        log = self.folder / LOG
        told = re.findall(r"episode +(\d+)/", log.read_text()) if log.exists() else []
        return int(told[-1]) if told else 0

    def start(self, workers: int, like: "Trial | None") -> "subprocess.Popen[bytes]":
        """Start it, or go on where it was; the classical controllers that `like` has measured are not measured again."""
        if self.folder.exists() and not (self.folder / COMMAND).exists():  # in this order: `prepare` makes both at once
            shutil.rmtree(self.folder)
        if not self.folder.exists():
            with contextlib.suppress(FileExistsError):  # another study was quicker
                prepare(self.folder, list(self.line))
        if like is not None:
            shutil.copy(like.folder / EVALUATION, self.folder / MEASURED)
        command = [sys.executable, "-m", "tsc_marl", "train", "--resume", self.folder.name, "--workers", str(workers)]
        with (self.folder / LOG).open("ab") as log:  # a session of its own: Ctrl-C reaches it through us
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def trials(nets: Sequence[str], algorithms: Sequence[str], seeds: Sequence[int], options: Sequence[str]) -> list[Trial]:
    """Return the trainings, all algorithms of a seed before the next seed; `options` are `train`'s.

    Raises:
        UserError: when one of them cannot be trained so, before any has started.
    """
    found = []
    for seed in seeds:
        for net in nets:
            for algorithm in algorithms:
                line = ("--net", reference(net), "--algos", algorithm, "--seeds", str(seed), *options)
                config = parse(list(line))[0]
                settings = as_dict(replace(config, workers=1))  # how many simulate changes nothing
                digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]
                found.append(Trial(config.net, algorithm, seed, line, config.episodes, digest))
    return found


def run(study: Sequence[Trial], jobs: int) -> None:
    """Train what is not finished, `jobs` at a time, and show how far it is; what another study is at is left to that one.

    Raises:
        UserError: at the end, when some failed, with the reason of each; the others are trained all the same.
        KeyboardInterrupt: after those that run have saved their checkpoints.
    """
    waiting = [cell for cell in study if not cell.finished]
    console.say(
        f"{len(study)} trainings, {len(study) - len(waiting)} of them finished already; logs: {home()}/runs/study-*/{LOG}"
    )
    running: dict[Trial, subprocess.Popen[bytes]] = {}
    ended: dict[str, Trial] = {}
    failed: list[str] = []
    progress = _Progress(study)
    try:
        while waiting or running:
            for cell in list(islice((cell for cell in waiting if not cell.is_locked), jobs - len(running))):
                workers = max(1, (os.cpu_count() or 1) // min(jobs, len(waiting) + len(running)))
                waiting.remove(cell)
                if not cell.finished:
                    running[cell] = cell.start(workers, ended.get(cell.net))
            time.sleep(1)
            for cell in [cell for cell, process in running.items() if process.poll() is not None]:
                code = running.pop(cell).returncode
                if code and cell.is_locked:  # another study was quicker to begin it
                    waiting.append(cell)
                elif code or not cell.finished:
                    failed.append(f"{cell.name}: {_reason(cell, code)}")
                    console.say(f"failed: {failed[-1]}")
                else:
                    ended[cell.net] = cell  # now, with this program: not one of an earlier day
                    console.say(f"finished: {cell.name}")
            progress.show(list(running))
    except BaseException as error:
        _stop(running.values())
        if isinstance(error, KeyboardInterrupt):
            console.say("stopped, checkpoints are saved; the same command goes on")
        raise
    if failed:
        raise UserError(f"{len(failed)} of {len(study)} trainings failed: {'; '.join(failed)}; the same command tries them again")


def _stop(processes: "Collection[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            console.say(f"a training still saves its checkpoint after {STOP_S} s and is left alone (process {process.pid})")


def _reason(cell: Trial, code: int) -> str:
    if not code:
        return f"its results did not reach {uri()}"
    lines = (cell.folder / LOG).read_text().strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


class _Progress:
    """How many episodes of all are played, and how long the rest takes; a line, rewritten in a terminal."""

    EVERY_S = 60.0

    def __init__(self, study: Sequence[Trial]) -> None:
        self._study, self._live = study, sys.stdout.isatty()
        self._total = sum(cell.episodes for cell in study)
        self._first, self._start, self._said = self._played(), time.monotonic(), time.monotonic()

    def _played(self) -> int:
        return sum(cell.episodes_done() for cell in self._study)

    def show(self, running: Sequence[Trial]) -> None:
        if not self._live and time.monotonic() - self._said < self.EVERY_S:
            return
        self._said, played = time.monotonic(), self._played()
        left_s = (time.monotonic() - self._start) / max(1, played - self._first) * (self._total - played)
        to_go = f"{left_s / 3600:.1f} h" if played > self._first else "?"
        now = ", ".join(f"{cell.name} {cell.episodes_done()}/{cell.episodes}" for cell in running)
        line = f"{played}/{self._total} episodes, to go {to_go}; now: {now}"
        print(f"\r\x1b[2K{line}" if self._live else line, end="" if self._live else "\n", flush=True)

"""Study: trainings of networks x algorithms x seeds side by side, each in a process; finished ones are not repeated."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from tsc_marl import console
from tsc_marl.config import ExperimentConfig, parse
from tsc_marl.errors import UserError, try_each
from tsc_marl.paths import file_name
from tsc_marl.rollout import interrupts
from tsc_marl.rollout.cluster.connection import connected
from tsc_marl.rollout.task import check_task
from tsc_marl.sim import fingerprint
from tsc_marl.sim.scenario import plain_names, reference
from tsc_marl.tracking.connection import uri
from tsc_marl.tracking.run_folder import RunFolder, runs
from tsc_marl.training.loop import prepare, run_lock

logger = logging.getLogger(__name__)

LATER = {"timing.priority": "none", "plots": False}
"""Settings that trainings of before this program knew them do not have, by the value that is as before."""
STOP_S = 60
"""Longest time [s] for stopped trainings to save their checkpoints; then they are killed."""


@dataclass(frozen=True)
class Trial:
    """One training of the study."""

    net: str
    algorithm: str
    seed: int
    line: tuple[str, ...]
    """Command line of `train`."""
    config: ExperimentConfig = field(compare=False)
    digest: str
    """Digest of all settings, and of the network's files."""

    @property
    def name(self) -> str:
        return f"{self.algorithm} s{self.seed} on {self.net}"

    @property
    def folder(self) -> RunFolder:
        """The folder of the training, named by network, algorithm, seed and digest."""
        return RunFolder.named(file_name(f"study-{self.net}-{self.algorithm}-s{self.seed}-{self.digest}"))

    @property
    def finished(self) -> bool:
        return self.folder.finished.exists()

    @property
    def is_locked(self) -> bool:
        """Whether another process is training it."""
        if not self.folder.path.exists():
            return False
        try:
            with run_lock(self.folder):
                return False
        except UserError:
            return True

    def episodes_done(self) -> int:
        """Return the number of training episodes in its log."""
        if self.finished:
            return self.config.all_episodes
        log = self.folder.log
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        logged = re.findall(r"^(?!evaluation ).*episode +(\d+)/", text, re.MULTILINE)
        return int(logged[-1]) if logged else 0

    def start(self, workers: int, like: "Trial | None") -> "subprocess.Popen[bytes]":
        """Start or continue it, with the results of the classical controllers that another trial has measured."""
        folder = self.folder
        if folder.path.exists() and not folder.command.exists():  # in this order: `prepare` makes both at once
            shutil.rmtree(folder.path)
        if not folder.path.exists():
            with contextlib.suppress(FileExistsError):  # another study was quicker
                prepare(folder, self.line, self.config)
        if like is not None:
            shutil.copy(like.folder.evaluation, folder.measured)
        command = [sys.executable, "-m", "tsc_marl", "train", "--resume", folder.name]
        cluster = self.config.cluster  # all trainings share its slots
        command += ["--cluster", cluster] if cluster else ["--workers", str(workers)]
        with folder.log.open("ab") as log:  # a session of its own: Ctrl-C reaches it through us
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def trials(nets: Sequence[str], algorithms: Sequence[str], seeds: Sequence[int], options: Sequence[str]) -> list[Trial]:
    """Return the trainings, all algorithms of a seed before the next seed; `options` are `train`'s.

    Raises:
        UserError: when a network or a setting of some of them, or the cluster, cannot be used, with all reasons: a study takes
            hours, so none starts before all could.
    """
    cells = [(net, algorithm, seed) for seed in seeds for net in nets for algorithm in algorithms]
    study, refused = try_each(cells, lambda cell: _trial(*cell, options))
    if refused:
        raise UserError("; ".join(dict.fromkeys(map(str, refused.values()))))
    for cluster in {trial.config.cluster for trial in study.values() if trial.config.cluster}:
        with connected(cluster):
            pass  # each training connects itself
    return list(study.values())


def _trial(net: str, algorithm: str, seed: int, options: Sequence[str]) -> Trial:
    line = ("--network", *map(reference, plain_names(net)), "--algos", algorithm, "--seeds", str(seed), *options)
    config = parse(line)
    tasks = config.tasks()
    for task in tasks:
        check_task(task)
    files = fingerprint.tags(*(task.scenario for task in tasks))
    settings = replace(config, workers=1).runs[0].as_dict() | files  # workers change nothing
    earlier = {name: value for name, value in settings.items() if name not in LATER or value != LATER[name]}
    named = [Trial(config.network_name, algorithm, seed, line, config, _digest(one)) for one in (settings, earlier)]
    return next((trial for trial in named if trial.folder.path.exists()), named[0])


def _digest(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]


def run(study: Sequence[Trial], jobs: int) -> None:
    """Train the unfinished trials, `jobs` at a time, and show the progress. Trials of another running study are left out.

    Raises:
        UserError: at the end, when some failed, with the reason of each, after the others were trained.
        KeyboardInterrupt: on Ctrl-C, after the running trials have saved their checkpoints.
    """
    waiting = [trial for trial in study if not trial.finished]
    logs = runs() / "study-*" / "log.txt"
    logger.info(f"{len(study)} trainings, {len(study) - len(waiting)} of them finished already; logs: {logs}")
    running: dict[Trial, subprocess.Popen[bytes]] = {}
    ended: dict[str, Trial] = {}
    failed: list[str] = []
    try:
        total, done = sum(trial.config.all_episodes for trial in study), sum(trial.episodes_done() for trial in study)
        with console.progress("study", total, done) as shown:
            while waiting or running:
                interrupts.check()
                for trial in list(islice((trial for trial in waiting if not trial.is_locked), jobs - len(running))):
                    workers = max(1, (os.cpu_count() or 1) // min(jobs, len(waiting) + len(running)))
                    waiting.remove(trial)
                    if not trial.finished:
                        with interrupts.deferred():  # else a training could start that nobody ends
                            running[trial] = trial.start(workers, ended.get(trial.net))
                time.sleep(1)
                for trial in [trial for trial, process in running.items() if process.poll() is not None]:
                    code = running.pop(trial).returncode
                    if code and trial.is_locked:  # another study was quicker to begin it
                        waiting.append(trial)
                    elif code or not trial.finished:
                        failed.append(f"{trial.name}: {_reason(trial, code)}")
                        logger.warning(f"failed: {failed[-1]}")
                    else:
                        ended[trial.net] = trial  # now, with this program: not one of an earlier day
                        logger.info(f"finished: {trial.name}")
                shown.update(sum(trial.episodes_done() for trial in study), ", ".join(trial.name for trial in running))
    except BaseException as error:
        _stop(running.values())
        if isinstance(error, KeyboardInterrupt):
            logger.warning("stopped, checkpoints are saved; the same command goes on")
        raise
    if failed:
        raise UserError(f"{len(failed)} of {len(study)} trainings failed: {'; '.join(failed)}; the same command tries them again")


def _stop(processes: "Collection[subprocess.Popen[bytes]]") -> None:
    """End trainings; kill those, with their simulations, that have not ended after `STOP_S`."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP_S
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning(f"a training has not ended {STOP_S} s after its stop and is killed; its last checkpoint stays")
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
            process.wait()


def _reason(trial: Trial, code: int) -> str:
    if not code:
        return f"its results did not reach {uri()}"
    lines = trial.folder.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"

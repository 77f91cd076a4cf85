"""A disk that fills up at every stage; with space again, the same work comes to the same result."""

import contextlib
import functools
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import trainings
from tests.chaos.campaign import Lazily, Row, Settings, run_side_by_side
from tests.chaos.sandbox import Command, Sandbox, problems
from tests.chaos.trainings import ALGORITHMS, NET, Reference

SIZE_BYTES = 700 * 2**20
"""More than the least free space that a run asks for."""
STAGES = ("start", "created", "checkpoint", "evaluation")
"""Of a training: before it, with its folder, with its first checkpoint, and when only the final evaluation is missing."""
VERBS = ("export", "import", "report")


@dataclass(frozen=True)
class SmallDisk:
    """A disk of its own, in memory, where the system lets us mount one; else files may not grow (`RLIMIT_FSIZE`)."""

    folder: Path
    mounted: bool

    def fill(self, sandbox: Sandbox, left_bytes: int) -> None:
        """Leave this many bytes."""
        if self.mounted:
            with (self.folder / "ballast").open("wb") as file:
                for _ in range(50):
                    free = shutil.disk_usage(self.folder).free
                    with contextlib.suppress(OSError):  # the command has just taken more
                        os.posix_fallocate(file.fileno(), 0, max(1, free - left_bytes))
                        return
            raise RuntimeError(f"{self.folder} could not be filled")
        for process in sandbox.processes():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (left_bytes, left_bytes))

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount a small disk, where that is allowed."""
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def run(settings: Settings, references: Lazily[Reference]) -> Row:
    """Fill the disk of homes and of temporary files."""
    choices, reference = settings.choices("disk"), (ALGORITHMS[0], references[ALGORITHMS[0]])
    with small_disk(settings.folder / "tried") as disk:
        stages, verbs = (STAGES, VERBS) if disk.mounted else (STAGES[1:], ())  # a limit needs a process
    cases: list[Callable[[int, int], tuple[int, list[str]]]] = []
    for where in ("home", "temporary"):
        cases += [functools.partial(_training, settings, reference, stage, where) for stage in stages]
        cases += [functools.partial(_verb, settings, reference[1], verb, where) for verb in verbs]
    trials = [functools.partial(case, number, choices.choice((0, 4096, 60_000, 2**20))) for number, case in enumerate(cases)]
    chosen = trials[: settings.count(len(trials))]
    return run_side_by_side(Row("full disk", len(chosen)), chosen, settings)


def _training(
    settings: Settings, reference: tuple[str, Reference], stage: str, where: str, number: int, left_bytes: int
) -> tuple[int, list[str]]:
    algorithm, expected = reference
    with small_disk(settings.folder / f"d{number}") as disk:
        sandbox, losses = _sandbox(settings, disk, number, where, None), []
        try:
            if stage == "start":
                disk.fill(sandbox, left_bytes)
            command = sandbox.start(trainings.train_line(algorithm))
            reached = stage == "start" or command.wait_until(lambda: reached_stage(sandbox, command, stage))
            if reached:
                disk.fill(sandbox, left_bytes)
            code = command.wait()
            losses += [f"with a full disk: {problem}" for problem in problems(command.text(), code)]
            if code == 0 and where == "home":
                losses += [
                    f"exit code 0 with {loss}" for loss in trainings.differences(sandbox.home, algorithm, expected.outcome)
                ]
            sandbox.end_processes()
            disk.free()
            code, text = sandbox.run(trainings.continue_line(sandbox.home, algorithm))
            losses += [f"with space again: {problem}" for problem in problems(text, code)]
            losses += trainings.differences(sandbox.home, algorithm, expected.outcome)
            losses += sandbox.left_behind()
        finally:
            sandbox.close(keep=bool(losses) and not disk.mounted)
    return int(reached), [f"{where} full at {stage}: {loss}" for loss in dict.fromkeys(losses)]


def reached_stage(sandbox: Sandbox, command: Command, stage: str) -> bool:
    """Return whether a training has come to a stage."""
    folder = trainings.run_folder(sandbox.home)
    if stage == "created" or folder is None:
        return folder is not None
    if stage == "checkpoint":
        return any(folder.glob("*/checkpoint.*"))
    return "4/4" in command.text()


def _verb(settings: Settings, reference: Reference, verb: str, where: str, number: int, left_bytes: int) -> tuple[int, list[str]]:
    line = {"export": ["export", "--out", "out"], "report": ["report", *NET, "--out", "out/report.html"]}
    line["import"] = ["import", "--folder", str(settings.exported)]
    with small_disk(settings.folder / f"d{number}") as disk:
        sandbox, losses = _sandbox(settings, disk, number, where, None if verb == "import" else reference.home), []
        try:
            disk.fill(sandbox, left_bytes)
            code, text = sandbox.run(line[verb])
            losses += [f"with a full disk: {problem}" for problem in problems(text, code)]
            disk.free()
            code, text = sandbox.run(line[verb])
            losses += [f"with space again: {problem}" for problem in problems(text, code)]
            if code != 0:
                losses.append(f"with space again: exit code {code}")
            losses += sandbox.left_behind()
        finally:
            sandbox.close(keep=bool(losses) and not disk.mounted)
    return 1, [f"{where} full for {verb}: {loss}" for loss in dict.fromkeys(losses)]


def _sandbox(settings: Settings, disk: SmallDisk, number: int, where: str, template: Path | None) -> Sandbox:
    """Return a sandbox whose home, or folder of temporary files, lies on the disk."""
    home = disk.folder / "home" if where == "home" else None
    sandbox = Sandbox(settings.folder / f"d{number}box", template, home)
    if where == "temporary":
        sandbox.temporary = disk.folder
    return sandbox

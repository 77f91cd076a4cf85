"""A tracking store that is lost at every stage: the training goes on or says one line, and its results in runs/ are whole."""

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.chaos import trainings
from tests.chaos.campaign import Lazily, Row, Settings, run_side_by_side
from tests.chaos.disk import STAGES, reached_stage
from tests.chaos.sandbox import Sandbox, problems
from tests.chaos.trainings import Reference

LOCKED_S = 90
"""Longest time in which a command must end, or go on, while another program holds the store."""

Undo = Callable[[], None]


def _delete(path: Path) -> Undo:
    path.unlink(missing_ok=True)
    return lambda: None


def _lock(path: Path) -> Undo:
    store = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with contextlib.suppress(sqlite3.OperationalError):  # the training writes at this moment
        store.execute("pragma busy_timeout = 20000")
        store.execute("begin exclusive")
    return store.close


def _replace_by_folder(path: Path) -> Undo:
    path.unlink(missing_ok=True)
    path.mkdir()
    return path.rmdir


def _truncate(path: Path) -> Undo:
    with path.open("r+b") as file:
        file.truncate(5000)
    return path.unlink


def _overwrite(path: Path) -> Undo:
    path.write_bytes(b"this is no store\n" * 1000)
    return path.unlink


def _make_read_only(path: Path) -> Undo:
    """As root, who may write everything, the folder of artifacts is replaced by a file instead."""
    artifacts = path.with_name("mlartifacts")
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.write_bytes(b"")
    path.chmod(0o444)

    def undo() -> None:
        artifacts.unlink()
        path.chmod(0o644)

    return undo


FAULTS = {
    "deleted": _delete, "locked": _lock, "replaced by a folder": _replace_by_folder, "truncated": _truncate,
    "overwritten": _overwrite, "read-only": _make_read_only,
}  # fmt: skip


def run(settings: Settings, references: Lazily[Reference]) -> Row:
    """Lose the store at each stage in each way."""
    choices = settings.choices("store")
    cases = [(fault, stage, choices.choice(trainings.ALGORITHMS)) for fault in FAULTS for stage in STAGES]
    choices.shuffle(cases)
    cases = cases[: settings.count(len(cases))]
    trials = [functools.partial(_trial, settings, number, *case, references) for number, case in enumerate(cases)]
    return run_side_by_side(Row("lost store", len(trials)), trials, settings)


def _trial(
    settings: Settings, number: int, fault: str, stage: str, algorithm: str, references: Lazily[Reference]
) -> tuple[int, list[str]]:
    sandbox, losses = Sandbox(settings.folder / f"s{number}"), []
    expected, store = references[algorithm], sandbox.home / "mlflow.db"
    undo: Undo | None = None
    try:
        if stage == "start":
            shutil.copy(expected.home / "mlflow.db", store)
            undo = FAULTS[fault](store)
        command = sandbox.start(trainings.train_line(algorithm))
        if stage != "start" and command.wait_until(lambda: reached_stage(sandbox, command, stage)):
            undo = FAULTS[fault](store)
        code = command.wait(expected.seconds * settings.lanes + LOCKED_S)
        losses += problems(command.text(), code)
        if code == 0:
            losses += trainings.differences(sandbox.home, algorithm, expected.outcome)
        sandbox.end_processes()
        if undo is not None:
            undo()
        code, text = sandbox.run(trainings.continue_line(sandbox.home, algorithm))
        losses += [f"with a store again: {problem}" for problem in problems(text, code)]
        losses += [f"with a store again: {loss}" for loss in trainings.differences(sandbox.home, algorithm, expected.outcome)]
        losses += sandbox.left_behind()
    finally:
        sandbox.close(keep=bool(losses))
    return int(undo is not None), [f"store {fault} at {stage}: {loss}" for loss in dict.fromkeys(losses)]

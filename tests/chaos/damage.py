"""Damaged files: each is refused by one line, or loads exactly the same values."""

import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Row, Settings
from tests.chaos.forked import Answer, run_forked
from tests.chaos.sandbox import Sandbox, problems
from tests.chaos.trainings import NET, Reference, run_folder, same, training
from tsc_marl import deploy
from tsc_marl.cli.main import main
from tsc_marl.errors import UserError
from tsc_marl.evaluation import evaluate
from tsc_marl.report import archive_file
from tsc_marl.tracking import checkpoint, curves
from tsc_marl.tracking.run_folder import CHECKPOINT, RunFolder
from tsc_marl.tracking.stored_runs import StoredRuns
from tsc_marl.training import loop
from tsc_marl.training import settings as run_settings

DAMAGES = 1000
COMMANDS = 24
"""Damages that a whole command line meets."""
LIMIT_S = 30
SAME, REFUSED, OTHER, MANY_LINES = 0, 2, 3, 4


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    path: Path
    load: Callable[[], Any]
    line: tuple[str, ...] = ()
    """A command that reads it."""


def run(shared: Settings, reference: Reference, algorithm: str) -> Row:
    """Damage files of a finished training in forked children, a copy of the home for each lane of them."""
    sandbox = Sandbox(shared.folder / "damage", reference.home)
    shutil.copytree(shared.exported, sandbox.folder / "out")
    os.environ["TSC_MARL_HOME"] = str(sandbox.home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    kinds = _kinds(sandbox, algorithm)
    choices, row = shared.choices("damage"), Row("damage", shared.count(DAMAGES) + shared.count(COMMANDS))
    plan = [(choices.choice(kinds), choices.random(), False) for _ in range(shared.count(DAMAGES))]
    with_line = [kind for kind in kinds if kind.line]
    plan += [(with_line[i % len(with_line)], choices.random(), True) for i in range(shared.count(COMMANDS))]
    tasks = (
        (number, functools.partial(_trial, *part, sandbox.folder))
        for number, part in enumerate(plan)
        if shared.takes(number) and time.monotonic() < shared.deadline
    )
    for answer in run_forked(tasks, sandbox.folder / "children", LIMIT_S, lanes=1):  # they damage the same files
        kind, _, by_line = plan[answer.number]
        how = f"{kind.name}{' by ' + kind.line[0] if by_line else ''}"
        row.add(answer.number, 1, [f"{how}: {loss}" for loss in _losses(answer, by_line)])
    sandbox.close(keep=bool(row.losses))
    return row


def _trial(kind: Kind, seed: float, by_line: bool, folder: Path) -> int:
    """Damage the file, load it, and mend it again."""
    os.chdir(folder)
    choices, whole = random.Random(seed), kind.path.read_bytes()
    expected = None if by_line else kind.load()
    damaged = _damaged(whole, choices)
    try:
        kind.path.write_bytes(damaged)
        if by_line:
            return main(list(kind.line))
        try:
            return SAME if same(kind.load(), expected) else OTHER
        except UserError as error:
            return REFUSED if str(error).count("\n") == 0 else MANY_LINES
    finally:
        kind.path.write_bytes(whole)


def _damaged(whole: bytes, choices: random.Random) -> bytes:
    """Return the content with one bit flipped, a block overwritten, or cut short."""
    content, at, how = bytearray(whole), choices.randrange(len(whole)), choices.random()
    if how < 0.7:
        content[at] ^= 1 << choices.randrange(8)
    elif how < 0.95:
        length = min(choices.choice((1, 16, 512, 4096)), len(whole) - at)
        content[at : at + length] = choices.choice((bytes(length), choices.randbytes(length)))
    else:
        del content[at:]
    return bytes(content)


def _losses(answer: Answer, by_line: bool) -> Iterator[str]:
    if by_line:
        yield from problems(answer.out + answer.err, answer.code)
    elif answer.code == OTHER:
        yield "other values load"
    elif answer.code == MANY_LINES:
        yield "refused by several lines"
    elif answer.code not in (SAME, REFUSED):
        last = (answer.err.strip().splitlines() or [""])[-1]
        yield f"{last.partition(':')[0] or 'exit'} instead of a refusal" if answer.code == 1 else f"exit code {answer.code}"


def _kinds(sandbox: Sandbox, algorithm: str) -> list[Kind]:
    """Return every kind of file that the program reads back, and how it reads it."""
    path = run_folder(sandbox.home)
    assert path is not None
    folder, own = RunFolder(path), training(sandbox.home, algorithm)
    store = StoredRuns("cross")
    (run_id,) = (run.info.run_id for run in store.finished())
    artifacts = next(sandbox.home.glob(f"mlartifacts/**/{run_id}/artifacts"))
    shutil.copy(folder.evaluation, folder.measured)
    experiment = run_settings.read(folder)
    (exported,) = (sandbox.folder / "out").rglob("*.json.gz")
    policy = next(sandbox.home.glob("mlartifacts/**/models/*/artifacts/**/policy.*"))

    (task,) = experiment.eval_tasks()
    whole = evaluate.load_matching_results(folder.evaluation, task, experiment.baselines, experiment.eval_seeds)

    def results(path: Path) -> Any:
        """Return the same where a file is not used: then everything is measured again, to the same values."""
        read = evaluate.load_matching_results(path, task, experiment.baselines, experiment.eval_seeds)
        return read or whole

    resume = ("train", "--resume", folder.name)
    play = ("evaluate", *NET, "--eval-seeds", "1", "--baseline", "random", "--out", "measured", "--policy", "random")
    return [
        Kind("checkpoint", own.checkpoint, lambda: vars(checkpoint.load(own.checkpoint)), (*play, str(own.checkpoint))),
        Kind("snapshot", own.checkpoints()[0], lambda: vars(checkpoint.load(own.checkpoints()[0]))),
        Kind("policy.pt", own.policy, lambda: _policy(own.policy)),
        Kind("command.json", folder.command, lambda: loop._command(folder), resume),
        Kind("config.json", folder.config, lambda: run_settings.read(folder).as_dict(), resume),
        Kind("measured.json", folder.measured, lambda: results(folder.measured)),
        Kind("evaluation.json", folder.evaluation, lambda: results(folder.evaluation)),
        Kind("export", exported, lambda: archive_file.read_file(exported), ("import", "--folder", "out")),
        Kind("artifact checkpoint", artifacts / own.checkpoint.name, lambda: vars(checkpoint.load(_download(run_id)))),
        Kind(
            "artifact evaluation",
            artifacts / "evaluation.json",
            lambda: StoredRuns("cross").evaluation(run_id),
            ("compare", *NET),
        ),
        Kind("artifact policy", policy, lambda: _policy(policy)),
        *(
            Kind(f"artifact {name}", artifacts / name, functools.partial(_table, run_id, name))
            for name in (curves.CURVES, curves.SIGNALS)
        ),
    ]


def _download(run_id: str) -> Path:
    return StoredRuns("cross").download(run_id, CHECKPOINT)


def _table(run_id: str, name: str) -> Any:
    store = StoredRuns("cross")
    return {key: points.tolist() for key, points in store.table(run_id, store.client.get_run(run_id).data.tags, name).items()}


def _policy(path: Path) -> Any:
    policy, spec, _ = deploy.load(path)
    return policy.name, vars(policy.config), policy.weights, vars(spec)

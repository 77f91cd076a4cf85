"""Finished trainings as files, a file each: to publish them, or to bring those of several machines together in one store.

A file has everything that `compare` and `report` read: tags, settings, every curve, the figures of every evaluation episode.
It has no checkpoint.
"""

import gzip
import json
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from tsc_marl.analysis import compare, summaries
from tsc_marl.analysis.compare import RunFilter
from tsc_marl.errors import UserError
from tsc_marl.evaluation import tables
from tsc_marl.paths import home
from tsc_marl.tracking.store import EVALUATION, FINISHED, Tracker

FORMAT = 1
ABOUT = """Written by `{command}`; `make import FROM=<this folder>` takes them into a store, then `make compare`
and `make report` show more. Final delay: the greedy final policy's, interquartile mean over training seeds and evaluation
episodes with its 95 % bootstrap interval; of each seed: its mean; reached: training episodes until the exploring
policy, averaged over ten episodes, is down to max pressure's delay; training: mean delay over all training episodes;
minutes: median of the trainings' wall time, whatever else the machine did; gridlock: share of the evaluation episodes."""
SUFFIX = ".json.gz"


def write(networks: Sequence[str], choice: RunFilter, out: Path, command: str) -> int:
    """Write finished trainings as `out/<network>/<folder of the run>.json.gz`, and their figures as `out/README.md`.

    All that one command trained is one file, also where some of it is chosen; one that was written before is written anew. Of
    other networks, which an earlier export wrote there, README.md keeps the figures.

    Args:
        networks: where they were trained; empty: everywhere.
        choice: which of them.
        out: the folder.
        command: the line that writes them again, to be told in the tables.

    Returns how many files were written.

    Raises:
        UserError: when there are none, or the folder cannot be written.
    """
    networks = networks or [name for name in Tracker("Default").experiments() if name != "Default"]
    contents = {network: _contents(network, choice) for network in networks}
    files = [content for families in contents.values() for content in families.values()]
    there = {training["run"]["tags"]["algorithm"] for content in files for training in content["trainings"]}
    missing = [name for name in choice.algos if name not in there]
    if missing or not there:
        of = f" of {', '.join(missing)}" if missing else ""
        raise UserError(f"no finished training{of} on {', '.join(networks) or 'any network'} is chosen; train one: make train")
    path = out
    try:
        for network, families in contents.items():
            for name, content in families.items():
                path = out / network / f"{name}{SUFFIX}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))  # the same content, the same bytes
        path = out / "README.md"
        old = path.read_text().split("\n\n## ")[1:] if path.exists() else []
        sections = {text.splitlines()[0]: f"## {text.strip()}" for text in old}
        sections |= {network: _section(network, choice) for network, families in contents.items() if families}
        ordered = [sections[network] for network in sorted(sections)]
        path.write_text("\n\n".join(["# Finished trainings", ABOUT.format(command=command), *ordered]) + "\n")
    except OSError as error:
        raise UserError(f"trainings cannot be written to {path} ({error.strerror}); give another folder with --out") from None
    return len(files)


def _contents(network: str, choice: RunFilter) -> dict[str, dict[str, Any]]:
    """Return what each file is to hold, by the name of the run's folder."""
    tracker = Tracker(network)
    chosen = {run.data.tags.get("mlflow.parentRunId") for run in tracker.finished(choice.where) if choice.takes(run.data.tags)}
    families: dict[str, list[str]] = defaultdict(list)
    for run in tracker.finished():
        parent = run.data.tags.get("mlflow.parentRunId")
        if parent in chosen and parent and "eval/delay" in run.data.metrics:
            families[parent].append(run.info.run_id)
    found = {}
    for parent, children in families.items():
        content = {"format": FORMAT, "network": network, **_told(tracker, parent)}
        content["trainings"] = [_told(tracker, child) for child in reversed(children)]
        found[content["run"]["tags"]["folder"]] = content
    return found


def _told(tracker: Tracker, run_id: str) -> dict[str, Any]:
    return {"run": tracker.record(run_id), "evaluation": tracker.evaluation(run_id)}


def _section(network: str, choice: RunFilter) -> str:
    """Return the table of a network's trainings, or why they cannot stand in one."""
    try:
        comparison = compare.load(network, choice)
    except UserError as error:
        return f"## {network}\n\nNot compared: {error}."
    every = comparison.trainings
    first = every[0].settings
    decisions = f"{every[0].curve['steps'][-1]:.0f} decisions"
    measured = (
        f"{first['episodes']} training episodes ({decisions}), evaluation seeds {first['eval_seeds']}, SUMO {first['SUMO']}"
    )
    lines = [
        f"## {network}", "", f"{measured}, commits {', '.join(sorted({training.commit for training in every}))}.", "",
        "| algorithm | seeds | final delay [s] | 95 % | of each seed | reached | training [s] | minutes | gridlock |",
        "|---" * 9 + "|",
    ]  # fmt: skip
    for name, summary in summaries.summarise(comparison, comparison.reference()).items():
        seeds = ", ".join(str(training.seed) for training in comparison.groups[name])
        ends = ", ".join(f"{training.delay.mean():.1f}" for training in comparison.groups[name])
        reached = ", ".join(f"{episode:.0f}" if np.isfinite(episode) else "never" for episode in summary.episodes)
        figures = f"{summary.delay:.1f} | {tables.span(summary.interval)} | {ends} | {reached}"
        minutes = np.median([training.curve["minutes"][-1] for training in comparison.groups[name]])
        lines.append(
            f"| `{name}` | {seeds} | {figures} | {summary.training_delay:.0f} | {minutes:.1f} | {summary.gridlock:.0%} |"
        )
    classical = sorted(comparison.baseline_delays.items(), key=lambda entry: entry[1])
    return "\n".join([*lines, *(f"| `{name}` | | {delay:.1f} |" + " |" * 6 for name, delay in classical)])


def read(folder: Path) -> tuple[int, int]:
    """Bring the trainings in a folder, and in those within it, into the store; those that are there already stay as they are.

    Returns how many files were taken in, and how many were there already, or are being trained here.

    Raises:
        UserError: when there is no such file, or one is none of `write`'s: then none is taken in. When the store does not
            take one: then nothing of that one is kept.
    """
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"no trainings (files *{SUFFIX}) in {folder}; give the folder of an export with --folder")
    contents = [_content(path) for path in paths]
    trackers = {network: Tracker(network) for network in {content["network"] for content in contents}}
    stored = {run.data.tags.get("folder") for tracker in trackers.values() for run in tracker.finished()}
    taken = 0
    for content in contents:
        name = content["run"]["tags"]["folder"]
        own = home() / "runs" / name
        if name not in stored:
            if own.exists() and not (own / FINISHED).exists():
                continue
            _restore(trackers[content["network"]], content)
            taken += 1
        own.mkdir(parents=True, exist_ok=True)
        if not (own / EVALUATION).exists():
            (own / EVALUATION).write_text(json.dumps(content["evaluation"], indent=1))
        (own / FINISHED).touch()
    return taken, len(paths) - taken


Name = Annotated[str, StringConstraints(pattern=r"^\w[^/\\]*$")]
"""Of a folder."""
Points = tuple[list[int], list[float]]
"""Steps and values."""


class _Row(BaseModel):
    delay: float


class _Evaluation(BaseModel):
    results: Annotated[dict[str, Annotated[list[_Row], Field(min_length=1)]], Field(min_length=1)]


class _RunRecord(BaseModel):
    name: str
    start_ms: int
    end_ms: int | None
    params: dict[str, str]


class _FamilyTags(BaseModel):
    folder: Name


class _ParentRun(_RunRecord):
    tags: _FamilyTags
    metrics: dict[str, Points]


class _TrainingTags(_FamilyTags):
    algorithm: str
    seed: Annotated[str, StringConstraints(pattern=r"^\d+$")]
    sumo_version: str
    git_commit: str


class _Curves(BaseModel):
    episode: Points
    steps: Points
    delay: Points
    minutes: Points


class _TrainingRecord(_RunRecord):
    tags: _TrainingTags
    metrics: _Curves


class _TrainingRun(BaseModel):
    run: _TrainingRecord
    evaluation: _Evaluation


class _File(BaseModel):
    """What a file must hold; it may hold more."""

    network: Name
    run: _ParentRun
    evaluation: _Evaluation
    trainings: Annotated[list[_TrainingRun], Field(min_length=1)]
    format: int


def _content(path: Path) -> dict[str, Any]:
    """Return what a file holds, all of it checked."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        found = content.get("format") if isinstance(content, dict) else None
        if found not in (None, FORMAT):
            raise UserError(f"{path} is of another version of this program (format {found}, not {FORMAT})")
        _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        return content
    raise UserError(f"{path} is no exported training ({reason}); leave it out, or export it again")


def _restore(tracker: Tracker, content: dict[str, Any]) -> None:
    made: list[str] = []
    try:
        for part in (content, *content["trainings"]):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / EVALUATION
                path.write_text(json.dumps(part["evaluation"], indent=1))
                parent = made[0] if made else None
                made.append(tracker.restore(part["run"], path, tables.markdown(part["evaluation"]["results"]), parent))
    except BaseException:  # half of what one command trained would count as all of it
        for run_id in made:
            tracker.discard(run_id)
        raise

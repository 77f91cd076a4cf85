"""Finished trainings as files, a file each: to publish them, or to bring those of several machines together in one store.

A file has everything that `compare` and `report` read: tags, settings, every curve, the figures of every evaluation episode.
It has no checkpoint.
"""

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl import compare, report
from tsc_marl.compare import Choice
from tsc_marl.errors import UserError
from tsc_marl.track import EVALUATION, Tracker, home

FORMAT = 1
ABOUT = """Written by `{command}`; `make import FROM=<this folder>` takes them into a store, then `make compare`
and `make report` show more. Final delay: the greedy final policy's, interquartile mean over training seeds and evaluation
episodes with its 95 % bootstrap interval; of each seed: its mean; reached: training episodes until the exploring
policy, averaged over ten episodes, is down to max pressure's delay; training: mean delay over all training episodes;
minutes: median of the trainings' wall time, whatever else the machine did; gridlock: share of the evaluation episodes."""
SUFFIX = ".json.gz"


def write(networks: Sequence[str], choice: Choice, out: Path, command: str) -> int:
    """Write finished trainings as `out/<network>/<folder of the run>.json.gz`, and their figures as `out/README.md`.

    Those that were trained by one command are one file; one that was written before is written anew.

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
    if not any(contents.values()):
        raise UserError(f"no finished training on {', '.join(networks) or 'any network'} is chosen; train one: make train")
    path = out
    try:
        for network, families in contents.items():
            for name, content in families.items():
                path = out / network / f"{name}{SUFFIX}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))  # the same content, the same bytes
        sections = [_section(network, choice) for network, families in contents.items() if families]
        path = out / "README.md"
        path.write_text("\n\n".join(["# Finished trainings", ABOUT.format(command=command), *sections]) + "\n")
    except OSError as error:
        raise UserError(f"trainings cannot be written to {path} ({error.strerror}); give another folder with --out") from None
    return sum(map(len, contents.values()))


def _contents(network: str, choice: Choice) -> dict[str, dict[str, Any]]:
    """Return what each file is to hold, by the name of the run's folder."""
    tracker = Tracker(network)
    families: dict[str, list[str]] = defaultdict(list)
    for run in tracker.finished(choice.where):
        if choice.takes(run.data.tags) and "eval/delay" in run.data.metrics and "mlflow.parentRunId" in run.data.tags:
            families[run.data.tags["mlflow.parentRunId"]].append(run.info.run_id)
    found = {}
    for parent, children in families.items():
        content = {"format": FORMAT, "network": network, **_told(tracker, parent)}
        content["trainings"] = [_told(tracker, child) for child in reversed(children)]
        found[content["run"]["tags"]["folder"]] = content
    return found


def _told(tracker: Tracker, run_id: str) -> dict[str, Any]:
    return {"run": tracker.record(run_id), "evaluation": json.loads(tracker.download(run_id, EVALUATION).read_text())}


def _section(network: str, choice: Choice) -> str:
    """Return the table of a network's trainings, or why they cannot stand in one."""
    try:
        comparison = compare.load(network, choice)
    except UserError as error:
        return f"## {network}\n\nNot compared: {error}."
    every = [training for trainings in comparison.groups.values() for training in trainings]
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
    for name, summary in compare.summaries(comparison, comparison.reference()).items():
        seeds = ", ".join(str(training.seed) for training in comparison.groups[name])
        ends = ", ".join(f"{training.delay.mean():.1f}" for training in comparison.groups[name])
        reached = ", ".join(f"{episode:.0f}" if np.isfinite(episode) else "never" for episode in summary.episodes)
        figures = f"{summary.delay:.1f} | {report.span(*summary.interval)} | {ends} | {reached}"
        minutes = np.median([training.curve["minutes"][-1] for training in comparison.groups[name]])
        lines.append(f"| `{name}` | {seeds} | {figures} | {summary.area:.0f} | {minutes:.1f} | {summary.gridlock:.0%} |")
    classical = sorted(comparison.levels.items(), key=lambda entry: entry[1])
    return "\n".join([*lines, *(f"| `{name}` | | {delay:.1f} |" + " |" * 6 for name, delay in classical)])


def read(folder: Path) -> tuple[int, int]:
    """Bring the trainings in a folder, and in those within it, into the store; those that are there already stay as they are.

    Returns how many files were taken in, and how many were there already.

    Raises:
        UserError: when there is no such file, or one is none of `write`'s; nothing of that one is kept.
    """
    paths = sorted(folder.rglob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"no trainings (files *{SUFFIX}) in {folder}; give the folder of an export with --folder")
    taken = 0
    contents = [_content(path) for path in paths]
    for content in contents:
        own = home() / "runs" / content["run"]["tags"]["folder"]
        if own.exists():
            continue
        _restore(content)
        own.mkdir(parents=True)
        (own / EVALUATION).write_text(json.dumps(content["evaluation"], indent=1))
        taken += 1
    return taken, len(paths) - taken


def _content(path: Path) -> dict[str, Any]:
    """Return what a file holds, as far as can be told before it is used."""
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        if content["format"] != FORMAT:
            raise UserError(f"{path} is of another version of this program (format {content['format']}, not {FORMAT})")
        for part in (content, *content["trainings"]):
            if not part["evaluation"]["results"] or not part["run"].keys() >= {"name", "start_ms", "end_ms", "params", "metrics"}:
                raise KeyError("run")
        name = content["run"]["tags"]["folder"]
        if Path(name).name != name:
            raise ValueError(f"{name} is no name of a run")
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no exported training ({reason}); leave it out, or export it again") from None
    return content


def _restore(content: dict[str, Any]) -> None:
    tracker = Tracker(content["network"])
    parent = None
    for part in (content, *content["trainings"]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / EVALUATION
            path.write_text(json.dumps(part["evaluation"], indent=1))
            made = tracker.restore(part["run"], path, report.markdown(part["evaluation"]["results"]), parent)
        parent = parent or made

"""From finished trainings to an answer: per algorithm how good, how soon, how sure, read from MLflow."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tsc_marl import report, stats
from tsc_marl.errors import UserError
from tsc_marl.track import Tracker

SAME = ("signal.", "sim.", "demand.", "eval_demand.", "eval_seeds", "episodes", "SUMO")
"""What the settings begin with that two trainings must share to be compared."""
LEVEL = "max_pressure"
"""The controller whose delay is to be reached."""


@dataclass(frozen=True)
class Training:
    """One finished training."""

    run_id: str
    algorithm: str
    seed: int
    settings: dict[str, str]
    """As logged, with SUMO's version."""
    delay: np.ndarray
    """[E] of the final policy, one evaluation episode each."""
    gridlock: float
    """Share of the evaluation episodes."""
    curve: dict[str, np.ndarray]
    """Training: `episode`, `delay`, `minutes`, one entry per update."""
    commit: str


@dataclass(frozen=True)
class Comparison:
    """What is compared: trainings by the name of their algorithm, and the classical controllers that were measured with them."""

    network: str
    groups: dict[str, list[Training]]
    levels: dict[str, float]
    """Mean delay [s] of each classical controller."""


def load(network: str, where: str = "") -> Comparison:
    """Read the finished trainings of a network.

    Trainings of one algorithm with different settings of its own are different groups. Of two trainings that agree in
    everything the newer one counts.

    Args:
        network: the experiment.
        where: MLflow's own filter, such as `tags.git_commit = '…'` or `params.episodes = '100'`.

    Raises:
        UserError: when there is none, or they cannot be compared: which, and in what they differ.
    """
    tracker = Tracker(network)
    runs = tracker.finished(where=where)
    found = [_training(tracker, run) for run in runs if "eval/delay" in run.data.metrics]
    if not found:
        chosen = f" that match {where}" if where else ""
        raise UserError(f"no finished run on {network}{chosen}; train one: make train NET={network}")
    _check(found)
    groups: dict[str, list[Training]] = defaultdict(list)
    for name, training in zip(_names(found), found, strict=True):
        if training.seed not in {other.seed for other in groups[name]}:  # newest first
            groups[name].append(training)
    return Comparison(network, dict(groups), _levels(tracker, runs))


def table(comparison: Comparison, reference: str | None = None) -> Table:
    """Return the table, best first.

    Args:
        comparison: what is compared.
        reference: the group that the others are compared with; by default `mappo` where it is there, else the first.

    Raises:
        UserError: when there is no such group.
    """
    groups, level = comparison.groups, comparison.levels.get(LEVEL)
    reference = reference or next((name for name in groups if name == "mappo"), next(iter(groups)))
    if reference not in groups:
        raise UserError(f"no finished run of the reference {reference}; choose one of {', '.join(groups)} with --reference")
    level_text = f", {LEVEL} {level:.1f} s" if level is not None else ""
    result = Table(title=f"{comparison.network}: final greedy policies on held-out seeds{level_text}", title_justify="left")
    result.add_column("algorithm", overflow="fold")
    columns = ("seeds", "delay [s], IQM", "95 %", "spread [s]", f"beats {reference}", "95 %")
    for column in (*columns, "episodes to level", "minutes to level", "area [s]", "drift [s]", "gridlock"):
        result.add_column(column, justify="right", no_wrap=len(column) < 15)
    for name in sorted(groups, key=lambda name: float(stats.iqm(delays(groups[name]).ravel()))):
        result.add_row(name, *row(groups[name], groups[reference] if name != reference else None, level))
    return result


def listing(comparison: Comparison) -> Table:
    """Return a row for each training, best first."""
    result = Table(title=f"{comparison.network}: finished trainings", title_justify="left")
    result.add_column("algorithm", overflow="fold")
    for column in ("seed", "delay [s]", "median", "episodes", "minutes", "commit", "run"):
        result.add_column(column, justify="right", no_wrap=True)
    every = [(name, training) for name, trainings in comparison.groups.items() for training in trainings]
    for name, training in sorted(every, key=lambda entry: float(entry[1].delay.mean())):
        result.add_row(
            name, str(training.seed), f"{training.delay.mean():.1f}", f"{np.median(training.delay):.1f}",
            f"{training.curve['episode'][-1]:.0f}", f"{training.curve['minutes'][-1]:.1f}", training.commit, training.run_id,
        )  # fmt: skip
    return result


def row(trainings: Sequence[Training], reference: Sequence[Training] | None, level: float | None) -> list[str]:
    """Return the cells of one group."""
    values = delays(trainings)
    ends = values.mean(axis=1)
    better = ["-", "-"]
    if reference is not None:
        share, low, high = stats.improvement(ends.tolist(), delays(reference).mean(axis=1).tolist())
        better = [f"{share:.2f}", report.span(low, high, ".2f")]
    soon = ["-", "-"]
    if level is not None:
        soon = [_median(_reached(trainings, axis, level), form) for axis, form in (("episode", ".0f"), ("minutes", ".1f"))]
    curves = [training.curve for training in trainings]
    gridlock = np.mean([training.gridlock for training in trainings])
    return [
        str(len(trainings)), f"{float(stats.iqm(values.ravel())):.1f}", report.span(*stats.bootstrap(values, stats.iqm)),
        f"{ends.std(ddof=1):.1f}" if len(ends) > 1 else "-", *better, *soon,
        f"{np.mean([stats.area(c['episode'], c['delay']) for c in curves]):.0f}",
        f"{np.mean([stats.drift(c['episode'], c['delay']) for c in curves]):+.1f}",
        "-" if np.isnan(gridlock) else f"{gridlock:.0%}",
    ]  # fmt: skip


def delays(trainings: Sequence[Training]) -> np.ndarray:
    """Return [S, E] s."""
    return np.array([training.delay for training in trainings])


def _reached(trainings: Sequence[Training], axis: str, level: float) -> list[float]:
    return [stats.reached(t.curve[axis], t.curve["episode"], t.curve["delay"], level) for t in trainings]


def _median(values: Sequence[float], form: str) -> str:
    """Return the median as text, and how many got there where not all did."""
    arrived = sum(np.isfinite(values))
    median = float(np.median(values))
    text = f"{median:{form}}" if np.isfinite(median) else "never"
    return text if arrived == len(values) else f"{text} ({arrived} of {len(values)})"


def _training(tracker: Tracker, run: Any) -> Training:
    tags, params = run.data.tags, dict(run.data.params)
    content = json.loads(tracker.download(run.info.run_id, "evaluation.json").read_text())
    (rows,) = content["results"].values()
    histories = {key: tracker.history(run.info.run_id, key) for key in ("episode", "delay", "minutes")}
    return Training(
        run.info.run_id, tags["algorithm"], int(tags["seed"]), params | {"SUMO": tags["sumo_version"]},
        np.array([episode["delay"] for episode in rows]),
        float(np.mean([episode.get("gridlock", np.nan) for episode in rows])), histories, tags["git_commit"][:8],
    )  # fmt: skip


def _check(found: Sequence[Training]) -> None:
    """Refuse trainings that differ in what they were trained for, or measured on."""
    first = found[0]
    for other in found[1:]:
        for key in sorted(first.settings.keys() | other.settings.keys()):
            mine, theirs = first.settings.get(key), other.settings.get(key)
            if mine != theirs and key.startswith(SAME):
                pair = f"runs {first.run_id} ({first.algorithm}) and {other.run_id} ({other.algorithm})"
                advice = f"choose with --where, for example --where \"params.`{key}` = '{mine}'\""
                raise UserError(f"{pair} cannot be compared: {key} is {mine} and {theirs}; {advice}")


def _names(found: Sequence[Training]) -> list[str]:
    """Return each training's group: its algorithm, with the settings in which trainings of that algorithm differ."""
    own: dict[str, list[dict[str, str]]] = defaultdict(list)
    for training in found:
        own[training.algorithm].append({k: v for k, v in training.settings.items() if k.startswith("algo.")})
    names = []
    for training in found:
        keys = sorted({key for settings in own[training.algorithm] for key in settings})
        differ = [key for key in keys if len({settings.get(key) for settings in own[training.algorithm]}) > 1]
        told = ", ".join(f"{key.removeprefix('algo.')} {training.settings.get(key)}" for key in differ)
        names.append(f"{training.algorithm} ({told})" if told else training.algorithm)
    return names


def _levels(tracker: Tracker, runs: Sequence[Any]) -> dict[str, float]:
    """Return the mean delays of the classical controllers that were measured beside these trainings."""
    parents = dict.fromkeys(run.data.tags.get("mlflow.parentRunId", "") for run in runs)
    trained = {run.data.tags["algorithm"] for run in runs}
    levels: dict[str, float] = {}
    for parent in filter(None, parents):
        try:
            content = json.loads(tracker.download(parent, "evaluation.json").read_text())
        except UserError:
            continue
        for name, rows in content["results"].items():
            if name.split()[0] not in trained:
                levels.setdefault(name, report.mean(rows, "delay"))
    return levels

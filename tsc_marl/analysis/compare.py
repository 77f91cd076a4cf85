"""From finished trainings to an answer: per algorithm how good, how soon, how sure, read from MLflow."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from tsc_marl import config, controllers, renames
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import statistics, tables
from tsc_marl.tracking.store import Tracker

logger = logging.getLogger(__name__)

SLOW = 10
"""More trainings than these take seconds to read."""
COMPARABLE_SETTINGS = ("timing.", "sim.", "demand.", "eval_demand.", "eval_seeds", "episodes", "SUMO")
"""What the settings begin with that two trainings must share to be compared."""
MINOR = (
    "drift [s]", "minutes\nto level", "spread [s]", "area [s]", "its 95 %", "mean [s]", "gridlock", "episodes\nto level",
)  # fmt: skip
"""Columns of the table that a narrow terminal can do without, the first of them first."""
THRESHOLD_CONTROLLER = "max_pressure"
"""The controller whose delay is to be reached."""
REFERENCES = ("mappo", "mappo_ind", "ippo")
"""What the others are compared with unless something else is asked for, the first of them that was trained."""


@dataclass(frozen=True)
class RunFilter:
    """Which of the finished trainings are meant; empty: all."""

    where: str = ""
    """MLflow's own filter, such as `tags.git_commit = '…'` or `params.episodes = '100'`."""
    algos: Sequence[str] = ()
    """Algorithms, by their names on the command line."""
    folders: Sequence[str] = ()
    """Names of folders in runs/."""

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Return whether a training with these tags is among them, as far as the names go."""
        named = (self.algos, tags["algorithm"]), (self.folders, tags.get("folder"))
        return all(not names or name in names for names, name in named)


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
    """Training: `episode`, `steps` (decisions), `delay`, `minutes`, one entry per update."""
    tags: dict[str, str]
    """As logged: versions, `git_commit`, the `command`."""
    metrics: dict[str, float]
    """Last value of everything logged."""

    @property
    def commit(self) -> str:
        return self.tags["git_commit"][:8]


@dataclass(frozen=True)
class Comparison:
    """What is compared: trainings by the name of their algorithm, and the classical controllers that were measured with them."""

    network: str
    groups: dict[str, list[Training]]
    """In the order of their seeds."""
    baseline_delays: dict[str, float]
    """Mean delay [s] of each classical controller."""

    @property
    def trainings(self) -> list[Training]:
        return [training for trainings in self.groups.values() for training in trainings]

    @property
    def same_demand(self) -> bool:
        """Whether training had the evaluation's demand."""
        settings = self.trainings[0].settings
        of = {key.removeprefix("demand."): value for key, value in settings.items() if key.startswith("demand.")}
        return all(settings.get(f"eval_demand.{key}", value) == value for key, value in of.items())

    @property
    def training_thresholds(self) -> dict[str, float]:
        """The levels that training delays can be compared with: none where training had another demand."""
        return self.baseline_delays if self.same_demand else {}

    @property
    def threshold(self) -> float | None:
        """The delay [s] that training is to get down to; None where there is none."""
        return self.training_thresholds.get(THRESHOLD_CONTROLLER)

    def reference(self, wanted: str | None = None) -> str:
        """Return the group that the others are compared with: the wanted one, else the first of `REFERENCES` that is there.

        Where there is none of those, it is the first by name.

        Raises:
            UserError: when there is no such group.
        """
        if wanted in self.groups:
            return wanted
        if wanted and not self.of(wanted):
            known = ", ".join(self.groups)
            raise UserError(f"no finished run of the reference {wanted} on {self.network}; choose one of {known} (--reference)")
        found = [group for name in ([wanted] if wanted else REFERENCES) for group in self.of(name)]
        return found[0] if found else min(self.groups)

    def of(self, algorithm: str) -> list[str]:
        """Return the groups of an algorithm, that with the most trainings first."""
        found = [name for name, trainings in self.groups.items() if trainings[0].algorithm == algorithm]
        return sorted(found, key=lambda name: -len(self.groups[name]))


@dataclass(frozen=True)
class Summary:
    """How good, how soon, how sure the trainings of one group are."""

    n_seeds: int
    delay: float
    """Interquartile mean over seeds and evaluation episodes [s]."""
    interval: statistics.Interval
    """95 %, of that; nan for one training."""
    mean: float
    """Over all of them, jams included [s]."""
    spread: float
    """Standard deviation over seeds [s], nan for one training."""
    better: tuple[float, float, float]
    """Probability that a training ends better than one of the reference, with its 95 % interval; nan for the reference."""
    episodes: list[float]
    """Of each training until the level is reached, infinite if never; empty where no level was measured."""
    minutes: list[float]
    area: float
    """Mean delay over all training episodes [s]."""
    drift: float
    """Change over the last quarter of training [s]."""
    gridlock: float
    """Share of the evaluation episodes."""


def load(network: str, choice: RunFilter = RunFilter()) -> Comparison:
    """Read the finished trainings of a network.

    Trainings of one algorithm with different settings of its own are different groups. Of two trainings that agree in
    everything the newer one counts.

    Args:
        network: the experiment.
        choice: which of them.

    Raises:
        UserError: when there is none, or they cannot be compared: which, and in what they differ.
    """
    tracker = Tracker(network)
    finished = [run for run in tracker.finished(choice.where) if "eval/delay" in run.data.metrics]
    runs = [run for run in finished if choice.takes(run.data.tags)]
    if len(runs) > SLOW:
        logger.info(f"{network}: reading {len(runs)} trainings")
    found = [_training(tracker, run) for run in runs]
    missing = sorted(set(choice.algos) - {training.algorithm for training in found})
    for name in missing:
        if name not in config.algorithms():
            raise unknown("algorithm", name, config.algorithms())
    if missing or not found:
        of = f" of {', '.join(missing)}" if missing else ""
        chosen = f" that match {choice.where}" if choice.where else ""
        there = sorted({run.data.tags["algorithm"] for run in finished})
        other = f"; there are runs of {', '.join(there)}" if there else ""
        wanted = f' ALGOS="{" ".join(missing)}"' if missing else ""
        raise UserError(f"no finished run{of} on {network}{chosen}; train one: make train NET={network}{wanted}{other}")
    _check(found)
    groups: dict[str, list[Training]] = defaultdict(list)
    for name, training in zip(_names(found), found, strict=True):
        if training.seed not in {other.seed for other in groups[name]}:  # newest first
            groups[name].append(training)
    ordered = {name: sorted(trainings, key=lambda training: training.seed) for name, trainings in groups.items()}
    return Comparison(network, ordered, _baseline_delays(tracker, runs))


def summaries(comparison: Comparison, reference: str) -> dict[str, Summary]:
    """Return the figures of each group, best delay first."""
    groups, level = comparison.groups, comparison.threshold
    found = {name: _summary(groups[name], groups[reference] if name != reference else None, level) for name in groups}
    return dict(sorted(found.items(), key=lambda entry: entry[1].delay))


def table(comparison: Comparison, reference: str) -> Table:
    """Return the table, best first; the others are compared with the group `reference`."""
    level = comparison.baseline_delays.get(THRESHOLD_CONTROLLER)
    level_text = f", {THRESHOLD_CONTROLLER} {level:.1f} s" if level is not None else ""
    level_text += "" if comparison.same_demand else "; training had another demand"
    result = Table(title=f"{comparison.network}: final greedy policies on held-out seeds{level_text}", title_justify="left")
    result.add_column("algorithm", no_wrap=True)
    columns = ("seeds", "delay [s],\nIQM", "95 %", "mean [s]", "spread [s]", f"beats\n{reference}", "its 95 %")
    for column in (*columns, "episodes\nto level", "minutes\nto level", "area [s]", "drift [s]", "gridlock"):
        result.add_column(column, justify="right", no_wrap=True)
    for name, summary in summaries(comparison, reference).items():
        result.add_row(_on_two_lines(name), *row(summary))
    return result


def caveats(comparison: Comparison) -> str:
    """Return what a reader should know of the figures: how few trainings there are, and of how many versions; else nothing."""
    counts = {name: len(trainings) for name, trainings in comparison.groups.items()}
    said = []
    if min(counts.values()) < 2:
        said.append("no interval where there is one training only: how much trainings vary is then unknown; add seeds")
    if any(2 <= count < 10 for count in counts.values()):
        hold = "2, 3, 5 and 10 trainings hold the truth 54, 74, 86 and 94 times of 100 where trainings vary as normal values do"
        said.append(f"95 % intervals of few trainings are too narrow: those of {hold}")
    mixed = [name for name, trainings in comparison.groups.items() if len({training.commit for training in trainings}) > 1]
    if mixed:
        said.append(f"trainings of different git commits stand in one row: {', '.join(mixed)}")
    return "; ".join(said)


def _on_two_lines(name: str) -> str:
    """Return a group's name with the settings that tell it from others on a line of their own."""
    return name.replace(" (", "\n(")


def runs_table(comparison: Comparison) -> Table:
    """Return a row for each training, best first."""
    result = Table(title=f"{comparison.network}: finished trainings", title_justify="left")
    result.add_column("algorithm", no_wrap=True)
    for column in ("seed", "delay [s]", "median", "episodes", "minutes", "commit", "run"):
        result.add_column(column, justify="right", no_wrap=True)
    every = [(name, training) for name, trainings in comparison.groups.items() for training in trainings]
    for name, training in sorted(every, key=lambda entry: float(entry[1].delay.mean())):
        result.add_row(
            _on_two_lines(name), str(training.seed), f"{training.delay.mean():.1f}", f"{np.median(training.delay):.1f}",
            f"{training.curve['episode'][-1]:.0f}", f"{training.curve['minutes'][-1]:.1f}", training.commit, training.run_id,
        )  # fmt: skip
    return result


def row(summary: Summary) -> list[str]:
    """Return the cells of one group."""
    share, low, high = summary.better
    return [
        str(summary.n_seeds), f"{summary.delay:.1f}", tables.span(*summary.interval), f"{summary.mean:.1f}",
        tables.number(summary.spread),
        tables.number(share, ".2f"), tables.span(low, high, ".2f"),
        tables.median(summary.episodes), tables.median(summary.minutes, ".1f"),
        f"{summary.area:.0f}", tables.number(summary.drift, "+.1f"), tables.number(summary.gridlock, ".0%"),
    ]  # fmt: skip


def _summary(trainings: Sequence[Training], reference: Sequence[Training] | None, level: float | None) -> Summary:
    values = delays(trainings)
    ends, curves = values.mean(axis=1), [training.curve for training in trainings]
    better = float("nan"), float("nan"), float("nan")
    if reference is not None:
        better = statistics.probability_of_improvement(ends.tolist(), delays(reference).mean(axis=1).tolist())
    episodes, minutes = (_reached(trainings, axis, level) if level is not None else [] for axis in ("episode", "minutes"))
    return Summary(
        len(trainings), float(statistics.iqm(values.ravel())), statistics.bootstrap(values, statistics.iqm), float(values.mean()),
        float(ends.std(ddof=1)) if len(ends) > 1 else float("nan"), better, episodes, minutes,
        float(np.mean([statistics.mean_training_delay(c["episode"], c["delay"]) for c in curves])),
        float(np.mean([statistics.final_slope(c["episode"], c["delay"]) for c in curves])),
        float(np.mean([training.gridlock for training in trainings])),
    )  # fmt: skip


def delays(trainings: Sequence[Training]) -> np.ndarray:
    """Return [S, E] s."""
    return np.array([training.delay for training in trainings])


def _reached(trainings: Sequence[Training], axis: str, level: float) -> list[float]:
    return [statistics.episodes_to_threshold(t.curve[axis], t.curve["episode"], t.curve["delay"], level) for t in trainings]


def _training(tracker: Tracker, run: Any) -> Training:
    tags, params = run.data.tags, renames.settings(run.data.params)
    try:
        content = tracker.evaluation(run.info.run_id)
    except UserError as error:
        advice = f"delete the run in MLflow (make ui), or --where \"attributes.run_id != '{run.info.run_id}'\""
        raise UserError(f"{error}; {advice}") from None
    (rows,) = content["results"].values()
    histories = {key: tracker.history(run.info.run_id, key) for key in ("episode", "steps", "delay", "minutes")}
    played = max(histories["episode"], default=0.0)
    if played != float(params["episodes"]):
        told = f"the store has the curves of {played:.0f} of {params['episodes']} episodes of run {run.info.run_id}"
        raise UserError(f"{told}; make train RESUME={tags.get('folder')} sends the others, or delete the run in MLflow (make ui)")
    return Training(
        run.info.run_id, renames.variant(tags["algorithm"]), int(tags["seed"]), params | {"SUMO": tags["sumo_version"]},
        np.array([episode["delay"] for episode in rows]),
        float(np.mean([episode.get("gridlock", np.nan) for episode in rows])), histories, tags, run.data.metrics,
    )  # fmt: skip


def _check(found: Sequence[Training]) -> None:
    """Refuse trainings that differ in what they were trained for, or measured on."""
    first = found[0]
    for other in found[1:]:
        for key in sorted(first.settings.keys() | other.settings.keys()):
            mine, theirs = first.settings.get(key), other.settings.get(key)
            if mine != theirs and key.startswith(COMPARABLE_SETTINGS):
                pair = f"runs {first.run_id} ({first.algorithm}) and {other.run_id} ({other.algorithm})"
                field = "tags.sumo_version" if key == "SUMO" else f"params.`{key}`"
                advice = f"choose with --where, for example --where \"{field} = '{theirs if mine is None else mine}'\""
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
        told = ", ".join(f"{key.removeprefix('algo.')} {training.settings[key]}" for key in differ if key in training.settings)
        names.append(f"{training.algorithm} ({told})" if told else training.algorithm)
    return names


def _baseline_delays(tracker: Tracker, runs: Sequence[Any]) -> dict[str, float]:
    """Return the mean delays of the classical controllers that were measured beside these trainings."""
    parents = dict.fromkeys(run.data.tags.get("mlflow.parentRunId", "") for run in runs)
    baseline_delays: dict[str, float] = {}
    for parent in filter(None, parents):
        try:
            content = tracker.evaluation(parent)
        except UserError:
            continue
        for name, rows in content["results"].items():
            if name in controllers.available():
                baseline_delays.setdefault(name, tables.mean(rows, "delay"))
    return baseline_delays

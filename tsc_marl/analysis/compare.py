"""Comparison of finished trainings, read from MLflow: final delay, speed of learning, and the uncertainty of both."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from tsc_marl import config, controllers
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.tables import Column, Row, left_out_first, median, number, span, terminal_table
from tsc_marl.tracking.store import Tracker

COMPARABLE_SETTINGS = ("signal.", "sim.", "demand.", "eval_demand.", "eval_seeds", "episodes", "SUMO")
"""Prefixes of the settings that must be equal in trainings that are compared."""
THRESHOLD_CONTROLLER = "max_pressure"
"""The controller whose delay is the threshold for the speed of learning."""
REFERENCES = ("mappo", "mappo_ind", "ippo")
"""Default reference of a comparison: the first of these algorithms that was trained."""


@dataclass(frozen=True)
class RunFilter:
    """A choice among the finished trainings; an empty filter takes all."""

    where: str = ""
    """MLflow's own filter, such as `tags.git_commit = '…'` or `params.episodes = '100'`."""
    algos: Sequence[str] = ()
    """Algorithms, by their names on the command line."""
    folders: Sequence[str] = ()
    """Names of folders in runs/."""

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Return whether the algorithms and folders include a training with these tags; `where` is MLflow's task."""
        criteria = (self.algos, tags["algorithm"]), (self.folders, tags.get("folder"))
        return all(not names or name in names for names, name in criteria)


@dataclass(frozen=True)
class Training:
    """One finished training."""

    run_id: str
    algorithm: str
    seed: int
    settings: dict[str, str]
    """As logged, with SUMO's version."""
    delay: np.ndarray
    """[E] Delay [s] of the final policy in each evaluation episode."""
    gridlock: float
    """Share of the evaluation episodes."""
    curve: dict[str, np.ndarray]
    """[U] each, an entry per update: `episode`, `steps` (decisions), `delay` [s], `minutes`."""
    tags: dict[str, str]
    """As logged: versions, `git_commit`, the `command`."""
    metrics: dict[str, float]
    """Last value of everything logged."""

    @property
    def commit(self) -> str:
        return self.tags["git_commit"][:8]


@dataclass(frozen=True)
class Comparison:
    """Trainings by group, and the classical controllers that were measured beside them.

    A group is an algorithm, or an algorithm with some settings where its trainings differ in them.
    """

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
        demand = {key.removeprefix("demand."): value for key, value in settings.items() if key.startswith("demand.")}
        return all(settings.get(f"eval_demand.{key}", value) == value for key, value in demand.items())

    @property
    def training_thresholds(self) -> dict[str, float]:
        """Delays [s] of controllers that training delays can be compared with: none where training had another demand."""
        return self.baseline_delays if self.same_demand else {}

    @property
    def threshold(self) -> float | None:
        """The delay [s] that training has to reach; None where max pressure was not measured, or with another demand."""
        return self.training_thresholds.get(THRESHOLD_CONTROLLER)

    def reference(self, wanted: str | None = None) -> str:
        """Return the group that the others are compared with.

        Args:
            wanted: a group or an algorithm. Default: the first of `REFERENCES` that was trained, else the first group by name.

        Raises:
            UserError: when the wanted one was not trained.
        """
        if wanted in self.groups:
            return wanted
        if wanted and not self.groups_of(wanted):
            groups = ", ".join(self.groups)
            raise UserError(f"no finished run of the reference {wanted} on {self.network}; choose one of {groups} (--reference)")
        candidates = [group for name in ([wanted] if wanted else REFERENCES) for group in self.groups_of(name)]
        return candidates[0] if candidates else min(self.groups)

    def groups_of(self, algorithm: str) -> list[str]:
        """Return the groups of an algorithm; the group with the most trainings comes first."""
        groups = [name for name, trainings in self.groups.items() if trainings[0].algorithm == algorithm]
        return sorted(groups, key=lambda name: -len(self.groups[name]))


@dataclass(frozen=True)
class Summary:
    """Results of the trainings of one group."""

    seeds: int
    delay: float
    """Interquartile mean over seeds and evaluation episodes [s]."""
    interval: statistics.Interval
    """95 % interval of `delay` [s]; nan for one training."""
    mean: float
    """Mean over seeds and evaluation episodes, gridlocked ones included [s]."""
    sd_over_seeds: float
    """Standard deviation over seeds of the mean delay [s]; nan for one training."""
    p_better: float
    """Probability that a training ends with less delay than one of the reference; nan for the reference."""
    p_interval: statistics.Interval
    """95 % interval of `p_better`."""
    episodes: list[float]
    """Training episodes of each seed until the threshold is reached, infinite if never; empty without a threshold."""
    minutes: list[float]
    """Likewise minutes of training."""
    training_delay: float
    """Mean delay over all training episodes [s]."""
    final_slope: float
    """Change of the training delay over the last quarter of training [s]."""
    gridlock: float
    """Share of the evaluation episodes."""


def load(network: str, choice: RunFilter = RunFilter()) -> Comparison:
    """Read the finished trainings of a network.

    Trainings of one algorithm with different `algo.*` settings are different groups. Of two trainings with the same settings
    and seed, the newer one counts.

    Args:
        network: the experiment.
        choice: which of them.

    Raises:
        UserError: when there is none, or when two differ in one of `COMPARABLE_SETTINGS`.
    """
    tracker = Tracker(network)
    finished = [run for run in tracker.finished(choice.where) if "eval/delay" in run.data.metrics]
    runs = [run for run in finished if choice.takes(run.data.tags)]
    trainings = [_training(tracker, run) for run in runs]
    missing = sorted(set(choice.algos) - {training.algorithm for training in trainings})
    for name in missing:
        if name not in config.algorithms():
            raise unknown("algorithm", name, config.algorithms())
    if missing or not trainings:
        of = f" of {', '.join(missing)}" if missing else ""
        chosen = f" that match {choice.where}" if choice.where else ""
        trained = sorted({run.data.tags["algorithm"] for run in finished})
        other = f"; there are runs of {', '.join(trained)}" if trained else ""
        wanted = f' ALGOS="{" ".join(missing)}"' if missing else ""
        raise UserError(f"no finished run{of} on {network}{chosen}; train one: make train NET={network}{wanted}{other}")
    _check_comparable(trainings)
    groups: dict[str, list[Training]] = defaultdict(list)
    for name, training in zip(group_names(trainings), trainings, strict=True):
        if training.seed not in {other.seed for other in groups[name]}:  # newest first
            groups[name].append(training)
    ordered = {name: sorted(group, key=lambda training: training.seed) for name, group in groups.items()}
    return Comparison(network, ordered, _baseline_delays(tracker, runs))


def summaries(comparison: Comparison, reference: str) -> dict[str, Summary]:
    """Return the results of each group, best delay first."""
    groups, threshold = comparison.groups, comparison.threshold
    results = {name: _summary(groups[name], groups[reference] if name != reference else None, threshold) for name in groups}
    return dict(sorted(results.items(), key=lambda entry: entry[1].delay))


COLUMNS = (
    Column("algorithm", "algorithm", lambda name: name.replace(" (", "\n(")),
    Column("seeds", "seeds"),
    Column("delay", "delay [s],\nIQM", number(".1f")),
    Column("interval", "95 % [s]", span),
    Column("mean", "mean [s]", number(".1f"), 3),
    Column("sd_over_seeds", "SD over\nseeds [s]", number(".1f"), 6),
    Column("p_better", "P(better)\nthan reference", number(".2f")),
    Column("p_interval", "its 95 %", lambda interval: span(interval, ".2f"), 4),
    Column("episodes", "episodes to\nmax pressure", median(".0f"), 1),
    Column("minutes", "minutes to\nmax pressure", median(".1f"), 7),
    Column("training_delay", "training\ndelay [s]", number(".0f"), 5),
    Column("final_slope", "final\nslope [s]", number("+.1f"), 8),
    Column("gridlock", "gridlock", number(".0%"), 2),
)
"""Of a comparison, a row per group: the fields of `Summary`."""
MINOR = left_out_first(COLUMNS)


def columns(reference: str) -> list[Column]:
    """Return the columns of a comparison with this group as the reference."""
    return [replace(column, title=column.title.replace("reference", reference)) for column in COLUMNS]


def rows(comparison: Comparison, reference: str) -> list[Row]:
    """Return the rows of a comparison, best delay first."""
    return [{"algorithm": name, **vars(summary)} for name, summary in summaries(comparison, reference).items()]


def table(comparison: Comparison, reference: str) -> Table:
    """Return the table of a comparison, best delay first; the group `reference` is compared with the others."""
    delay = comparison.baseline_delays.get(THRESHOLD_CONTROLLER)
    beside = f", {THRESHOLD_CONTROLLER} {delay:.1f} s" if delay is not None else ""
    beside += "" if comparison.same_demand else "; training had another demand"
    title = f"{comparison.network}: final greedy policies on held-out seeds{beside}"
    return terminal_table(title, columns(reference), rows(comparison, reference))


def caveats(comparison: Comparison) -> str:
    """Return warnings about the results: few trainings, or trainings of different commits in one group; empty if none."""
    counts = {name: len(trainings) for name, trainings in comparison.groups.items()}
    warnings = []
    if min(counts.values()) < 2:
        warnings.append("no interval where there is one training only: how much trainings vary is then unknown; add seeds")
    if any(2 <= count < 10 for count in counts.values()):
        hold = "2, 3, 5 and 10 trainings hold the truth 54, 74, 86 and 94 times of 100 where trainings vary as normal values do"
        warnings.append(f"95 % intervals of few trainings are too narrow: those of {hold}")
    mixed = [name for name, trainings in comparison.groups.items() if len({training.commit for training in trainings}) > 1]
    if mixed:
        warnings.append(f"trainings of different git commits stand in one row: {', '.join(mixed)}")
    return "; ".join(warnings)


RUN_COLUMNS = (
    COLUMNS[0],
    Column("seed", "seed"),
    Column("delay", "delay [s]", number(".1f")),
    Column("median", "median [s]", number(".1f"), 4),
    Column("episodes", "episodes", number(".0f"), 1),
    Column("minutes", "minutes", number(".1f"), 2),
    Column("commit", "commit", priority=3),
    Column("run", "run"),
)
"""Of a list of trainings, a row each."""
RUN_MINOR = left_out_first(RUN_COLUMNS)


def runs_table(comparison: Comparison) -> Table:
    """Return a row for each training, best delay first."""
    results: list[dict[str, Any]] = [
        {
            "algorithm": name,
            "seed": training.seed,
            "delay": float(training.delay.mean()),
            "median": float(np.median(training.delay)),
            "episodes": training.curve["episode"][-1],
            "minutes": training.curve["minutes"][-1],
            "commit": training.commit,
            "run": training.run_id,
        }
        for name, trainings in comparison.groups.items()
        for training in trainings
    ]
    results.sort(key=lambda row: row["delay"])
    return terminal_table(f"{comparison.network}: finished trainings", RUN_COLUMNS, results)


def _summary(trainings: Sequence[Training], reference: Sequence[Training] | None, threshold: float | None) -> Summary:
    values = delays(trainings)
    ends, curves = values.mean(axis=1), [training.curve for training in trainings]
    share = low = high = float("nan")
    if reference is not None:
        share, low, high = statistics.probability_of_improvement(ends.tolist(), delays(reference).mean(axis=1).tolist())
    return Summary(
        seeds=len(trainings),
        delay=float(statistics.iqm(values.ravel())),
        interval=statistics.bootstrap(values, statistics.iqm),
        mean=float(values.mean()),
        sd_over_seeds=float(ends.std(ddof=1)) if len(ends) > 1 else float("nan"),
        p_better=share,
        p_interval=(low, high),
        episodes=_until_threshold(curves, "episode", threshold),
        minutes=_until_threshold(curves, "minutes", threshold),
        training_delay=float(np.mean([statistics.mean_training_delay(c["episode"], c["delay"]) for c in curves])),
        final_slope=float(np.mean([statistics.final_slope(c["episode"], c["delay"]) for c in curves])),
        gridlock=float(np.mean([training.gridlock for training in trainings])),
    )


def delays(trainings: Sequence[Training]) -> np.ndarray:
    """Return [S, E] s."""
    return np.array([training.delay for training in trainings])


def _until_threshold(curves: Sequence[dict[str, np.ndarray]], axis: str, threshold: float | None) -> list[float]:
    """Return the episodes or minutes of each training until the threshold; empty without one."""
    if threshold is None:
        return []
    return [statistics.episodes_to_threshold(c[axis], c["episode"], c["delay"], threshold) for c in curves]


def _training(tracker: Tracker, run: Any) -> Training:
    tags, params = run.data.tags, dict(run.data.params)
    try:
        content = tracker.evaluation(run.info.run_id)
    except UserError as error:
        advice = f"delete the run in MLflow (make ui), or --where \"attributes.run_id != '{run.info.run_id}'\""
        raise UserError(f"{error}; {advice}") from None
    (episodes,) = content["results"].values()
    histories = {key: tracker.history(run.info.run_id, key) for key in ("episode", "steps", "delay", "minutes")}
    played = max(histories["episode"], default=0.0)
    if played != float(params["episodes"]):
        state = f"the store has the curves of {played:.0f} of {params['episodes']} episodes of run {run.info.run_id}"
        raise UserError(
            f"{state}; make train RESUME={tags.get('folder')} sends the others, or delete the run in MLflow (make ui)"
        )
    return Training(
        run.info.run_id, tags["algorithm"], int(tags["seed"]), params | {"SUMO": tags["sumo_version"]},
        np.array([episode["delay"] for episode in episodes]),
        float(np.mean([episode.get("gridlock", np.nan) for episode in episodes])), histories, tags, run.data.metrics,
    )  # fmt: skip


def _check_comparable(trainings: Sequence[Training]) -> None:
    """Refuse trainings that differ in one of `COMPARABLE_SETTINGS`."""
    first = trainings[0]
    for other in trainings[1:]:
        for key in sorted(first.settings.keys() | other.settings.keys()):
            value, other_value = first.settings.get(key), other.settings.get(key)
            if value != other_value and key.startswith(COMPARABLE_SETTINGS):
                pair = f"runs {first.run_id} ({first.algorithm}) and {other.run_id} ({other.algorithm})"
                field = "tags.sumo_version" if key == "SUMO" else f"params.`{key}`"
                advice = f"choose with --where, for example --where \"{field} = '{other_value if value is None else value}'\""
                raise UserError(f"{pair} cannot be compared: {key} is {value} and {other_value}; {advice}")


def group_names(trainings: Sequence[Training]) -> list[str]:
    """Return each training's group: its algorithm, with the settings in which trainings of that algorithm differ."""
    own: dict[str, list[dict[str, str]]] = defaultdict(list)
    for training in trainings:
        own[training.algorithm].append({k: v for k, v in training.settings.items() if k.startswith("algo.")})
    names = []
    for training in trainings:
        keys = sorted({key for settings in own[training.algorithm] for key in settings})
        differ = [key for key in keys if len({settings.get(key) for settings in own[training.algorithm]}) > 1]
        values = ", ".join(f"{key.removeprefix('algo.')} {training.settings[key]}" for key in differ if key in training.settings)
        names.append(f"{training.algorithm} ({values})" if values else training.algorithm)
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
        for name, episodes in content["results"].items():
            if name in controllers.available():
                baseline_delays.setdefault(name, statistics.mean(episodes, "delay"))
    return baseline_delays

"""Comparison of finished trainings, read from MLflow: final delay, speed of learning, and the uncertainty of both."""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tsc_marl import config, controllers
from tsc_marl.console import make_line
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.evaluate import results_from
from tsc_marl.sim import fingerprint
from tsc_marl.sim.scenario import typed
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import renames
from tsc_marl.tracking.curves import from_store, is_evaluated, stored_names
from tsc_marl.tracking.stored_runs import IMPORTED, SYSTEM, StoredRuns
from tsc_marl.tracking.training_record import CURVES, EvaluationRows, StoredTraining, validate

logger = logging.getLogger(__name__)

SLOW = 10
"""More trainings than these take seconds to read."""
COMPARABLE_SETTINGS = ("timing.", "sim.", "demand.", "eval_demand.", "eval_seeds", "episodes", "SUMO", fingerprint.PREFIX)
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
    without: Collection[str] = ()
    """Ids of runs that are left out."""

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Return whether the algorithms and folders include a training with these tags; `where` is MLflow's task."""
        criteria = (self.algos, tags.get("algorithm")), (self.folders, tags.get("folder"))
        return all(not names or name in names for names, name in criteria)


@dataclass(frozen=True)
class Training:
    """One finished training."""

    run_id: str
    algorithm: str
    seed: int
    settings: dict[str, str]
    """Settings in the store by name, the version of SUMO, and the digests of the files; earlier versions did not store these."""
    delay: np.ndarray
    """[E] Delay [s] of the final policy in each evaluation episode."""
    gridlock: float
    """Share of the evaluation episodes with a gridlock."""
    curve: dict[str, np.ndarray]
    """Curves [U], with an entry per update: `episode`, `steps` (decisions), `delay` [s], `minutes`."""
    tags: dict[str, str]
    """Tags in the store: versions, `git_commit`, the `command`."""
    metrics: dict[str, float]
    """Last value of each metric in the store."""

    @property
    def says_its_files(self) -> bool:
        """Whether it says which network and demand it had: those of earlier versions do not."""
        return any(key.startswith(fingerprint.PREFIX) for key in self.settings)

    @property
    def is_imported(self) -> bool:
        """Whether it was read from published files (`make import`)."""
        return IMPORTED in self.tags

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
    """Trainings of each group, in the order of their seeds."""
    baseline_delays: dict[str, float]
    """Mean delay [s] of each classical controller."""
    replaced: Sequence[str] = ()
    """Imported trainings for which newer ones stand that were not imported: group and seed of each."""

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


def load(network: str, choice: RunFilter = RunFilter()) -> Comparison:
    """Read the finished trainings of a network.

    Trainings of one algorithm with different `algo.*` settings are different groups. Of two trainings with the same settings
    and seed, the newer one counts. A damaged training is left out with a line.

    Args:
        network: name of the network, which is the experiment in the store.
        choice: filter of the trainings.

    Raises:
        UserError: when no training matches, or when two differ in one of `COMPARABLE_SETTINGS`.
    """
    store = StoredRuns(network)
    finished = [run for run in store.finished(choice.where) if is_evaluated(run.data.metrics)]
    runs = [run for run in finished if choice.takes(run.data.tags) and run.info.run_id not in choice.without]
    if len(runs) > SLOW:
        logger.info(f"{network}: reading {len(runs)} trainings")
    trainings = _trainings(store, runs)
    missing = sorted(set(choice.algos) - {training.algorithm for training in trainings})
    for name in missing:
        if name not in config.algorithms():
            raise unknown("algorithm", name, config.algorithms())
    if missing or not trainings:
        of = f" of {', '.join(missing)}" if missing else ""
        chosen = f" that match {choice.where}" if choice.where else ""
        trained = sorted({run.data.tags["algorithm"] for run in finished if "algorithm" in run.data.tags})
        other = f"; there are runs of {', '.join(trained)}" if trained else ""
        damaged = len(runs) - len(trainings)
        other += f"; {damaged} of them {'is' if damaged == 1 else 'are'} damaged, see above" if damaged else ""
        line = make_line("train", NET=typed(network), **({"ALGOS": missing} if missing else {}))
        raise UserError(f"no finished run{of} on {network}{chosen}; train one: {line}{other}")
    _check_comparable(trainings)
    groups: dict[str, dict[int, Training]] = defaultdict(dict)
    replaced: dict[str, None] = {}
    for name, training in zip(group_names(trainings), trainings, strict=True):
        newer = groups[name].setdefault(training.seed, training)  # newest first
        if training.is_imported and not newer.is_imported:
            replaced[f"{name} seed {training.seed}"] = None
    ordered = {name: [group[seed] for seed in sorted(group)] for name, group in groups.items()}
    return Comparison(network, ordered, _baseline_delays(store, trainings), list(replaced))


def _trainings(store: StoredRuns, runs: Sequence[Any]) -> list[Training]:
    """Return the trainings of the runs; a damaged one is named and left out."""
    curves = store.histories({run.info.run_id: stored_names(CURVES) for run in runs})
    trainings = []
    for run in runs:
        try:
            trainings.append(_training(store, run, from_store(curves[run.info.run_id])))
        except (UserError, ValueError) as error:
            logger.warning(left_out(run, error))
    return trainings


def left_out(run: Any, error: Exception) -> str:
    """Return the line about a damaged training: what is wrong with it, and what to do."""
    tags = run.data.tags
    name = f"run {run.info.run_id} ({tags.get('algorithm', 'no algorithm')}, seed {tags.get('seed', 'unknown')})"
    resumed = "folder" in tags and IMPORTED not in tags
    again = f"{make_line('train', RESUME=tags['folder'])} sends what it lacks" if resumed else ""
    delete = "delete it in MLflow (make ui)" + (" and import it again" if IMPORTED in tags else "")
    return " ".join(f"{name} is damaged and left out: {error}; {f'{again}, or {delete}' if again else delete}".split())


def _training(store: StoredRuns, run: Any, curves: Mapping[str, np.ndarray]) -> Training:
    tags, params = run.data.tags, _settings_today(run.data.params)
    content = store.evaluation(run.info.run_id, run.info.artifact_uri)
    points = {name: (steps.astype(int).tolist(), values.tolist()) for name, (steps, values) in _columns(curves)}
    validate(StoredTraining, {"run": {"tags": tags, "params": params, "metrics": points}, "evaluation": content})
    (episodes,) = results_from(content).values()
    files = {key: value for key, value in tags.items() if key.startswith(fingerprint.PREFIX)}
    return Training(
        run.info.run_id, renames.variant(tags["algorithm"]), int(tags["seed"]), params | files | {"SUMO": tags["sumo_version"]},
        np.array([episode["delay"] for episode in episodes]),
        float(np.mean([episode.values.get("gridlock", np.nan) for episode in episodes])),
        {name: values for name, (_, values) in _columns(curves)}, tags,
        {name: value for name, value in run.data.metrics.items() if not name.startswith(SYSTEM)},
    )  # fmt: skip


def _settings_today(params: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a training in the names of today; earlier versions had no other times than today's defaults."""
    settings = renames.settings(params)
    if not any(name.startswith("timing.") for name in settings):
        return settings
    return {f"timing.{name}": str(value) for name, value in asdict(Timing()).items()} | settings


def _columns(curves: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Return steps and values [2, n] of the curves that the store has."""
    return [(name, points.T) for name, points in curves.items() if len(points)]


def _check_comparable(trainings: Sequence[Training]) -> None:
    """Refuse trainings that differ in one of `COMPARABLE_SETTINGS`; those that do not say their files may differ in them."""
    for key in sorted({key for training in trainings for key in training.settings if key.startswith(COMPARABLE_SETTINGS)}):
        is_file = key.startswith(fingerprint.PREFIX)
        first, *others = [training for training in trainings if key in training.settings or not is_file]
        for other in others:
            value, other_value = first.settings.get(key), other.settings.get(key)
            if value != other_value:
                pair = f"runs {first.run_id} ({first.algorithm}) and {other.run_id} ({other.algorithm})"
                field = "tags.sumo_version" if key == "SUMO" else f"{'tags' if is_file else 'params'}.`{key}`"
                advice = f"choose with --where, for example --where \"{field} = '{other_value if value is None else value}'\""
                raise UserError(f"{pair} cannot be compared: {key} is {value} and {other_value}; {advice}")


def group_names(trainings: Sequence[Training]) -> list[str]:
    """Return each training's group: its algorithm, with the settings in which trainings of that algorithm differ."""
    own: dict[str, list[dict[str, str]]] = defaultdict(list)
    for training in trainings:
        own[training.algorithm].append({k: v for k, v in training.settings.items() if k.startswith(("algo.", "start_"))})
    names = []
    for training in trainings:
        keys = sorted({key for settings in own[training.algorithm] for key in settings})
        differ = [key for key in keys if len({settings.get(key) for settings in own[training.algorithm]}) > 1]
        values = ", ".join(f"{key.removeprefix('algo.')} {training.settings[key]}" for key in differ if key in training.settings)
        names.append(f"{training.algorithm} ({values})" if values else training.algorithm)
    return names


def _baseline_delays(store: StoredRuns, trainings: Sequence[Training]) -> dict[str, float]:
    """Return the mean delays of the classical controllers that were measured beside these trainings."""
    parents, families = dict.fromkeys(training.tags.get("mlflow.parentRunId", "") for training in trainings), store.families()
    baseline_delays: dict[str, float] = {}
    for parent in parents:
        if parent not in families:
            continue
        try:
            content = store.evaluation(parent, families[parent].info.artifact_uri)
            validate(EvaluationRows, content)
        except (UserError, ValueError) as error:
            logger.warning(f"controllers beside run {parent} are left out: {error}")
            continue
        for name, episodes in results_from(content).items():
            if name in controllers.available():
                baseline_delays.setdefault(name, statistics.mean(episodes, "delay"))
    return baseline_delays

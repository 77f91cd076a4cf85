"""Comparison of finished trainings, read from MLflow: final delay, speed of learning, and the uncertainty of both."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsc_marl import config, controllers
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.evaluate import results_from
from tsc_marl.sim import fingerprint
from tsc_marl.tracking import renames
from tsc_marl.tracking.stored_runs import StoredRuns

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
    and seed, the newer one counts.

    Args:
        network: name of the network, which is the experiment in the store.
        choice: filter of the trainings.

    Raises:
        UserError: when no training matches, or when two differ in one of `COMPARABLE_SETTINGS`.
    """
    store = StoredRuns(network)
    finished = [run for run in store.finished(choice.where) if "eval/delay" in run.data.metrics]
    runs = [run for run in finished if choice.takes(run.data.tags)]
    if len(runs) > SLOW:
        logger.info(f"{network}: reading {len(runs)} trainings")
    trainings = [_training(store, run) for run in runs]
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
    return Comparison(network, ordered, _baseline_delays(store, runs))


def _training(store: StoredRuns, run: Any) -> Training:
    tags, params = run.data.tags, renames.settings(run.data.params)
    try:
        content = store.evaluation(run.info.run_id)
    except UserError as error:
        advice = f"delete the run in MLflow (make ui), or --where \"attributes.run_id != '{run.info.run_id}'\""
        raise UserError(f"{error}; {advice}") from None
    (episodes,) = results_from(content).values()
    histories = {key: store.history(run.info.run_id, key) for key in ("episode", "steps", "delay", "minutes")}
    played = max(histories["episode"], default=0.0)
    if played != float(params["episodes"]):
        state = f"the store has the curves of {played:.0f} of {params['episodes']} episodes of run {run.info.run_id}"
        raise UserError(
            f"{state}; make train RESUME={tags.get('folder')} sends the others, or delete the run in MLflow (make ui)"
        )
    files = {key: value for key, value in tags.items() if key.startswith(fingerprint.PREFIX)}
    return Training(
        run.info.run_id, renames.variant(tags["algorithm"]), int(tags["seed"]), params | files | {"SUMO": tags["sumo_version"]},
        np.array([episode["delay"] for episode in episodes]),
        float(np.mean([episode.values.get("gridlock", np.nan) for episode in episodes])), histories, tags, run.data.metrics,
    )  # fmt: skip


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
        own[training.algorithm].append({k: v for k, v in training.settings.items() if k.startswith("algo.")})
    names = []
    for training in trainings:
        keys = sorted({key for settings in own[training.algorithm] for key in settings})
        differ = [key for key in keys if len({settings.get(key) for settings in own[training.algorithm]}) > 1]
        values = ", ".join(f"{key.removeprefix('algo.')} {training.settings[key]}" for key in differ if key in training.settings)
        names.append(f"{training.algorithm} ({values})" if values else training.algorithm)
    return names


def _baseline_delays(store: StoredRuns, runs: Sequence[Any]) -> dict[str, float]:
    """Return the mean delays of the classical controllers that were measured beside these trainings."""
    parents = dict.fromkeys(run.data.tags.get("mlflow.parentRunId", "") for run in runs)
    baseline_delays: dict[str, float] = {}
    for parent in filter(None, parents):
        try:
            content = store.evaluation(parent)
        except UserError:
            continue
        for name, episodes in results_from(content).items():
            if name in controllers.available():
                baseline_delays.setdefault(name, statistics.mean(episodes, "delay"))
    return baseline_delays

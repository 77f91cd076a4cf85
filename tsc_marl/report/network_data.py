"""Data of one network for the report: the comparison, and the metrics that were logged of each signal."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tsc_marl.analysis import summaries
from tsc_marl.analysis.compare import Comparison, Training
from tsc_marl.analysis.summaries import Summary
from tsc_marl.errors import UserError
from tsc_marl.sim import road_network, scenario
from tsc_marl.tracking.curves import CHECKSUM, OF_SIGNAL, SIGNALS, Curves
from tsc_marl.tracking.metric_names import metric_names
from tsc_marl.tracking.run_folder import PICTURES
from tsc_marl.tracking.stored_runs import StoredRuns
from tsc_marl.viz.engineering import pictures
from tsc_marl.viz.signal_maps import CREDIT, REWARD

logger = logging.getLogger(__name__)

LAST = 0.1
"""Share of training over which the local rewards are averaged."""


@dataclass(frozen=True)
class SignalSeries:
    """Metrics of each signal over training, averaged over the trainings of one group."""

    episode: np.ndarray
    """[U] training episodes played at each update."""
    metrics: dict[str, dict[str, np.ndarray]]
    """Values by metric and signal, [U] each."""

    def final(self, metric: str) -> dict[str, float]:
        """Return the mean of a metric over the last tenth of training, by signal."""
        means = {}
        for signal, series in self.metrics.get(metric, {}).items():
            updates = max(1, int(LAST * len(series)))
            means[signal] = float(series[-updates:].mean())
        return means


@dataclass(frozen=True)
class NetworkResults:
    """Results of the trainings on one network."""

    comparison: Comparison
    reference: str
    summaries: dict[str, Summary]
    """Summary by group, best delay first."""
    signals: dict[str, SignalSeries]
    """Metrics of the signals by group."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG of each of the engineers' pictures of the newest evaluation that has them, by the name of its file."""
    pictured: str = ""
    """Policies on the pictures."""

    @property
    def network(self) -> str:
        return self.comparison.network

    @property
    def groups(self) -> dict[str, list[Training]]:
        """The trainings by group, best delay first."""
        return {name: self.comparison.groups[name] for name in self.summaries}

    @property
    def trainings(self) -> list[Training]:
        return [training for trainings in self.groups.values() for training in trainings]

    @property
    def first(self) -> Training:
        """One of the trainings, for the settings that all of them share."""
        return self.trainings[0]

    @property
    def reward_unit(self) -> str:
        return "veh·s" if self.first.settings["sim.reward"] == "delay" else f"of {self.first.settings['sim.reward']}"

    @property
    def steps_per_episode(self) -> float:
        """Decisions of each signal in one training episode."""
        return float(self.first.curve["steps"][-1] / self.first.curve["episode"][-1])


def read(comparison: Comparison, reference: str | None) -> NetworkResults:
    """Read the metrics of each signal from MLflow.

    Raises:
        UserError: when the reference was not trained.
    """
    reference = comparison.reference(reference)
    store, names = StoredRuns(comparison.network), _agent_metrics(comparison.network)
    signals = {name: _signals(store, trainings, names) for name, trainings in comparison.groups.items()}
    return NetworkResults(comparison, reference, summaries.summarise(comparison, reference), signals, *_pictures(store))


def _pictures(store: StoredRuns) -> tuple[dict[str, bytes], str]:
    """Return the newest pictures by name, and whose they are."""
    if (run := store.newest_with_pictures()) is None:
        return {}, ""
    try:
        files = {name: store.download(run.info.run_id, f"{name}.png", run.info.artifact_uri) for name in pictures.NAMES}
        return {name: path.read_bytes() for name, path in files.items()}, run.data.tags[PICTURES]
    except UserError as error:
        logger.warning(f"the report goes without engineers' pictures: {error}")
        return {}, ""


def band(trainings: Sequence[Training], axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x (episodes or minutes) and the least, median and largest training delay [s] over the trainings, [U] each."""
    curves = [training.curve for training in trainings]
    x = np.linspace(max(c[axis][0] for c in curves), min(c[axis][-1] for c in curves), len(curves[0][axis]))
    delays = np.array([np.interp(x, c[axis], c["delay"]) for c in curves])
    return x, delays.min(axis=0), np.median(delays, axis=0), delays.max(axis=0)


def _agent_metrics(network: str) -> dict[str, str]:
    """Return the real name of each metric of a signal, by its name in the store; trainings on several networks have none."""
    if not scenario.is_one(network):
        return {}
    signals = road_network.of(scenario.load(network)).signals
    keys = [f"{OF_SIGNAL}{signal.name}/{metric}" for signal in signals for metric in (*CREDIT, REWARD)]
    return {name: key for key, name in metric_names(keys).items()}


def _signals(store: StoredRuns, trainings: Sequence[Training], names: Mapping[str, str]) -> SignalSeries:
    episode = trainings[0].curve["episode"]
    series: dict[str, dict[str, list[np.ndarray]]] = {}
    for training in trainings:
        for key, points in _of_signals(store, training).items():
            drawn = _signal_metric(names.get(key, key))
            if drawn and len(points):
                signal, metric = drawn
                series.setdefault(metric, {}).setdefault(signal, []).append(np.interp(episode, *points.T))
    means = {metric: {name: np.mean(curves, axis=0) for name, curves in names.items()} for metric, names in series.items()}
    return SignalSeries(episode, means)


def _of_signals(store: StoredRuns, training: Training) -> Curves:
    """Return the curves of the signals over episodes, from the table of a training; earlier versions logged them as metrics."""
    if f"{CHECKSUM}{SIGNALS}" in training.tags:
        return store.table(training.run_id, training.tags, SIGNALS)
    logged = sorted(name for name in training.metrics if name.startswith(OF_SIGNAL))
    curves = store.histories({training.run_id: logged})[training.run_id]
    played = training.curve["steps"], training.curve["episode"]
    return {
        name: np.stack([np.interp(points[:, 0], *played), points[:, 1]], 1)[np.isfinite(points[:, 1])]
        for name, points in curves.items()
    }


def _signal_metric(key: str) -> tuple[str, str] | None:
    """Return signal and metric of a key that the report draws."""
    signal, _, metric = key.removeprefix(OF_SIGNAL).rpartition("/")
    return (signal, metric) if key.startswith(OF_SIGNAL) and (metric in CREDIT or metric == REWARD) else None

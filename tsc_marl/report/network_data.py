"""What the page tells of one network: the comparison, and what was logged of each signal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.analysis import compare
from tsc_marl.analysis.compare import Comparison, Summary, Training
from tsc_marl.tracking.store import Tracker

REWARD = "reward"
CREDIT = {
    "effect_on_others": "effect on others",
    "own_effect": "effect on itself",
    "share_on_others": "share that others feel",
    "action_gap": "gap of its best two phases",
    "laziness": "laziness",
    "entropy": "entropy of its policy [nat]",
    "kl": "change of its policy, KL [nat]",
}
"""What an algorithm may log of each signal as `agent/<signal>/<figure>`, in the order of the panels, and their titles."""
LAST = 0.1
"""Share of training over which the local rewards are averaged."""


@dataclass(frozen=True)
class SignalSeries:
    """What the trainings of one group logged of each signal, averaged over them."""

    episode: np.ndarray
    """[U] training episodes played at each update."""
    figures: dict[str, dict[str, np.ndarray]]
    """By figure and signal, [U] each."""

    def last(self, figure: str) -> dict[str, float]:
        """Return the mean of a figure over the last tenth of training, by signal."""
        values = self.figures.get(figure, {})
        return {name: float(series[-max(1, int(LAST * len(series))) :].mean()) for name, series in values.items()}


@dataclass(frozen=True)
class NetworkResults:
    """What the page tells of one network."""

    comparison: Comparison
    reference: str
    summaries: dict[str, Summary]
    """By group, best delay first."""
    agents: dict[str, SignalSeries]
    """By group."""

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
        """Any of them, for what all of them share."""
        return self.trainings[0]

    @property
    def reward_unit(self) -> str:
        return "veh·s" if self.first.settings["sim.reward"] == "delay" else f"of {self.first.settings['sim.reward']}"

    @property
    def steps_per_episode(self) -> float:
        """Decisions of each signal in one training episode."""
        return float(self.first.curve["steps"][-1] / self.first.curve["episode"][-1])


def find(comparison: Comparison, reference: str | None) -> NetworkResults:
    """Read what the trainings of a comparison have left in MLflow.

    Raises:
        UserError: when the reference was not trained.
    """
    reference = comparison.reference(reference)
    tracker = Tracker(comparison.network)
    agents = {name: _agents(tracker, trainings) for name, trainings in comparison.groups.items()}
    return NetworkResults(comparison, reference, compare.summaries(comparison, reference), agents)


def band(trainings: Sequence[Training], axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x (episodes or minutes) and the least, median and largest training delay [s] over the trainings, [U] each."""
    curves = [training.curve for training in trainings]
    x = np.linspace(max(c[axis][0] for c in curves), min(c[axis][-1] for c in curves), len(curves[0][axis]))
    delays = np.array([np.interp(x, c[axis], c["delay"]) for c in curves])
    return x, delays.min(axis=0), np.median(delays, axis=0), delays.max(axis=0)


def _agents(tracker: Tracker, trainings: Sequence[Training]) -> SignalSeries:
    episode = trainings[0].curve["episode"]
    series: dict[str, dict[str, list[np.ndarray]]] = {}
    for training in trainings:
        for metric in sorted(training.metrics):
            name, _, figure = metric.removeprefix("agent/").rpartition("/")
            if metric.startswith("agent/") and (figure in CREDIT or figure == REWARD):
                step, value = tracker.points(training.run_id, metric).T
                played = np.interp(step, training.curve["steps"], training.curve["episode"])
                series.setdefault(figure, {}).setdefault(name, []).append(np.interp(episode, played, value))
    means = {figure: {name: np.mean(found, axis=0) for name, found in names.items()} for figure, names in series.items()}
    return SignalSeries(episode, means)

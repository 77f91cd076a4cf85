"""Values of the phases that a policy chooses: one number and one colour per signal, for `watch` and `video`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tsc_marl.rollout.policies import Policy, TrainedDriver
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Algorithm

NEUTRAL_COLOUR = (190, 190, 190)
"""Colour of a signal without a value."""
COLOUR_QUANTILE = 0.95
"""Quantile of the distances from the middle that gets the strongest colour: rare extremes do not pale all others."""


@dataclass(frozen=True)
class ValueLegend:
    """Meaning of a policy's values."""

    title: str
    low: str
    """Meaning of the colour of small values."""
    high: str
    """Meaning of the colour of large values."""
    around_zero: bool
    """Whether 0 is the middle of the colours, or the median."""
    local: bool = True
    """Whether signals have different values."""


def value_legend(algorithm: Algorithm, estimates: Mapping[str, torch.Tensor], reward: str) -> ValueLegend | None:
    """Return the meaning of an algorithm's values; None without estimates.

    Args:
        algorithm: a trained algorithm.
        estimates: result of its `value_estimates`.
        reward: reward of its training, as in `SimConfig`.
    """
    unit, team = "vehicle-seconds" if reward == "delay" else reward, algorithm.value_scope == "team"
    if "own" in estimates and algorithm.value_scope == "utility":
        title = "utility of the chosen phase over that of the signal's other phases (no unit, it only ranks them)"
        return ValueLegend(title, "others rank higher", "ranks highest", True)
    if "own" in estimates:
        whose, where = ("the team's", "for all together") if team else ("own", "for this signal")
        title = f"{whose} advantage of the chosen phase over the signal's other phases [{unit}]"
        return ValueLegend(title, f"worse {where}", f"better {where}", True)
    if "value" not in estimates:
        return None
    where, whose = ("at all signals together", "the team's") if team else ("at the signal", "its")
    what, less, more = ("minus the delay", "more delay", "less delay") if reward == "delay" else ("the reward", "less", "more")
    title = f"{what} to come {where}, discounted ({whose} value) [{unit}]"
    local = estimates["value"].shape[-1] == algorithm.spec.n_agents
    return ValueLegend(title, f"{less} than usual", f"{more} than usual", False, local)


class PolicyRunner:
    """Starts an episode, chooses the phases greedily, and keeps the values of the chosen phases.

    The advantage of a phase is own^i(a) less the mean of own^i over the signal's other legal phases, with own^i from
    `Algorithm.value_estimates`. The usual advantage, over the mean under the policy, is 0 for a deterministic policy.

    Attributes:
        legend: meaning of the values; None for a policy without values, such as a classical controller.
        values: [N] value of each signal's last chosen phase; nan before the first.
        estimates: arrays by name of `Algorithm.value_estimates`, without their B, at the last decision.
        driver: chooses the phases.

    Args:
        env: an environment without a running episode.
        policy: the policy, with all its weights.
        seed: SUMO seed.
        options: options of `TrafficEnv.reset`.

    Raises:
        UserError: when the weights do not fit the network.
    """

    def __init__(self, env: TrafficEnv, policy: Policy, seed: int, **options: Any) -> None:
        self._env, self.driver = env, policy.start(env, seed, **options)
        self.values, self.legend, self.estimates = np.full(len(env.names), np.nan), None, dict[str, np.ndarray]()
        if isinstance(self.driver, TrainedDriver):
            self.legend = value_legend(self.driver.algorithm, self.driver.value_estimates(), env.config.reward)

    def choose(self) -> np.ndarray:
        """Return the phases [N] for this decision, and set `values` to theirs."""
        if not isinstance(self.driver, TrainedDriver):
            return self.driver.act()
        self.estimates = {name: tensor[0].numpy() for name, tensor in self.driver.value_estimates().items()}
        chosen = self.driver.act()
        if "own" in self.estimates:
            gain = advantage(self.estimates["own"], self._env.avail, chosen)
            self.values = np.where(np.isnan(gain), self.values, gain)
        elif "value" in self.estimates:
            self.values = np.broadcast_to(self.estimates["value"], self.values.shape).copy()
        return chosen

    def states(self, chosen: np.ndarray) -> list[str]:
        """Return the SUMO state that each signal shows, or changes to, once these phases [N] are asked for."""
        env = self._env
        if env.episode.sumo_controlled:
            return env.engine.states(env.names)
        signals = zip(env.net.signals, env.timers, chosen.tolist(), env.avail, strict=True)
        return [signal.phases[action if legal[action] else timer.phase] for signal, timer, action, legal in signals]


def advantage(own: np.ndarray, avail: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return own of the chosen phase less its mean over the other legal phases, [N]; nan where there is no other.

    Args:
        own: [N, A] `own` of `Algorithm.value_estimates`.
        avail: [N, A] bool, the legal phases.
        chosen: [N] int.
    """
    rows = np.arange(len(own))
    others = avail.copy()
    others[rows, chosen] = False
    count = others.sum(axis=1)
    mean = (own * others).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, own[rows, chosen] - mean, np.nan)


def scale(values: np.ndarray, legend: ValueLegend) -> tuple[float, float]:
    """Return the value of the middle colour, and the distance from it of the strongest ones; nan values do not count."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return 0.0, 1.0
    middle = 0.0 if legend.around_zero else float(np.median(defined))
    return middle, max(float(np.quantile(np.abs(defined - middle), COLOUR_QUANTILE)), 1e-6)


def colours(values: np.ndarray, middle: float, reach: float) -> np.ndarray:
    """Return [N, 3] uint8: orange below the middle, white there, purple above; safe for colour-blind readers."""
    from matplotlib import colormaps

    share = np.clip((values - middle) / reach, -1, 1)
    rgb = colormaps["PuOr"](0.5 + 0.42 * np.nan_to_num(share), bytes=True)[..., :3]
    return np.where(np.isnan(share)[..., None], np.array(NEUTRAL_COLOUR, dtype=np.uint8), rgb)

"""What a policy thinks of its choices while it drives: one number and one colour per signal, for `watch` and `video`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tsc_marl.rollout import worker
from tsc_marl.rollout.types import Policy
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Algorithm

NEUTRAL_COLOUR = (190, 190, 190)
"""Colour of a signal about whose choice nothing is known."""
COLOUR_QUANTILE = 0.95
"""Quantile of the distances from the middle that gets the strongest colour: a rare extreme must not pale all others."""


@dataclass(frozen=True)
class ValueLegend:
    """How to read the numbers of a policy."""

    title: str
    low: str
    """What the colour of small numbers says."""
    high: str
    around_zero: bool
    """Whether 0 is the middle of the colours; else the median is."""
    local: bool = True
    """Whether signals differ in it."""


def value_legend(algorithm: Algorithm, known: Mapping[str, torch.Tensor], reward: str) -> ValueLegend | None:
    """Return how to read what an algorithm says of its choices; None where it says nothing.

    Args:
        algorithm: that has learned.
        known: what its `appraise` returned.
        reward: that it learned from, as in `SimConfig`.
    """
    unit, team = "vehicle-seconds" if reward == "delay" else reward, algorithm.value_scope == "team"
    if "own" in known and algorithm.value_scope == "utility":
        title = "utility of the chosen phase over that of the signal's other phases (no unit, it only ranks them)"
        return ValueLegend(title, "others rank higher", "ranks highest", True)
    if "own" in known:
        whose, where = ("the team's", "for all together") if team else ("own", "for this signal")
        title = f"{whose} advantage of the chosen phase over the signal's other phases [{unit}]"
        return ValueLegend(title, f"worse {where}", f"better {where}", True)
    if "value" not in known:
        return None
    where, whose = ("at all signals together", "the team's") if team else ("at the signal", "its")
    what, less, more = ("minus the delay", "more delay", "less delay") if reward == "delay" else ("the reward", "less", "more")
    title = f"{what} to come {where}, discounted ({whose} value) [{unit}]"
    local = known["value"].shape[-1] == algorithm.spec.n_agents
    return ValueLegend(title, f"{less} than usual", f"{more} than usual", False, local)


class PolicyRunner:
    """Starts an episode, chooses the phases, greedily, and keeps what the policy thinks of its choices.

    The advantage of a choice is own^i(a) less the mean of own^i over the signal's other legal phases (`Algorithm.appraise`).
    Compared with what the policy does, as learning sees it, it would fade to 0 for every policy that has made up its mind.

    Attributes:
        meaning: of the numbers; None where there are none, as for a classical controller.
        worth: [N], the number of each signal's last choice; nan before the first.

    Args:
        env: where no simulation runs.
        policy: what chooses, with all its weights.
        seed: SUMO seed.
        options: of `TrafficEnv.reset`.

    Raises:
        UserError: when the weights do not fit the network.
    """

    def __init__(self, env: TrafficEnv, policy: Policy, seed: int, **options: Any) -> None:
        self._env, self._carry, self._algorithm = env, None, None
        self.worth, self.meaning = np.full(len(env.names), np.nan), None
        if policy.config is None:
            self._act = worker.start_policy(env, policy, seed, **options)
            return
        env.reset(seed, **options)
        self._algorithm = worker.load_algorithm(policy, worker.spec_from_env(env))
        with torch.inference_mode():
            known = self._algorithm.value_estimates(*self._seen(), None)
        self.meaning = value_legend(self._algorithm, known, env.config.reward)

    def choose(self) -> np.ndarray:
        """Return the phases [N] for this decision; `worth` is of them from now on."""
        if self._algorithm is None:
            return self._act()
        obs, avail, state = self._seen()
        with torch.inference_mode():
            known = self._algorithm.value_estimates(obs, avail, state, self._carry)
            action, _, self._carry = self._algorithm.act(obs, avail, self._carry, None)
        chosen = action[0].numpy()
        if "own" in known:
            gain = advantage(known["own"][0].numpy(), self._env.avail, chosen)
            self.worth = np.where(np.isnan(gain), self.worth, gain)
        elif "value" in known:
            self.worth = np.broadcast_to(known["value"][0].numpy(), self.worth.shape).copy()
        return chosen

    def states(self, chosen: np.ndarray) -> list[str]:
        """Return the SUMO state that each signal shows, or changes to, once these phases [N] are asked for."""
        env = self._env
        if env.episode.sumo_controlled:
            return env.engine.states(env.names)
        signals = zip(env.net.signals, env.timers, chosen.tolist(), env.avail, strict=True)
        return [signal.phases[action if legal[action] else timer.phase] for signal, timer, action, legal in signals]

    def _seen(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        obs, avail, state = (torch.from_numpy(array)[None] for array in (self._env.obs, self._env.avail, self._env.state))
        return obs, avail, state


def advantage(own: np.ndarray, avail: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return own of the chosen phase less its mean over the other legal phases, [N]; nan where there is no other.

    Args:
        own: [N, A] as `Algorithm.appraise` has it.
        avail: [N, A] bool, the legal phases.
        chosen: [N] int.
    """
    rows = np.arange(len(own))
    others = avail.copy()
    others[rows, chosen] = False
    count = others.sum(axis=1)
    mean = (own * others).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, own[rows, chosen] - mean, np.nan)


def scale(numbers: np.ndarray, meaning: ValueLegend) -> tuple[float, float]:
    """Return the number in the middle of the colours, and the distance from it of the strongest ones; nan are left out."""
    known = numbers[~np.isnan(numbers)]
    if not len(known):
        return 0.0, 1.0
    middle = 0.0 if meaning.around_zero else float(np.median(known))
    return middle, max(float(np.quantile(np.abs(known - middle), COLOUR_QUANTILE)), 1e-6)


def colours(numbers: np.ndarray, middle: float, reach: float) -> np.ndarray:
    """Return [N, 3] uint8: orange below the middle, white there, purple above, which the colour-blind can tell apart."""
    from matplotlib import colormaps

    share = np.clip((numbers - middle) / reach, -1, 1)
    rgb = colormaps["PuOr"](0.5 + 0.42 * np.nan_to_num(share), bytes=True)[..., :3]
    return np.where(np.isnan(share)[..., None], np.array(NEUTRAL_COLOUR, dtype=np.uint8), rgb)

"""Recording of decisions and rewards while an algorithm plays, as batches for learning."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsc_marl.rollout.policies import Driver
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Batch


@dataclass(frozen=True)
class Rollout:
    """Consecutive decisions of one episode."""

    reward: np.ndarray
    """[N] sum of the rewards of each agent."""
    acting_s: float
    """Wall time of acting [s]."""
    finished: bool
    """Whether the episode ended with the last of them."""
    batch: Batch | None
    """Batch [T, 1, ...]; None where the driver acted greedily."""


def collect_rollout(env: TrafficEnv, driver: Driver, decisions: int, *after_each: Callable[[], None]) -> Rollout:
    """Play a number of decisions of the running episode and return them; call some functions after each."""
    buffer = TransitionBuffer() if driver.explores else None
    total, finished, acting_s = np.zeros(len(env.names)), False, 0.0
    for _ in range(decisions):
        before = time.perf_counter()
        action, extras = driver.decide()
        acting_s += time.perf_counter() - before
        observed = (env.obs, env.avail, env.state)
        reward, finished = env.step(action)
        total += reward
        for look in after_each:
            look()
        if buffer is not None:
            buffer.add(observed, action, reward, extras)
    batch = buffer.batch((env.obs, env.avail, env.state)) if buffer is not None else None
    return Rollout(total, acting_s, finished, batch)


class TransitionBuffer:
    """Collects the arrays of consecutive decisions."""

    def __init__(self) -> None:
        self.observed: list[tuple[np.ndarray, ...]] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []
        self.extras: list[dict[str, Tensor]] = []

    def add(self, observed: tuple[np.ndarray, ...], action: np.ndarray, reward: np.ndarray, extras: dict[str, Tensor]) -> None:
        """Add a decision: (obs, avail, state) before it, actions [N], rewards [N], and the extras of `act`."""
        self.observed.append(observed)
        self.actions.append(action)
        self.rewards.append(reward)
        self.extras.append(extras)

    def batch(self, last: tuple[np.ndarray, ...]) -> Batch:
        """Return [T, 1, ...]; the last row is a truncation: the recording ends there, the traffic goes on."""
        obs, avail, state = (_stack(column) for column in zip(*self.observed, last, strict=True))
        cut = torch.zeros(len(self.actions), 1, dtype=torch.bool)
        cut[-1] = True
        extras = {name: torch.stack([step[name] for step in self.extras]).clone() for name in self.extras[0]}
        reward = _stack(self.rewards).float()
        return Batch(obs, avail, state, _stack(self.actions), reward, torch.zeros_like(cut), cut, extras)


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).unsqueeze(1)

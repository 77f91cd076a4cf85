"""Decisions as they are played by an algorithm, kept for learning."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Algorithm, Batch


@dataclass(frozen=True)
class Rollout:
    """Decisions in a row of one episode."""

    reward: np.ndarray
    """[N] sum over them."""
    carry: Any
    """As the algorithm's `act` gave it back."""
    acting_s: float
    """Wall time of acting in s."""
    finished: bool
    """Whether the episode has ended with them."""
    batch: Batch | None
    """[T, 1, ...] where the algorithm explored."""


def collect_rollout(
    env: TrafficEnv, algorithm: Algorithm, carry: Any, generator: torch.Generator | None, decisions: int
) -> Rollout:
    """Play so many decisions of the episode that runs; greedily without a generator."""
    record = TransitionBuffer() if generator is not None else None
    total, over, acting = np.zeros(len(env.names)), False, 0.0
    for _ in range(decisions):
        before = time.perf_counter()
        obs, avail = torch.from_numpy(env.obs), torch.from_numpy(env.avail)
        with torch.inference_mode():
            action, extras, carry = algorithm.act(obs[None], avail[None], carry, generator)
        chosen = action[0].numpy()
        acting += time.perf_counter() - before
        seen = (env.obs, env.avail, env.state)
        reward, over = env.step(chosen)
        total += reward
        if record is not None:
            record.add(seen, chosen, reward, extras)
    batch = record.batch((env.obs, env.avail, env.state)) if record is not None else None
    return Rollout(total, carry, acting, over, batch)


class TransitionBuffer:
    """Collects the arrays of decisions in a row."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, ...]] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []
        self.extras: list[dict[str, Tensor]] = []

    def add(self, seen: tuple[np.ndarray, ...], action: np.ndarray, reward: np.ndarray, extras: dict[str, Tensor]) -> None:
        """Add a decision: (obs, avail, state) before it, actions [N], rewards [N], and what `act` gave back beside."""
        self.seen.append(seen)
        self.actions.append(action)
        self.rewards.append(reward)
        self.extras.append(extras)

    def batch(self, last: tuple[np.ndarray, ...]) -> Batch:
        """Return [T, 1, ...]; the last row is a truncation, since not the task ended there but our watching it."""
        obs, avail, state = (_stack(column) for column in zip(*self.seen, last, strict=True))
        cut = torch.zeros(len(self.actions), 1, dtype=torch.bool)
        cut[-1] = True
        extras = {name: torch.stack([step[name] for step in self.extras]).clone() for name in self.extras[0]}
        reward = _stack(self.rewards).float()
        return Batch(obs, avail, state, _stack(self.actions), reward, torch.zeros_like(cut), cut, extras)


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).unsqueeze(1)

"""One episode as it is played, for learning."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsc_marl.types import Batch


class Record:
    """Collects one episode's arrays."""

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
        """Return [T, 1, ...]; the last row is a truncation, since the clock ended the episode."""
        obs, avail, state = (_stack(column) for column in zip(*self.seen, last, strict=True))
        cut = torch.zeros(len(self.actions), 1, dtype=torch.bool)
        cut[-1] = True
        extras = {name: torch.stack([step[name] for step in self.extras]).clone() for name in self.extras[0]}
        reward = _stack(self.rewards).float()
        return Batch(obs, avail, state, _stack(self.actions), reward, torch.zeros_like(cut), cut, extras)


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).unsqueeze(1)

"""Replay buffer: the last episodes, and samples of them."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.errors import UserError
from tsc_marl.types import Batch, Spec

COPIES = 2
"""New episodes are put beside the others in a copy."""
GB = 1e9


def check_memory(name: str, config: OffPolicyConfig, specs: Sequence[Spec], decisions: Sequence[int]) -> None:
    """Refuse a replay that is larger than the memory of this machine: the system would end the training after hours.

    Args:
        name: of the algorithm.
        config: its settings.
        specs: of the networks, each of which has a replay.
        decisions: of an episode on each.

    Raises:
        UserError: with the number of episodes that fit.
    """
    rows = [spec.n_agents * (4 * spec.obs_dim + spec.n_actions + 12) + 4 * spec.state_dim for spec in specs]
    episode_gb = COPIES * sum(row * count for row, count in zip(rows, decisions, strict=True)) / GB
    here_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    needed_gb = config.replay_episodes * episode_gb
    if needed_gb > here_gb:
        fit = int(here_gb / episode_gb)
        advice = f"set algo.replay_episodes to at most {fit}" if fit else "use an on-policy algorithm, such as ippo"
        raise UserError(
            f"{name}: a replay of {config.replay_episodes} episodes needs {needed_gb:.0f} GB of memory, this machine has "
            f"{here_gb:.0f}; {advice}"
        )


class Replay:
    """The last episodes, side by side along B; new episodes replace the oldest."""

    def __init__(self, config: OffPolicyConfig) -> None:
        self._config = config
        self._data: Batch | None = None

    def add(self, batch: Batch) -> None:
        """Add whole episodes, all of the same length."""
        joined = batch if self._data is None else Batch.join([self._data, batch])
        kept = self._config.replay_episodes
        self._data = joined.map(lambda x: x[:, -kept:])

    def sample(self) -> Batch:
        """Return `batch_size` cuts of `sequence_length` steps as a Batch, drawn uniformly with torch's global generator.

        The last row of obs, avail and state is the true next one, so every step may be bootstrapped. The extras of a
        cut's first step hold the hidden state that it started with.

        Raises:
            RuntimeError: before any episode was added.
        """
        if self._data is None:
            raise RuntimeError("the replay is empty; add episodes first")
        steps, episodes = self._data.terminated.shape
        length = min(self._config.sequence_length, steps)
        episode = torch.randint(episodes, (self._config.batch_size,))
        time = torch.randint(steps - length + 1, (self._config.batch_size,)) + torch.arange(length + 1).unsqueeze(1)

        def cut(x: Tensor) -> Tensor:
            return x[time if len(x) > steps else time[:-1], episode]

        return self._data.map(cut)

    def state(self) -> dict[str, Any] | None:
        """Return the episodes, for the checkpoint of a resumed training; later calls do not change these tensors."""
        return None if self._data is None else vars(self._data)

    def load(self, state: dict[str, Any] | None) -> None:
        """Load the result of `state`."""
        self._data = None if state is None else Batch(**state)

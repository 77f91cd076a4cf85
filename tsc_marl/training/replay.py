"""Which data an algorithm learns from: the batch just collected, or samples of a ring of past episodes."""

from typing import Any

import torch
from torch import Tensor

from tsc_marl.algos.base import OffPolicyConfig, PpoConfig
from tsc_marl.nn import seps, sharing
from tsc_marl.types import Algorithm, Batch, mean_metrics


class Replay:
    """The last episodes, side by side along B; the oldest make way for new ones."""

    def __init__(self, config: OffPolicyConfig) -> None:
        self._config = config
        self._data: Batch | None = None

    def add(self, batch: Batch) -> None:
        """Take in whole episodes, all of the same length."""
        joined = batch if self._data is None else Batch.join([self._data, batch])
        kept = self._config.replay_episodes
        self._data = joined.map(lambda x: x[:, -kept:])

    def sample(self) -> Batch:
        """Return `windows` cuts of `window` steps as a Batch, drawn uniformly with torch's global generator.

        Row `window` of obs, avail and state is the true next one, so every step may be bootstrapped; the extras of a
        cut's first step hold the carry that it started with.

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
        """Return what a resumed training needs; the tensors in it are never changed."""
        return None if self._data is None else vars(self._data)

    def load(self, state: dict[str, Any] | None) -> None:
        """Undo `state`."""
        self._data = None if state is None else Batch(**state)


def replay_of(algorithm: Algorithm) -> Replay | None:
    """Return an empty replay for an off-policy algorithm, None for an on-policy one."""
    return Replay(algorithm.config) if isinstance(algorithm.config, OffPolicyConfig) else None


def rollout_length(algorithm: Algorithm, progress: float) -> int:
    """Return after how many decisions of an episode to learn, 0 for the whole: past episodes and clusters need whole ones."""
    if not isinstance(algorithm.config, PpoConfig) or (progress == 0.0 and _shares_by_likeness(algorithm)):
        return 0
    return algorithm.config.rollout_length


def learn(algorithm: Algorithm, replay: Replay | None, batch: Batch, progress: float) -> dict[str, float]:
    """Let an algorithm learn after new episodes: once from them, or `updates` times from the replay. Returns mean metrics."""
    first = _share(algorithm, batch) if progress == 0.0 and _shares_by_likeness(algorithm) else {}
    if replay is None:
        return first | algorithm.update(batch, progress)
    replay.add(batch)
    metrics = [algorithm.on_new_episodes(batch, progress)]
    metrics += [algorithm.update(replay.sample(), progress) for _ in range(algorithm.config.gradient_steps)]
    return first | mean_metrics(metrics)


def _shares_by_likeness(algorithm: Algorithm) -> bool:
    return getattr(algorithm.config, "sharing", "") == "seps"


def _share(algorithm: Algorithm, batch: Batch) -> dict[str, float]:
    """Let agents that the first episodes show to be alike share parameters from now on, unless clusters are set already."""
    if sharing.is_grouped(algorithm):
        return {}
    group = seps.cluster(batch)
    sharing.regroup(algorithm, group)
    return {"seps/clusters": float(len(set(group)))}

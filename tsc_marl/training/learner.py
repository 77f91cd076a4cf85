"""Learner: gives an algorithm its data, new episodes or samples from the replay."""

from tsc_marl.algos.base import OffPolicyConfig, PpoConfig
from tsc_marl.nn import seps, sharing
from tsc_marl.training.replay import Replay
from tsc_marl.types import Algorithm, Batch, mean_metrics


class Learner:
    """An algorithm with its replay buffer.

    Attributes:
        algorithm: the algorithm that learns.
        replay: past episodes; None for an on-policy algorithm.
        first: whether no batch has been learned from yet.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm, self.first = algorithm, True
        self.replay = Replay(algorithm.config) if isinstance(algorithm.config, OffPolicyConfig) else None

    @property
    def rollout_length(self) -> int:
        """Decisions of an episode before the next update; 0 for all.

        Off-policy algorithms need whole episodes, and so do the clusters of agents that share parameters.
        """
        config = self.algorithm.config
        if not isinstance(config, PpoConfig) or (self.first and self._clusters_agents):
            return 0
        return config.rollout_length

    def learn(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from new episodes: once from them, or `gradient_steps` times from the replay.

        Args:
            batch: whole episodes, or parts of them on-policy.
            progress: share of training that is done, in [0, 1].

        Returns the metrics, means over the updates.
        """
        clusters = self._cluster(batch) if self.first and self._clusters_agents else {}
        self.first = False
        if self.replay is None:
            return clusters | self.algorithm.update(batch, progress)
        self.replay.add(batch)
        metrics = [self.algorithm.on_new_episodes(batch, progress)]
        metrics += [self.algorithm.update(self.replay.sample(), progress) for _ in range(self.algorithm.config.gradient_steps)]
        return clusters | mean_metrics(metrics)

    @property
    def _clusters_agents(self) -> bool:
        return getattr(self.algorithm.config, "sharing", "") == "seps"

    def _cluster(self, batch: Batch) -> dict[str, float]:
        """Let agents of like behaviour share parameters from now on, unless clusters are set already (SePS)."""
        if sharing.is_grouped(self.algorithm):
            return {}
        group = seps.cluster(batch)
        sharing.regroup(self.algorithm, group)
        return {"seps/clusters": float(len(set(group)))}

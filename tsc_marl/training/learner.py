"""Learner: gives an algorithm its data, new episodes or samples from the replay."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch.optim import Optimizer

from tsc_marl import algos
from tsc_marl.algos.base import OffPolicyConfig, PpoConfig
from tsc_marl.algos.ippo import Ippo
from tsc_marl.errors import UserError
from tsc_marl.nn import seps, sharing
from tsc_marl.nn.reservoir import Reservoir
from tsc_marl.training.replay import Replay
from tsc_marl.types import Algorithm, Batch, Spec, mean_metrics


def learners(name: str, config: Any, specs: Sequence[Spec]) -> list["Learner"]:
    """Return a learner of an algorithm for each network; all have the same weights.

    Raises:
        UserError: when weights depend on the network.
    """
    made = [Learner(algos.find(name)(spec, config)) for spec in specs]
    if len(made) > 1:
        part = max(specs, key=lambda spec: spec.n_agents).of_agent(0)  # networks may be of one size by chance
        for other in (*made[1:], Learner(algos.find(name)(part, config))):
            try:
                other.share(made[0])
            except ValueError as error:
                reason = f"its weights {error} have the size of one; train it on each alone"
                raise UserError(f"{name} cannot learn on several networks together: {reason}") from None
    return made


def learn(learners_of: Mapping[str, "Learner"], batches: Mapping[str, Batch], progress: float) -> list[dict[str, float]]:
    """Learn from the batches of networks: in the same gradient steps where the algorithm can, else in turn.

    Args:
        learners_of: of each network.
        batches: of the networks that have new ones.
        progress: share of training that is done, in [0, 1].

    Returns metrics.
    """
    chosen = [(learners_of[network], batch) for network, batch in batches.items()]
    if len(chosen) == 1 or not getattr(chosen[0][0].algorithm, "learns_together", False):
        return [learner.learn(batch, progress, i, len(chosen)) for i, (learner, batch) in enumerate(chosen)]
    for learner, _ in chosen:
        learner.first = False
    return [Ippo.update_together([(cast(Ippo[Any], learner.algorithm), batch) for learner, batch in chosen], progress)]


class Learner:
    """An algorithm with its replay buffer.

    Attributes:
        algorithm: the algorithm that learns.
        replay: past episodes of an off-policy algorithm, or the rows of earlier batches that another keeps, if any.
        first: whether no batch has been learned from yet.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm, self.first = algorithm, True
        self.replay: Replay | Reservoir | None = getattr(algorithm, "reservoir", None)
        if isinstance(algorithm.config, OffPolicyConfig):
            self.replay = Replay(algorithm.config)

    @property
    def rollout_length(self) -> int:
        """Decisions of an episode before the next update; 0 for all.

        Off-policy algorithms need whole episodes, and so do the clusters of agents that share parameters.
        """
        config = self.algorithm.config
        if not isinstance(config, PpoConfig) or (self.first and self._clusters_agents):
            return 0
        return config.rollout_length

    def share(self, other: "Learner") -> None:
        """Learn the weights of another learner from now on, with its optimisers and all else that acting needs.

        What else the algorithm knows stays its own: normalisers of values, and the replay.

        Raises:
            ValueError: with the name of weights that depend on the network.
        """
        algorithm, source = self.algorithm, other.algorithm
        sharing.tie(algorithm, source, source.policy_state().keys())
        for name, value in vars(source).items():
            if isinstance(value, Optimizer):
                setattr(algorithm, name, value)

    def state(self) -> dict[str, Any]:
        """Return what this learner has for itself beside the weights that it may share: buffers and replay."""
        algorithm = self.algorithm
        shared = {name for name, _ in algorithm.named_parameters(remove_duplicate=False)} | algorithm.policy_state().keys()
        buffers = {name: value.clone() for name, value in algorithm.state_dict().items() if name not in shared}
        return {"buffers": buffers, "replay": None if self.replay is None else self.replay.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load the result of `state`."""
        self.algorithm.load_state_dict(state["buffers"], strict=False)
        if self.replay is not None:
            self.replay.load(state["replay"])

    def learn(self, batch: Batch, progress: float, part: int = 0, parts: int = 1) -> dict[str, float]:
        """Learn from new episodes: once from them, or `gradient_steps` times from the replay.

        Args:
            batch: whole episodes, or parts of them on-policy.
            progress: share of training that is done, in [0, 1].
            part: number of this batch among those of other networks, which divide the gradient steps.
            parts: how many these are.

        Returns the metrics, means over the updates.
        """
        clusters = self._cluster(batch) if self.first and self._clusters_agents else {}
        self.first = False
        if not isinstance(self.replay, Replay):
            return clusters | self.algorithm.update(batch, progress)
        self.replay.add(batch)
        metrics = [self.algorithm.on_new_episodes(batch, progress)]
        steps = self.algorithm.config.gradient_steps
        times = steps * (part + 1) // parts - steps * part // parts
        metrics += [self.algorithm.update(self.replay.sample(), progress) for _ in range(times)]
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
